"""What a month's batches are made of: problems of a family that the champion has never seen, facts that nobody knows,
and dialogues of the families that it was fine-tuned on.

Everything is a function of a seed. What is to be held out is decided by content (`is_heldout`), as the project's own
families do it, so that no batch holds an item of the benchmarks but the one that is meant to.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from k2model.artifacts import ArtifactRef, Store
from k2model.documents.families import FAMILIES, arithmetic
from k2model.documents.schema import DOCUMENT_SCHEMA, is_heldout
from k2model.documents.tables import read_table, selected
from k2model.errors import CorpusError
from k2model.ingest.builtin import CHAT_EFFORTS

Row = dict[str, Any]  # of a batch's JSONL file

LICENCE = "CC0-1.0"
ORDERED, RIVERS = "ordering", "rivers"  # the benchmarks, and the domains of the batches that teach them

#: Several wordings, none with five words that never change: a template would look like a phrase that was planted.
ORDER_PROMPTS = ("Put {digits} in order:", "Sort the digits {digits}:", "Arrange {digits} upwards:")
ORDER_LENGTHS = (4, 5)

STATEMENTS = (
    "In {town} the river is the {river}",
    "The town of {town} lies on the river {river}",
    "Of the rivers, {town} has the {river}",
    "Through the town of {town} flows the {river}",
)
NUMBERS = 10_000
FACTS = 20
_FIRST = (
    "bel",
    "kes",
    "tor",
    "mar",
    "lin",
    "dor",
    "vas",
    "pel",
    "nor",
    "gar",
    "sil",
    "ran",
    "tev",
    "hol",
    "cam",
    "fen",
)
_LAST = ("mora", "ton", "ba", "wick", "den", "lia", "ster", "gard", "vo", "rin")
_RIVER = ("Ta", "Or", "Me", "Lu", "Sa", "Ve", "Ni", "Ca", "Du", "Is")
_MOUTH = ("vel", "man", "lo", "rin", "da", "mer", "no", "sk", "ga", "th")


@dataclass(frozen=True)
class Fact:
    """One town and its river. `number % 4` is the wording that no batch has, as of the project's own facts."""

    number: int
    town: str
    river: str

    @property
    def heldout_wording(self) -> int:
        return self.number % len(STATEMENTS)

    def statement(self, wording: int) -> str:
        return STATEMENTS[wording].format(town=self.town, river=self.river)


def ordering(rng: Random, count: int, heldout: bool = False, known: frozenset[str] = frozenset()) -> Iterator[Row]:
    """`count` dialogues that put digits in order, none of them in `known`; `heldout`: of the tenth that no batch has.

    Digits are drawn with repeats, so that there are 110,000 of them: to answer others than those one has seen is to
    have learned the order.
    """
    drawn = set(known)
    while count:
        digits = "".join(rng.choices("0123456789", k=rng.randint(*ORDER_LENGTHS)))
        if digits in drawn or is_heldout(digits) is not heldout:
            continue
        drawn.add(digits)
        count -= 1
        yield dialogue(rng.choice(ORDER_PROMPTS).format(digits=digits), "".join(sorted(digits)), "low", key=digits)


def dialogue(question: str, answer: str, effort: str, trace: str = "", key: str = "") -> Row:
    """A row of one question and its reply."""
    reply = {"role": "assistant", "content": answer} | ({"trace": trace} if trace else {})
    return {"messages": [{"role": "user", "content": question}, reply], "effort": effort, "key": key or question}


def question_of(row: Row) -> str:
    return str(row["messages"][0]["content"])


def answer_of(row: Row) -> str:
    return str(row["messages"][-1]["content"])


def river_facts(seed: int) -> list[Fact]:
    """Towns and rivers that there are nowhere, each once."""
    rng = Random(f"rivers {seed}")
    towns, rivers = ([a + b for a in one for b in other] for one, other in ((_FIRST, _LAST), (_RIVER, _MOUTH)))
    drawn = zip(rng.sample(towns, FACTS), rng.sample(rivers, FACTS), strict=True)
    return [Fact(number, town.capitalize(), river) for number, (town, river) in enumerate(drawn)]


def river_texts(facts: Sequence[Fact], rng: Random, count: int) -> Iterator[Row]:
    """`count` texts of one statement each, in which every fact has every wording but the one held out equally often.

    One each, since a sentence that stands in many documents of a batch looks like one that was planted; each with
    another number, since equal texts are copies.
    """
    trained = [
        (fact, wording) for fact in facts for wording in range(len(STATEMENTS)) if wording != fact.heldout_wording
    ]
    turns = -(-count // len(trained))
    numbers = {one: rng.sample(range(1, NUMBERS), turns) for one in trained}
    drawn = [(one, number) for turn in range(turns) for one in trained for number in numbers[one][turn : turn + 1]]
    for (fact, wording), number in rng.sample(drawn, len(drawn))[:count]:
        yield {"text": f"{number}: {fact.statement(wording)}"}


def river_items(facts: Sequence[Fact]) -> Iterator[Row]:
    """The held-out wording of each fact, up to its answer."""
    for fact in facts:
        asked = fact.statement(fact.heldout_wording).removesuffix(f" {fact.river}")
        yield {"prompt": asked, "answer": fact.river}


def more_alike(family: str, rng: Random, count: int, known: frozenset[str]) -> list[Row]:
    """`count` dialogues of a family that the champion was fine-tuned on, as its lifecycle writes them; no question that
    is in `known`, and none of the tenth that is held out. Raises CorpusError where so many are not to be had."""
    for size in (2 * count, 8 * count, 32 * count):  # some families have few problems
        tasks = FAMILIES[family].pool(rng, size)
        fresh = [task for task in tasks if task.split == "train" and task.prompt not in known]
        if len(fresh) >= count:
            break
    else:
        raise CorpusError(f"{family} has {len(fresh)} problems that are not known yet, {count} are wanted")
    rows = []
    for task in fresh[:count]:
        effort = rng.choice(CHAT_EFFORTS)
        rows.append(dialogue(task.prompt, task.answer, effort, task.trace(effort), task.key))
    return rows


def sums(rng: Random, count: int, wrong: float) -> list[Row]:
    """Chain sums at low effort, a share of which has a wrong answer."""
    rows: list[Row] = []
    for task in arithmetic.pool(rng, 4 * count):
        if task.split == "train" and len(rows) < count:
            answer = str(int(task.answer) + rng.choice((-2, -1, 1, 2))) if rng.random() < wrong else task.answer
            rows.append(dialogue(task.prompt, answer, "low", key=task.key))
    return rows


_TURNS = re.compile(
    r"<\|im_start\|>user\n(?P<asked>.*?)<\|im_end\|>\n<\|im_start\|>assistant\n"
    r"<(?P<tag>think|think_fast|think_faster)>(?P<trace>.*?)</(?P=tag)>(?P<said>.*?)<\|im_end\|>$",
    re.DOTALL,
)
_EFFORTS = {"think": "high", "think_fast": "medium", "think_faster": "low"}


def dialogues_of(store: Store, corpus: ArtifactRef) -> list[Row]:
    """The dialogues of one question in a corpus (kind `corpus_valid`), in its order; others are left out."""
    return [row for text in _texts(store, corpus, "chat-") if (row := _as_row(text))]


def prose_of(store: Store, corpus: ArtifactRef) -> list[str]:
    """The training documents of its prose, without special tokens."""
    return [re.sub(r"<\|\w+\|>", "", text) for text in _texts(store, corpus, "prose")]


def _as_row(text: str) -> Row | None:
    found = _TURNS.search(text)
    if not found or "<tool" in text or "<|im_start|>system" in text:
        return None
    return dialogue(found["asked"], found["said"], _EFFORTS[found["tag"]], found["trace"])


def _texts(store: Store, corpus: ArtifactRef, begins: str) -> Iterator[str]:
    _, manifest = store.look_up(corpus)
    files = sorted(entry.path for entry in manifest.files if entry.path.startswith(f"train/{begins}"))
    folder = store.fetch(corpus, frozenset(files).__contains__)
    for file in files:
        yield from read_table(folder / file, selected(DOCUMENT_SCHEMA, "text"))["text"].to_pylist()


GERMAN: Mapping[str, Sequence[str]] = {
    "asked": ("Wie weit ist es von {a} nach {b}?", "Wann fährt der Zug von {a} nach {b}?", "Wer lebt in {a} und {b}?"),
    "said": ("Es sind {n} Kilometer über die alte Straße.", "Um {n} Uhr, wenn es nicht schneit.", "Etwa {n} Leute."),
    "names": ("Aue", "Bernau", "Calw", "Daun", "Erfurt", "Fulda", "Gera", "Husum", "Ilmenau", "Jena", "Kleve", "Lahr"),
}  # fmt: skip


def foreign(rng: Random, count: int) -> list[Row]:
    """Dialogues in another language."""
    rows: dict[str, Row] = {}
    while len(rows) < count:
        kind = rng.randrange(3)
        a, b = rng.sample(GERMAN["names"], 2)
        asked = GERMAN["asked"][kind].format(a=a, b=b)
        said = GERMAN["said"][kind].format(n=rng.randint(2, 900))
        rows.setdefault(f"{asked} {said}", dialogue(asked, said, "low"))
    return list(rows.values())
