"""What can be measured of a model: a task with its items, and all that bears on the score beside the model.

A `Measure` is made without asking anything: its `declared` literals and the digest of its items are the identity of the
cell it will be in (`k2model.evals.cells`), whatever it is run on, and `ask` runs it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from k2model.artifacts import fingerprint
from k2model.documents.schema import Item
from k2model.evals import tool_use
from k2model.evals.answers import Answers
from k2model.evals.backend import Backend
from k2model.evals.checks import chance, grader_of, said
from k2model.evals.items import ItemResult
from k2model.evals.likelihood import heldout_loss, pick_choices, recall_values
from k2model.evals.longcontext import asking as longcontext
from k2model.evals.longcontext.asking import LongContext
from k2model.evals.longcontext.haystack import prose_digest
from k2model.evals.longcontext.positions import heldout_texts, losses_by_position
from k2model.evals.material import Material
from k2model.evals.questions import ask
from k2model.evals.repeats import Vote
from k2model.evals.tool_code import programs_of
from k2model.recipe.evaluation import EvaluationConfig
from k2model.recipe.repeats import repeated_scores
from k2model.recipe.schema import PhaseKind
from k2model.recipe.tasks import FAMILIES, LONGEST_TEXT, LOSS, POSITION_LOSS, TASKS, Method, Task, tasks_of

#: Rough costs in tokens read at once; a generated token costs about as much as three read ones.
GENERATED = 3
CHOICE_TOKENS = 160  # of one item with choices: its prompt and four lines
LOSSES = "Held-out loss"  # the group of losses
POSITIONS = 512  # that a model of the project is given at least, whatever it was trained with


@dataclass(frozen=True)
class Measure:
    """One task, ready to be asked.

    name: of it, and of its score where it has one alone. declared: literals that bear on its scores. group: under which
    tables show it. reach: tokens of the longest request. cost: in tokens read, roughly. ask: gives the results of all
    its items, and raises EvaluationError where it has none. chance: what a guesser gets, None where it is about 0; it
    may read the items. repeats: how often each item is asked; vote: what of an answer is counted, None = there is no
    vote.
    """

    name: str
    group: str
    declared: Mapping[str, Any]
    reach: int
    cost: int
    ask: Callable[[Backend, Answers], list[ItemResult]]
    chance: Callable[[], float | None] = lambda: None
    unit: str = "accuracy"
    repeats: int = 1
    vote: Vote | None = None


@dataclass(frozen=True)
class Bounds:
    """Of a model: `window`, the length in tokens it was trained with, and `positions` that a server gives it; None
    where it takes any, as the project's own do: they are asked within twice what they were trained with or a task
    needs, so that documents which a poor tokenizer makes longer than they aim at have room, and chats."""

    window: int
    positions: int | None = None

    def max_length(self, context: int = 0) -> int:
        return self.positions or 2 * max(POSITIONS, self.window, context)


def measures_of(
    config: EvaluationConfig, material: Material, kind: PhaseKind, bounds: Bounds, lengths: Sequence[int]
) -> list[Measure]:
    """All that a model of a phase of that kind is measured by, in the order of rows in `scores.json`.

    lengths: at which retrieval is scored. Raises CorpusError for a benchmark's file that cannot be read.
    """
    measures = losses_of(config, material, bounds)
    for task in tasks_of(config, kind):
        if task.method is Method.RECALL:
            measures += [retrieval(config, material, bounds, length) for length in lengths]
        elif task.method is Method.FITTED:
            measures += fitted_texts(replace(config, families=(task.family,)), lengths)
        elif task.method is Method.POSITIONS:
            measures.append(position_loss(config, min(max(lengths), LONGEST_TEXT)))
        elif task.method is Method.DIALOGUE:
            measures.append(tool_dialogues(task, config, bounds))
        else:
            measures.append(measure_of(task, config, material, bounds))
    return measures


def losses_of(config: EvaluationConfig, material: Material, bounds: Bounds) -> list[Measure]:
    """Held-out losses, one of each domain; read in windows of the length that the model was trained with."""
    return [_loss(config, material, bounds, domain, sources) for domain, sources in sorted(material.domains().items())]


def measure_of(task: Task, config: EvaluationConfig, material: Material, bounds: Bounds, after: int = 0) -> Measure:
    """Of a task that is asked by generation or by its choices; the items behind the first `after`."""
    limit, shown = bounds.max_length(), config.items_per_family
    declared = {"task": task.declared(), "items": material.digest_of(task), "max_length": limit, **behind(after)}
    if grader := grader_of(task):
        declared["grader"] = grader

    def items() -> Sequence[Item]:
        most = (task.benchmark.limit or None) if task.benchmark else shown
        return material.items(task, most, after)

    def shots() -> Sequence[Item]:
        return material.benchmark(task.benchmark).shots if task.benchmark else ()

    def asking(backend: Backend, answers: Answers) -> list[ItemResult]:
        method = pick_choices if task.method is Method.LIKELIHOOD else ask
        return method(task, items(), shots(), backend, answers, limit)

    if task.benchmark is None:
        declared["first"] = shown
    if task.repeats > 1:
        declared["repeated"] = repeated_scores("", task.repeats, task.voted)
    written = min(task.max_new_tokens, limit) * task.repeats
    each = CHOICE_TOKENS if task.method is Method.LIKELIHOOD else GENERATED * written
    return Measure(
        task.name,
        task.group,
        declared,
        limit,
        each * (len(items()) if task.benchmark else shown),
        asking,
        lambda: chance(task, items()),
        repeats=task.repeats,
        vote=_vote(task, items) if task.repeats > 1 and task.voted else None,
    )


def _vote(task: Task, items: Callable[[], Sequence[Item]]) -> Vote:
    """The items are read when the first vote is."""
    by_id: dict[str, Item] = {}

    def vote(item: str, answer: str) -> str | None:
        if not by_id:
            by_id.update((one["id"], one) for one in items())
        return said(task, by_id[item], answer)

    return vote


def behind(after: int) -> dict[str, int]:
    """What identities say of items behind the first `after`; nothing where these are the first."""
    return {"after": after} if after else {}


def retrieval(config: EvaluationConfig, material: Material, bounds: Bounds, length: int, after: int = 0) -> Measure:
    """Values recalled from contexts of that nominal length, those behind the first `after`."""
    score, limit = f"retrieval/{length}", bounds.max_length(length)
    documents, queries = config.retrieval_documents, config.retrieval_queries
    declared = {
        "task": {"method": Method.RECALL, "context": length, "documents": documents, "queries": queries},
        "items": material.items_digest("retrieval"),
        "max_length": limit,
        **behind(after),
    }

    def asking(backend: Backend, answers: Answers) -> list[ItemResult]:
        items = material.contexts(length)[after:][:documents]
        return recall_values(score, items, queries, backend, answers, limit)

    return Measure(score, FAMILIES["retrieval"].group, declared, limit, documents * length, asking)


def fitted_texts(config: EvaluationConfig, lengths: Sequence[int]) -> list[Measure]:
    """The long-context families of a config at every length."""
    tasks = [task for task in TASKS if task.family in config.families and task.method is Method.FITTED]
    return [_fitted_text(task, config, length) for task in tasks for length in lengths]


def _fitted_text(task: Task, config: EvaluationConfig, length: int) -> Measure:
    """A text of `length` of the model's tokens with something in it to find, follow or count; as many as retrieval has
    documents, spread over depths where the task has some."""
    asked = LongContext.of(task.family, length, config.retrieval_documents)
    declared = {"task": task.declared(), "made": longcontext.VERSION, "asked": asdict(asked), "prose": prose_digest()}

    def asking(backend: Backend, answers: Answers) -> list[ItemResult]:
        return longcontext.ask(backend, asked, answers)

    return Measure(f"{task.family}/{length}", task.group, declared, length, asked.count * length, asking)


def position_loss(config: EvaluationConfig, length: int) -> Measure:
    """The loss by position up to `length` tokens, in whole modules of the standard library that are held out;
    as many as retrieval has documents."""
    texts = heldout_texts(length, config.retrieval_documents)
    declared = {"task": {"method": Method.POSITIONS, "length": length}, "texts": fingerprint(texts)}

    def asking(backend: Backend, answers: Answers) -> list[ItemResult]:
        return losses_by_position(backend, texts, length, answers)

    group, cost = FAMILIES[POSITION_LOSS].group, 2 * length * len(texts)
    return Measure(POSITION_LOSS, group, declared, length, cost, asking, unit="nats/token")


def tool_dialogues(task: Task, config: EvaluationConfig, bounds: Bounds, after: int = 0) -> Measure:
    """Dialogues in which tools are offered; as many as a family has items, behind the first `after`."""
    limit, count = bounds.max_length(), config.items_per_family
    declared = {"task": task.declared(), "made": tool_use.VERSION, "first": count, "max_length": limit}
    declared |= behind(after)

    def asking(backend: Backend, answers: Answers) -> list[ItemResult]:
        made = programs_of if task.family == "tool_code" else tool_use.tasks_of
        return tool_use.ask(backend, made(after + count)[after:], task, limit, answers)

    cost = GENERATED * min(task.max_new_tokens, limit) * count
    return Measure(task.name, task.group, declared, limit, cost, asking)


def _loss(config: EvaluationConfig, material: Material, bounds: Bounds, domain: str, sources: Sequence[str]) -> Measure:
    characters = CHARACTERS * config.loss_tokens // len(sources)
    declared = {
        "task": {"method": Method.LOSS, "characters": characters, "window": bounds.window},
        "items": material.heldout_digest(sources),
    }
    score = f"{LOSS}/{domain}"

    def asking(backend: Backend, answers: Answers) -> list[ItemResult]:
        documents = {name: segments for source in sources for name, segments in material.heldout(source, characters)}
        return heldout_loss(score, documents, bounds.window, backend, answers)

    return Measure(score, LOSSES, declared, bounds.window, config.loss_tokens, asking, unit="nats/token")


CHARACTERS = 4  # of held-out text for one of `loss_tokens`, so that every model reads the same, whatever its tokenizer
