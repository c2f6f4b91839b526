"""Long-context items of one model: made to measure in its tokens, asked, graded, and a map over depth and length.

A length counts everything: the prompt and the room its answer is given. An item is a function of (task, form, length,
depth, number, seed) and the model's tokenizer. An answer is what it names of the things it might: its mark is the share
of what is wanted and named in all that is wanted or named, so that naming everything earns little, and it is right when
both are the same. (RULER counts what is wanted alone; a single value has the same mark there and here.)
"""

import contextlib
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from random import Random
from typing import NamedTuple

from k2model.documents.schema import content_id
from k2model.errors import EvaluationError, nearest
from k2model.evals.answers import Answers
from k2model.evals.backend import Backend, Generation, Prompt, Sampling
from k2model.evals.items import Grade, ItemResult
from k2model.evals.longcontext.haystack import fitted
from k2model.evals.longcontext.tasks import AT_DEPTHS, TASKS, Form, Hidden, Tied, hidden
from k2model.evals.questions import restored
from k2model.recipe.evaluation import Mode

DEPTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
REDRAWS = 50
VERSION = "1"  # raised when other items are made
AT_ONCE = 131_072  # tokens of items that are made before any of them is asked, so that a backend can batch them
RECORDED = 20_000  # characters of a prompt that results keep
ENDING = 4  # tokens
_FIRST_WORD = re.compile(r"\s*([\w-]+)(?![\w-])(?=.)", re.DOTALL)  # with something behind it, so that it is whole


@dataclass(frozen=True)
class LongContext:
    """What is asked. lengths: in tokens of the model, of prompt and answer. items: of each task and length, and depth
    where the task has one. mode: a completion, or a chat at an effort; thinking: tokens of room for a trace there."""

    tasks: tuple[str, ...] = ("needle", "multi_key", "multi_value", "variable_tracking", "frequent_words")
    lengths: tuple[int, ...] = (1024, 4096, 16_384, 65_536)
    depths: tuple[float, ...] = DEPTHS
    items: int = 4
    form: Form = Form.SENTENCES
    mode: Mode = Mode.COMPLETION
    thinking: int = 0
    seed: int = 0

    @classmethod
    def of(cls, family: str, length: int, count: int) -> "LongContext":
        """A family of a recipe at one length, about `count` items of it: `needle_entries` is `needle` in entries."""
        task = family.removesuffix("_entries")
        form = Form.SENTENCES if task == family else Form.ENTRIES
        if task not in AT_DEPTHS:
            return cls((task,), (length,), (), count, form)
        depths = min(count, len(DEPTHS))
        spread = tuple(round(number / max(depths - 1, 1), 2) for number in range(depths))
        return cls((task,), (length,), spread, count // depths, form)

    @property
    def count(self) -> int:
        """How many items there are."""
        return sum(1 for _ in places_of(self))


class Place(NamedTuple):
    """Which item it is; `depth` is None where the task has none."""

    task: str
    length: int
    depth: float | None
    number: int

    @property
    def name(self) -> str:
        return f"{self.task} {self.length} {'' if self.depth is None else f'{self.depth:.2f} '}{self.number}"

    @property
    def cluster(self) -> str:
        """What the cells of a map are; items without a depth are draws of their own."""
        return self.name if self.depth is None else f"depth {self.depth:.2f}"


class Asked(NamedTuple):
    """What the model is given, and what is right."""

    place: Place
    prompt: Prompt
    sampling: Sampling
    wanted: tuple[str, ...]
    candidates: frozenset[str]


class DepthCell(NamedTuple):
    """Of a map: the mean mark and the number of items of one task at a length and depth."""

    task: str
    length: int
    depth: float
    value: float
    items: int


def places_of(config: LongContext) -> Iterator[Place]:
    """Every item that is to be asked. Raises EvaluationError for an unknown task."""
    for task in config.tasks:
        if task not in TASKS:
            raise EvaluationError(f"there is no long-context task '{task}'; {nearest(task, TASKS)}")
        depths: tuple[float | None, ...] = config.depths if task in AT_DEPTHS else (None,)
        for length, depth, number in itertools.product(config.lengths, depths, range(config.items)):
            yield Place(task, length, depth, number)


def item_at(backend: Backend, config: LongContext, place: Place) -> Asked:
    """An item made; its prompt and the room for its answer together have at most `place.length` tokens.

    Raises EvaluationError for a length that has no room for the task, and a task that has no such form.
    """
    for redraw in range(REDRAWS):
        rng = Random(f"{config.seed}:{config.form.value} {place.name} {redraw}")
        one = hidden(place.task, config.form, rng, place.depth or 0.0)
        room = _answer_room(backend, one) + config.thinking
        size = fitted(
            partial(_tokens, backend, one, config),
            place.length - room,
            f"'{place.task}' at {place.length}, of which {room} are for the answer,",
        )
        with contextlib.suppress(Tied):
            stop = one.stop if config.mode is Mode.COMPLETION else ()
            return Asked(place, _prompt(one, size, config), Sampling(room, stop=stop), one.wanted(size), one.candidates)
    raise EvaluationError(
        f"'{place.task}' at {place.length} tokens: {REDRAWS} lists in a row have a tie; ask at greater lengths"
    )


def ask(backend: Backend, config: LongContext, answers: Answers | None = None) -> list[ItemResult]:
    """Every item asked, in the order of `places_of`; those of a length that the model does not have are `too long`.

    answers: what was said before, which is not asked again. Raises EvaluationError as `item_at` does.
    """
    results: dict[Place, ItemResult] = {}
    everything, answers = list(places_of(config)), answers or Answers()
    answers.expect(sum(place.length <= backend.max_length for place in everything))
    for batch in _batches(place for place in everything if place.length <= backend.max_length):
        made = [item_at(backend, config, place) for place in batch]
        missing = [one for one in made if one.place.name not in answers]
        for index, written in backend.generate([(one.prompt, one.sampling) for one in missing]):
            answers.put(missing[index].place.name, asdict(written))
        for one in made:
            results[one.place] = graded(config, one, restored(answers[one.place.name]))
    return [results.get(place) or _result(config, place, Grade.TOO_LONG) for place in everything]


def graded(config: LongContext, asked: Asked, written: Generation) -> ItemResult:
    """What came of an item; one whose answer has no end counts nothing, whatever it names. An entry is a single word
    and ends there, whatever a model that learned to write one behind the other goes on with."""
    answer, ended = written.answer, written.complete
    if config.form is Form.ENTRIES and answer is not None and (found := _FIRST_WORD.match(answer)):
        answer, ended = found[1], True
    if not ended or answer is None:
        grade, mark = Grade.CUT_OFF, 0.0
    else:
        mark = marked(answer, asked.wanted, asked.candidates)
        grade = {1.0: Grade.RIGHT, 0.0: Grade.WRONG}.get(mark, Grade.MEASURED)
    return replace(
        _result(config, asked.place, grade),
        prompt=_recorded(str(asked.prompt.turns[0]["content"])),
        generation=written.text,
        trace=written.trace,
        answer=answer,
        wanted=", ".join(asked.wanted),
        value=mark,
        tokens=written.tokens,
        thinking_tokens=written.thinking_tokens,
    )


def marked(answer: str, wanted: Sequence[str], candidates: frozenset[str]) -> float:
    """What is wanted and named, as a share of all that is wanted or named (Jaccard's index)."""
    words = set(re.findall(r"[\w-]+", answer.replace(",", " ")))
    named = {one for one in candidates if one in words}
    return len(named & set(wanted)) / len(named | set(wanted))


def depth_map(results: Sequence[ItemResult]) -> list[DepthCell]:
    """The cells of every task that has depths, in the order of task, length and depth."""
    cells: dict[tuple[str, int, float], list[float]] = {}
    for result in results:
        task, _, length = result.score.partition("/")
        if result.cluster.startswith("depth ") and task.removesuffix("_entries") in AT_DEPTHS:
            cells.setdefault((task, int(length), float(result.cluster.removeprefix("depth "))), []).append(result.value)
    return [DepthCell(*where, sum(marks) / len(marks), len(marks)) for where, marks in sorted(cells.items())]


def _result(config: LongContext, place: Place, grade: Grade) -> ItemResult:
    name = content_id(f"{config.seed}:{config.form.value} {place.name}")
    suffix = "_entries" if config.form is Form.ENTRIES else ""
    return ItemResult(f"{place.task}{suffix}/{place.length}", name, place.cluster, "", "", None, "", grade, 0.0)


def _recorded(text: str) -> str:
    """A prompt as results keep it: of a long one both ends and its digest, since it can be made again."""
    if len(text) <= RECORDED:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    left_out = f"[{len(text) - RECORDED} characters, sha256 of all {digest}]"
    return f"{text[: RECORDED // 2]}\n{left_out}\n{text[-RECORDED // 2 :]}"


def _batches(places: Iterable[Place]) -> Iterator[list[Place]]:
    """As many as have `AT_ONCE` tokens together, and one at least."""
    batch: list[Place] = []
    for place in places:
        if batch and sum(one.length for one in batch) + place.length > AT_ONCE:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _answer_room(backend: Backend, one: Hidden) -> int:
    """Tokens for twice a right answer, and some to end it."""
    longest = sorted(one.candidates, key=lambda text: (-len(text), text))[: one.answers]
    return 2 * backend.tokens(Prompt.of(", ".join(longest))) + ENDING


def _tokens(backend: Backend, one: Hidden, config: LongContext, size: int) -> int:
    return backend.tokens(_prompt(one, size, config))


def _prompt(one: Hidden, size: int, config: LongContext) -> Prompt:
    text = one.text(size)
    if config.form is Form.ENTRIES:
        return Prompt.of(f"{text}{one.question}", config.mode)
    question = f"{one.question} {one.beginning}" if config.mode is Mode.COMPLETION else one.question
    return Prompt.of(f"{text}\n\n{question}", config.mode)
