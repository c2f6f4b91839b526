"""Every task that models are scored on, declared once: those of the project's families, and one of each benchmark.

A task says which items are asked, how, how much may be written and which scores that gives; a family says under which
group and title tables show them, what a guesser gets and how training documents are searched for its items. Curation,
evaluation, reporting and the checks of a recipe read it here; what an item holds and when an answer to it is right is
in `k2model.documents.families`, or for a benchmark in `k2model.evals.checks`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any

from k2model.recipe.evaluation import AnswerCheck, BenchmarkConfig, EvaluationConfig, Mode
from k2model.recipe.fields import without_places
from k2model.recipe.repeats import repeated_scores
from k2model.recipe.safety import HEADLINE_SCORES
from k2model.recipe.schema import PhaseConfig, PhaseKind, Recipe, SourceConfig
from k2model.recipe.synthesis import Kind


class Guess(str, Enum):
    """What somebody gets right who does not read the items."""

    NOTHING = "nothing"  # about 0
    COMMONEST = "commonest"  # always the commonest answer
    CHOICES = "choices"  # one of an item's choices, at random
    FORM = "form"  # an answer of the right form, at random; each item says how many there are


@dataclass(frozen=True)
class Family:
    """worded: whether training documents are searched for its items by shared words, or by content key alone, as where
    a prompt is a formula."""

    group: str
    title: str
    worded: bool = False
    guess: Guess = Guess.NOTHING


#: Whose items a corpus has.
CORPUS_FAMILIES = {
    "facts": Family("Knowledge", "Facts", worded=True),
    "arithmetic": Family("Mathematics", "Arithmetic"),
    "spelling": Family("Language", "Spelling"),
    "knights": Family("Logic", "Knights & Knaves", guess=Guess.COMMONEST),
    "countdown": Family("Mathematics", "Countdown"),
    "code": Family("Code", "Code", worded=True, guess=Guess.CHOICES),
    "retrieval": Family("Long context", "Retrieval", worded=True),
    "tools": Family("Tools", "Tools"),
}
#: Told in words, made and proved when they are asked (`k2model.documents.families.generated`).
PUZZLES = {
    **{f"knights_{n}": Family("Logic", f"Knights & Knaves, {n} people", guess=Guess.FORM) for n in range(2, 9)},
    **{f"countdown_{level}": Family("Mathematics", f"Countdown, {level}") for level in ("easy", "medium", "hard")},
    **{f"order_{n}": Family("Logic", f"Order of {n}", guess=Guess.FORM) for n in range(4, 9)},
    "aime_like": Family("Mathematics", "Competition problems"),
}
#: Made to the measure of every length of the recipe, in the tokens of the model (`k2model.evals.longcontext`).
LONG_CONTEXT = {
    "needle": Family("Long context", "Needle"),
    "multi_key": Family("Long context", "Several keys"),
    "multi_value": Family("Long context", "Several values"),
    "variable_tracking": Family("Long context", "Variable tracking"),
    "frequent_words": Family("Long context", "Frequent words"),
    "needle_entries": Family("Long context", "Needle among entries"),
    "multi_key_entries": Family("Long context", "Several entries"),
}
POSITION_LOSS = "position_loss"
#: By the name that a recipe gives (`evaluation.families`); scores begin with it.
FAMILIES = {
    **CORPUS_FAMILIES,
    **PUZZLES,
    **LONG_CONTEXT,
    POSITION_LOSS: Family("Long context", "Loss by position"),
    "tool_use": Family("Tools", "Tool use"),
    "tool_code": Family("Tools", "Programs as a tool"),
}
#: That need no corpus: whoever is asked, their items are made then.
MADE_FAMILIES = tuple(name for name in FAMILIES if name not in CORPUS_FAMILIES)
#: Domain of a reasoning family's documents.
REASONING = {"arithmetic": "mathematics", "spelling": "language", "knights": "logic", "countdown": "mathematics"}
#: Families whose answers follow from a trace: these are asked with thinking budgets, where a recipe has some.
THOUGHT_ABOUT = (*REASONING, *PUZZLES)
LOSS = "loss"  # begins the scores `loss/<domain>`
CHANCE = "chance"  # as a gate's `minus`: the chance level of its own score
DEFAULT_CONTEXT = 128  # of a retrieval source that names none


class Method(str, Enum):
    GENERATION = "generation"  # what the model writes is checked
    LIKELIHOOD = "likelihood"  # the likeliest choice is its answer
    RECALL = "recall"  # values in a context, by teacher forcing, at every length
    LOSS = "loss"  # of held-out documents; no task of a family's
    FITTED = "fitted"  # texts made to every length, what the model writes is checked
    POSITIONS = "positions"  # the loss by position in long texts
    DIALOGUE = "dialogue"  # tools are offered, and calls carried out, over several turns


@dataclass(frozen=True)
class Task:
    """Items that are asked in one way. It gives one score, or several where one answer is checked in several ways.

    scores: their names, each with what checks it: a function of the family's module, "" for a benchmark, whose
    config says it. items: the file of items in a corpus, or the benchmark's name. max_new_tokens: a third more than the
    longest honest answer of a family takes. least_new_tokens: so many are enough where a model has no room for those, 0
    = all of them. stop: texts that end an answer. temperature, top_p, seed, repeats and
    thinking_budget as in a `BenchmarkConfig`.
    """

    family: str
    scores: dict[str, str]
    items: str
    mode: Mode = Mode.COMPLETION
    max_new_tokens: int = 0
    method: Method = Method.GENERATION
    guess: Guess = Guess.NOTHING
    benchmark: BenchmarkConfig | None = None
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    repeats: int = 1
    thinking_budget: int = 0
    least_new_tokens: int = 0

    @property
    def name(self) -> str:
        """Its score's, or its family's where it gives several."""
        return next(iter(self.scores)) if len(self.scores) == 1 else self.family

    @property
    def group(self) -> str:
        """Under which tables show it."""
        return self.benchmark.group if self.benchmark else FAMILIES[self.family].group

    @property
    def voted(self) -> bool:
        """Whether several answers to an item can be put to the vote."""
        return self.benchmark is None or self.benchmark.voted

    def declared(self) -> dict[str, Any]:
        """What of it bears on a score, but for the items themselves: literals."""
        config = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "benchmark"}
        return config | ({"benchmark": without_places(self.benchmark)} if self.benchmark else {})

    def fits(self, kind: PhaseKind) -> bool:
        """Whether a phase of that kind is asked: chats after fine-tuning, K2's form of reasoning before it."""
        if self.mode is Mode.COMPLETION:
            return True
        return (self.mode in (Mode.THINK, Mode.DIRECT)) is (kind is not PhaseKind.SFT)


def _reasoning(family: str, traced: int, untraced: int) -> Iterator[Task]:
    for mode in (Mode.THINK, Mode.DIRECT, Mode.LOW, Mode.MEDIUM, Mode.HIGH):
        limit = untraced if mode in (Mode.DIRECT, Mode.LOW) else traced
        yield Task(family, {f"{family}/{mode.value}": "check"}, family, mode, limit, guess=FAMILIES[family].guess)


def _facts(score: str, items: str, mode: Mode, limit: int) -> Task:
    stop = ("\n",) if mode is Mode.COMPLETION else ()
    return Task("facts", {f"facts/{score}": "check"}, items, mode, limit, stop=stop)


#: Of long thinking: K2's sampling of reasoning tasks ([E360] of its evaluation: T=1.0, top_p 0.95, 32,768 tokens).
_REASONED: dict[str, Any] = {"temperature": 1.0, "top_p": 0.95, "max_new_tokens": 32_768, "least_new_tokens": 64}
AVERAGED = 8  # times that a competition problem is asked: the score is avg@8, and pass@k follows from the results


def _puzzle(family: str) -> Iterator[Task]:
    """K2's form before fine-tuning, with the trace open, and the efforts after it."""
    repeats = AVERAGED if family == "aime_like" else 1
    for mode in (Mode.THINK, Mode.LOW, Mode.MEDIUM, Mode.HIGH):
        guess, scores = FAMILIES[family].guess, {f"{family}/{mode.value}": "check"}
        yield Task(family, scores, family, mode, guess=guess, repeats=repeats, **_REASONED)


_DIALOGUES = {
    "tool_use": ("schema", "function", "arguments", "result", "turns", "no_call"),
    "tool_code": ("schema", "output", "result"),
}
_CALLS = {"tools/well_formed": "check_well_formed", "tools/exact": "check_exact", "tools/result": "check_result"}
#: In the order of rows in `scores.json`. Items without a trace are asked at high effort, as the chat template does
#: where none is named.
TASKS = (
    _facts("seen_wording", "facts_seen", Mode.COMPLETION, 16),
    _facts("heldout_wording", "facts_heldout", Mode.COMPLETION, 16),
    *_reasoning("arithmetic", 40, 12),
    *_reasoning("spelling", 40, 20),
    *_reasoning("knights", 40, 10),
    *_reasoning("countdown", 128, 24),
    _facts("chat_seen", "facts_chat_seen", Mode.HIGH, 24),
    _facts("chat_heldout", "facts_chat_heldout", Mode.HIGH, 24),
    Task("tools", _CALLS, "tools", Mode.HIGH, 80),
    Task("code", {"code/next_line": "check"}, "code", method=Method.LIKELIHOOD, guess=Guess.CHOICES),
    Task("retrieval", {"retrieval": "check"}, "retrieval", method=Method.RECALL),
    *(task for family in PUZZLES for task in _puzzle(family)),
    *(Task(family, {family: ""}, family, method=Method.FITTED) for family in LONG_CONTEXT),
    Task(POSITION_LOSS, {POSITION_LOSS: ""}, POSITION_LOSS, method=Method.POSITIONS),
    *(
        Task(name, {f"{name}/{one}": "" for one in parts}, name, Mode.HIGH, method=Method.DIALOGUE, **_REASONED)
        for name, parts in _DIALOGUES.items()
    ),
)
#: Files of items that training documents are searched for by words.
WORDED = frozenset(task.items for task in TASKS if FAMILIES[task.family].worded)


def benchmark_task(config: BenchmarkConfig) -> Task:
    """The task of a recipe's own benchmark; it may write what its config says."""
    method = Method.LIKELIHOOD if config.by_likelihood else Method.GENERATION
    guess = Guess.CHOICES if config.check is AnswerCheck.CHOICE else Guess.NOTHING
    stop = (config.stop,) if config.stop and config.mode is Mode.COMPLETION else ()
    sampled = {name: getattr(config, name) for name in ("temperature", "top_p", "seed", "repeats", "thinking_budget")}
    return Task(
        config.name, {config.name: ""}, config.name, config.mode, config.max_new_tokens, method, guess, config, stop,
        **sampled,
    )  # fmt: skip


def tasks_of(config: EvaluationConfig, kind: PhaseKind) -> list[Task]:
    """What a phase of that kind is asked, in the order of its scores."""
    own = [one for task in TASKS if task.family in config.families for one in (task, *at_budgets(task, config))]
    return [task for task in (*own, *map(benchmark_task, config.benchmarks)) if task.fits(kind)]


def at_budgets(task: Task, config: EvaluationConfig) -> list[Task]:
    """What is thought about, asked with its trace closed behind each of the recipe's budgets: `knights_8/high@512`."""
    if task.family not in THOUGHT_ABOUT or task.mode not in (Mode.THINK, Mode.HIGH):
        return []
    return [
        replace(task, scores={f"{task.name}@{budget}": "check"}, thinking_budget=budget)
        for budget in config.thinking_budgets
    ]


def position_ends(length: int, first: int = 128) -> list[int]:
    """Where buckets of positions end: at `first` tokens, twice that and so on, and at `length`."""
    ends = [min(first, length)]
    while ends[-1] < length:
        ends.append(min(2 * ends[-1], length))
    return ends


#: Tokens up to which the project has texts of its own for the loss by position.
LONGEST_TEXT = 16_384


def retrieval_scores(lengths: Sequence[int], extended_to: int | None) -> list[tuple[str, int, str]]:
    """(Score, length, variant) of every retrieval score. `extended_to`: a phase's length, where its theta is not its
    parent's: there the parent's weights are scored with both."""
    found = [(f"retrieval/{length}", length, "") for length in lengths]
    variants = () if extended_to is None else ("@parent_theta", "@new_theta")
    return found + [(f"retrieval/{extended_to}{variant}", extended_to or 0, variant) for variant in variants]


def score_names(recipe: Recipe, phase: PhaseConfig) -> dict[str, Guess | float]:
    """The scores that a phase will have, each with what a guesser gets; losses of domains that only the data tell
    (synthesis) are left out."""
    extended = bool(phase.parent) and recipe.row(phase.parent).rope_theta != phase.rope_theta
    lengths = recipe.lengths
    names: dict[str, Guess | float] = {
        f"{LOSS}/{domain}": Guess.NOTHING
        for domain in sorted({domain_of(source) for source in recipe.corpus.sources} - {""})
    }
    for task in tasks_of(recipe.evaluation, phase.kind):
        if task.method is Method.RECALL:
            scores = retrieval_scores(lengths, phase.sequence_length if extended else None)
            names |= {name: task.guess for name, _, _ in scores}
        elif task.method is Method.FITTED:
            names |= {f"{task.name}/{length}": task.guess for length in lengths}
        elif task.method is Method.POSITIONS:
            names |= {f"{task.name}/{end}": task.guess for end in position_ends(min(lengths[-1], LONGEST_TEXT))}
        else:
            guess = (task.benchmark.chance if task.benchmark else 0.0) or task.guess
            for score in task.scores:
                names |= dict.fromkeys((score, *repeated_scores(score, task.repeats, task.voted)), guess)
    if phase.name in recipe.safety_tested:
        names |= dict.fromkeys(HEADLINE_SCORES, Guess.NOTHING)
    return names


def domain_of(source: SourceConfig) -> str:
    """The domain of a source's held-out documents; "" where it holds none out, or its documents tell it."""
    if source.location:
        return source.domain if source.heldout else ""
    if source.job:
        return {Kind.CHAT: "chat", Kind.CONSTRAINTS: "chat", Kind.TOOLS: "tools"}.get(source.job.kind, "")
    first, _, rest = source.name.partition("/")
    if first == "chat":
        return "tools" if rest == "tools" else "chat"
    return {"prose": "prose", "code": "code", "facts": "knowledge", "retrieval": "long_context", **REASONING}.get(
        first, ""
    )
