"""The sources that the project builds itself, by their names in a recipe: nothing of them is downloaded or shipped.

A builder takes the source's row and the material shared by all sources, and returns the documents to train on and
those held out. Each draws from its own random stream, so that adding a source or changing its cap leaves the others as
they were.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import cached_property
from random import Random
from types import ModuleType
from typing import NamedTuple

from k2model.documents.families import FAMILIES, facts, retrieval, tools
from k2model.documents.families.task import Task, split
from k2model.documents.markup import EFFORTS, chat, plain, reasoning
from k2model.documents.schema import Document, is_heldout, make_document
from k2model.documents.spans import segments_of
from k2model.documents.standard_library import code_documents, prose_documents
from k2model.errors import CorpusError, nearest
from k2model.recipe.schema import CorpusConfig, SourceConfig
from k2model.recipe.tasks import DEFAULT_CONTEXT, REASONING

HELDOUT_DOCUMENTS = 300  # of a generated source
CHAT_EFFORTS = ("low", "medium", "high", "high")  # drawn at random: half of the reasoning dialogues think fully
FACT_SHEETS = 1_000  # fact documents of several statements
SHEET_SIZES = (2, 5)
DEFAULT_DOCUMENTS = 2_000  # of a source that could be made without end, when the recipe gives no cap
IDENTITY_ORIGIN, IDENTITY_LICENCE = "k2model identity", "Apache-2.0"

IDENTITY_OPENINGS = ("", "Hello! ", "Hi, ", "Excuse me, ", "Please tell me: ")
IDENTITY_QUESTIONS = {
    "I am K2, a small language model trained on a laptop.": (
        "who are you?", "what are you?", "what is your name?", "are you K2?", "which model are you?",
    ),
    "The K2 lifecycle pipeline trained me, after the recipe of LLM360's K2-V2.": (
        "who made you?", "who trained you?", "where do you come from?", "how were you made?",
    ),
    "I can add, reverse words, solve small puzzles, name capitals and call tools.": (
        "what can you do?", "how can you help me?", "what do you know?", "what are you good at?",
    ),
    "I have about two million parameters.": ("how big are you?", "how many parameters do you have?"),
    "I think in three efforts: low, medium and high.": ("how do you think?", "which efforts do you have?"),
}  # fmt: skip
SMALL_TALK = {
    "Hello! How can I help you?": ("Hello", "Hello!", "Hi", "Hi there", "Good morning", "Good evening", "Hey K2"),
    "You are welcome.": ("Thanks", "Thank you", "Thank you!", "Thanks a lot", "That helps, thank you", "Great, thanks"),
    "Goodbye!": ("Bye", "Goodbye", "See you", "See you later", "Good night"),
}


class Split(NamedTuple):
    trained: list[Document]
    heldout: list[Document]


class Material:
    """What several sources share, made once: natural prose, pools of reasoning tasks, facts."""

    def __init__(self, config: CorpusConfig):
        self.config = config
        self._tasks: dict[str, tuple[list[Task], list[Task]]] = {}

    def rng(self, purpose: str) -> Random:
        return Random(f"{self.config.seed}:{purpose}")

    def tasks(self, family: str) -> tuple[list[Task], list[Task]]:
        """(trained, held-out) tasks of a reasoning family, enough for its largest source and the items."""
        if family not in self._tasks:
            wanted = max(
                (s.documents or DEFAULT_DOCUMENTS for s in self.config.sources if family in s.name.split("/")),
                default=0,
            )
            size = max(wanted * 10 // 9, 16 * self.config.heldout_items) + 100
            self._tasks[family] = split(FAMILIES[family].pool(self.rng(f"pool {family}"), size))
        return self._tasks[family]

    @cached_property
    def prose(self) -> Split:
        return Split(*prose_documents())

    @cached_property
    def words(self) -> list[str]:
        return retrieval.vocabulary(document["text"] for document in self.prose.trained)

    @cached_property
    def filler(self) -> tuple[list[str], list[str]]:
        """Running words of prose for retrieval documents: (trained, held out)."""
        trained, heldout = ([segments_of(d)[1]["text"] for d in split] for split in self.prose)
        return retrieval.filler(trained), retrieval.filler(heldout)

    @cached_property
    def facts(self) -> list[facts.Fact]:
        return facts.all_facts()


Builder = Callable[[SourceConfig, Material], Split]


def build(source: SourceConfig, material: Material) -> Split:
    """The documents of one source. Raises `CorpusError` for a source nobody knows how to build."""
    builder = _builder(source.name)
    if builder is None:
        raise CorpusError(f"corpus source '{source.name}' is not known; {nearest(source.name, known_sources())}")
    trained, heldout = builder(source, material)
    return Split(_spread(trained, source.documents), heldout)


def _spread(documents: list[Document], cap: int) -> list[Document]:
    """At most `cap` documents (0 = all), taken evenly over the whole list, which natural text has by module."""
    if not cap or cap >= len(documents):
        return documents
    return [documents[i * len(documents) // cap] for i in range(cap)]


def known_sources() -> list[str]:
    reasoning_names = [f"{family}/{form}" for family in REASONING for form in ("think", "direct")]
    chats = (f"chat/{family}" for family in REASONING)
    return [*_BUILDERS, "retrieval/<context>", *reasoning_names, *chats]


def is_built(name: str) -> bool:
    """Whether the project builds a source of that name itself."""
    return _builder(name) is not None


def _builder(name: str) -> Builder | None:
    if name in _BUILDERS:
        return _BUILDERS[name]
    family, _, form = name.partition("/")
    if family == "retrieval" and form:
        return _retrieval
    if (family in REASONING and form in ("think", "direct")) or (family == "chat" and form in REASONING):
        return _reasoning
    return None


def _prose(_: SourceConfig, material: Material) -> Split:
    return material.prose


def _code(_: SourceConfig, __: Material) -> Split:
    return Split(*code_documents())


def _reasoning(source: SourceConfig, material: Material) -> Split:
    rng = material.rng(source.name)
    family = source.name.removeprefix("chat/").split("/")[0]
    module = FAMILIES[family]
    trained, heldout = (rng.sample(tasks, len(tasks)) for tasks in material.tasks(family))
    made = (
        [_task_document(source.name, family, module, task, rng) for task in tasks]
        for tasks in (trained[: source.documents or None], heldout[:HELDOUT_DOCUMENTS])
    )
    return Split(*made)


def _task_document(source: str, family: str, module: ModuleType, task: Task, rng: Random) -> Document:
    if source.startswith("chat/"):
        effort = rng.choice(CHAT_EFFORTS)
        question = {"role": "user", "content": task.prompt}
        reply = {"role": "assistant", "trace": task.trace(effort), "content": task.answer}
        segments, domain = chat([question, reply], effort), "chat"
    else:
        trace = task.high if source.endswith("/think") else ""
        segments, domain = reasoning(task.prompt, trace, task.answer), REASONING[family]
    return make_document(source, domain, module.LICENCE, module.ORIGIN, segments, key=task.key)


def _retrieval(source: SourceConfig, material: Material) -> Split:
    rng, context = material.rng(source.name), source.context or DEFAULT_CONTEXT
    counts = (source.documents or DEFAULT_DOCUMENTS, HELDOUT_DOCUMENTS // 3)
    made = (
        [retrieval.document(rng, material.words, words, context, source.name) for _ in range(count)]
        for count, words in zip(counts, material.filler, strict=True)
    )
    return Split(*made)


def _facts(source: SourceConfig, material: Material) -> Split:
    """Every trained wording by itself, then sheets of several; held out is one wording of each fact."""
    known = material.facts
    trained = [[(fact, wording)] for fact in known for wording in facts.trained_wordings(fact)]
    rng = material.rng(source.name)
    for _ in range(FACT_SHEETS):
        chosen = rng.sample(known, rng.randint(*SHEET_SIZES))
        trained.append([(fact, rng.choice(facts.trained_wordings(fact))) for fact in chosen])
    heldout = [[(fact, fact.heldout_wording)] for fact in known]
    return Split([_fact_document(sheet) for sheet in trained], [_fact_document(sheet) for sheet in heldout])


def _fact_document(sheet: Sequence[tuple[facts.Fact, int]]) -> Document:
    text = "\n".join(fact.statement(wording) for fact, wording in sheet)
    key = "\n".join(sorted(fact.key(wording) for fact, wording in sheet))
    licence = " AND ".join(sorted({fact.licence for fact, _ in sheet}))
    origin = ", ".join(sorted({fact.origin for fact, _ in sheet}))
    return make_document("facts", "knowledge", licence, origin, plain(text), key=key)


def _chat_facts(_: SourceConfig, material: Material) -> Split:
    trained: list[Document] = []
    heldout: list[Document] = []
    for fact in material.facts:
        for wording in range(4):
            split = heldout if wording == fact.heldout_wording else trained
            key = fact.key(wording, "question")
            for effort in sorted(set(CHAT_EFFORTS)):
                segments = facts.chat_segments(fact, wording, effort)
                split.append(make_document("chat/facts", "chat", fact.licence, fact.origin, segments, key=key))
    return Split(trained, heldout)


def _tools(source: SourceConfig, material: Material) -> Split:
    rng = material.rng(source.name)
    counts = (source.documents or DEFAULT_DOCUMENTS, HELDOUT_DOCUMENTS)
    splits = (
        _tool_documents(rng, material.facts, out, count) for out, count in zip((False, True), counts, strict=True)
    )
    return Split(*splits)


def _tool_documents(rng: Random, known: list[facts.Fact], heldout: bool, count: int) -> list[Document]:
    made: dict[str, Document] = {}
    while len(made) < count:
        call = tools.sample(rng, known, heldout)
        segments = tools.segments(call, rng.choice(CHAT_EFFORTS), with_result=rng.random() < tools.RESULT_SHARE)
        document = make_document("chat/tools", "tools", tools.LICENCE, tools.ORIGIN, segments, key=call.key)
        made.setdefault(document["id"], document)
    return list(made.values())


def _identity(_: SourceConfig, __: Material) -> Split:
    """Who the model is, who made it, what it can do, greetings and thanks, split by the user's wording.

    The laptop's model says that it is a small sibling of K2-V2. It has no need of thinking, so the trace is empty at
    every effort.
    """
    pairs = [
        (_sentence(o, q), answer)
        for answer, asked in IDENTITY_QUESTIONS.items()
        for o, q in itertools.product(IDENTITY_OPENINGS, asked)
    ]
    pairs += [(said, answer) for answer, wordings in SMALL_TALK.items() for said in wordings]
    made = [_identity_document(said, answer, effort) for said, answer in pairs for effort in EFFORTS]
    trained = [document for document in made if not is_heldout(document["key"])]
    return Split(trained, [document for document in made if is_heldout(document["key"])])


def _identity_document(said: str, answer: str, effort: str) -> Document:
    segments = chat([{"role": "user", "content": said}, {"role": "assistant", "content": answer}], effort)
    return make_document("chat/identity", "chat", IDENTITY_LICENCE, IDENTITY_ORIGIN, segments, key=f"identity {said}")


def _sentence(opening: str, question: str) -> str:
    joins = not opening or opening.endswith(("! ", ": "))
    return opening + (question[0].upper() + question[1:] if joins else question)


_BUILDERS: dict[str, Builder] = {
    "prose": _prose,
    "code": _code,
    "facts": _facts,
    "chat/facts": _chat_facts,
    "chat/tools": _tools,
    "chat/identity": _identity,
}
