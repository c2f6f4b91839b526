"""What the study shows: every cell of the matrix read once, one capability after the other, into series and samples.

Of a cell's items only the values are kept, and the texts of a few: of 2,500 checkpoints no page could hold all. Which
ones follows from the items' ids, so that every checkpoint shows the same and nobody has picked them.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from k2model.artifacts import Store
from k2model.evals.cells import results_of
from k2model.evals.clean_scores import CleanScore, Name, SeenItems, Sighting, clean_scores
from k2model.evals.efforts import EffortPoint, effort_points
from k2model.evals.items import ItemResult
from k2model.evals.longcontext.asking import DepthCell, depth_map
from k2model.evals.matrix import Checkpoint, Entry
from k2model.evals.scores import ScoreRow
from k2model.recipe.repeats import repeated_of
from k2model.recipe.schema import Recipe
from k2model.reporting.scores import score_order
from k2model.reporting.study.series import ItemValues, Point, Series, series_of
from k2model.reporting.timeline import Timeline

SAMPLES = 20_000  # in a page, at most, beside the gallery's
LEAST_SAMPLES = 4  # of a score at a checkpoint that is sampled; fewer checkpoints are, where there is no room for it


@dataclass(frozen=True)
class Asked:
    """A task at a checkpoint: its scores' rows, none where it was not measured, and what came of its items, which is
    read when it is called for."""

    checkpoint: Checkpoint
    task: str
    rows: tuple[ScoreRow, ...] = ()
    results: Callable[[], Sequence[ItemResult]] = tuple


@dataclass(frozen=True)
class Shown:
    """A sample: what one checkpoint wrote to one item."""

    checkpoint: Checkpoint
    result: ItemResult


@dataclass
class Study:
    """`series`: along the line of descent of the recipe's last phase. `overlaps`: by score and checkpoint; they, `maps`
    of long texts and `thinking` are of ends of phases. `gallery`: by score, the item that every checkpoint shows.
    `samples`: in the order of scores, items and training. `unmeasured`: tasks that no checkpoint was asked."""

    recipe: Recipe
    timeline: Timeline
    checkpoints: tuple[Checkpoint, ...]
    series: list[Series] = field(default_factory=list)
    overlaps: dict[tuple[str, Checkpoint], CleanScore] = field(default_factory=dict)
    gallery: dict[str, str] = field(default_factory=dict)
    samples: list[Shown] = field(default_factory=list)
    sampled: int = 0  # of so many
    maps: dict[Checkpoint, list[DepthCell]] = field(default_factory=dict)
    thinking: dict[Checkpoint, list[EffortPoint]] = field(default_factory=dict)
    unmeasured: list[str] = field(default_factory=list)

    @property
    def measured(self) -> int:
        return sum(len(one.points) for one in self.series)

    @property
    def missing(self) -> int:
        return sum(len(one.missing) for one in self.series)


def asked_of(store: Store, entries: Iterable[Entry]) -> list[Asked]:
    """The cells of a matrix."""

    def reader(entry: Entry) -> Callable[[], Sequence[ItemResult]]:
        ref = entry.ref
        return (lambda: results_of(store, ref)) if ref else tuple

    return [Asked(one.checkpoint, one.cell.measure.name, one.rows, reader(one)) for one in entries]


def study_of(recipe: Recipe, asked: Iterable[Asked], seen: SeenItems | None = None) -> Study:
    """`asked`: every task at every checkpoint, in any order. `seen`: what the phases had seen of the items; None = it
    was not looked up. Of one cell at a time the items are read, once."""
    by_task: dict[str, list[Asked]] = {}
    for one in asked:
        by_task.setdefault(one.task, []).append(one)
    checkpoints = sorted({one.checkpoint for own in by_task.values() for one in own})
    study = Study(recipe, Timeline.of(recipe.phases), tuple(checkpoints))
    groups = score_order(row for own in by_task.values() for one in own for row in one.rows)
    reading = _Reading(study, sampled_checkpoints(study.checkpoints, len(groups)), len(groups), seen)
    for task, own in by_task.items():
        scores = dict.fromkeys(row.score for one in own for row in one.rows)
        if not scores:
            study.unmeasured.append(task)
        for one in sorted(own, key=lambda one: one.checkpoint):
            if one.rows:
                reading.take(one)
            for score in scores if not one.rows else ():
                reading.missing.setdefault(score, []).append(one.checkpoint)
    study.samples = [shown for score in groups for own in reading.texts.get(score, {}).values() for shown in own]
    measured = {score: reading.points[score] for score in groups}
    study.series = series_of(measured, reading.missing, lineage_of(recipe))
    return study


class _Reading:
    """What is gathered cell by cell."""

    def __init__(self, study: Study, sampled: set[Checkpoint], scores: int, seen: SeenItems | None) -> None:
        self.study, self.sampled, self.seen = study, sampled, seen
        self.most = max(LEAST_SAMPLES, SAMPLES // max(1, len(sampled) * scores))
        self.points: dict[str, list[Point]] = {}
        self.missing: dict[str, list[Checkpoint]] = {}
        self.texts: dict[str, dict[str, list[Shown]]] = {}
        self.known: dict[str, dict[Name, Sighting | None]] = {}

    def take(self, one: Asked) -> None:
        """A cell that was measured."""
        read: dict[str, list[ItemResult]] = {}
        for result in one.results():
            read.setdefault(result.score, []).append(result)
        for row in one.rows:
            own = read.get(row.score, [])
            values = ItemValues.of(own, loss=not row.is_accuracy) if own else None
            self.points.setdefault(row.score, []).append(Point(one.checkpoint, row, values))
            if row.is_accuracy and repeated_of(row.score) is None:  # a loss has documents, and pass@k no answers
                self._sample(one.checkpoint, row.score, own)
        if one.checkpoint.last:
            self._of_phase_end(one.checkpoint, [result for own in read.values() for result in own])

    def _sample(self, checkpoint: Checkpoint, score: str, read: Sequence[ItemResult]) -> None:
        self.study.sampled += len(read)
        for number, item in enumerate(chosen_items(read, self.most if checkpoint in self.sampled else 1)):
            shown = [Shown(checkpoint, one) for one in read if one.item == item and one.repeat == 0][:1]
            self.texts.setdefault(score, {}).setdefault(item, []).extend(shown)
            if number == 0:
                self.study.gallery.setdefault(score, item)

    def _of_phase_end(self, checkpoint: Checkpoint, read: Sequence[ItemResult]) -> None:
        """Maps and efforts, and what of the items had been seen."""
        if cells := depth_map(read):
            self.study.maps.setdefault(checkpoint, []).extend(cells)
        if points := effort_points(read):
            self.study.thinking.setdefault(checkpoint, []).extend(points)
        if self.seen is None or checkpoint.phase not in self.seen.first:
            return
        if checkpoint.phase not in self.known:
            self.known[checkpoint.phase] = self.seen.at(checkpoint.phase)
        for score, clean in clean_scores(read, self.known[checkpoint.phase]).items():
            self.study.overlaps[score, checkpoint] = clean


def lineage_of(recipe: Recipe) -> tuple[str, ...]:
    """The phases that the recipe's last one goes back to, oldest first."""
    parents = {phase.name: phase.parent for phase in recipe.phases}
    names = [recipe.phases[-1].name]
    while (parent := parents.get(names[-1])) in parents:
        names.append(str(parent))
    return tuple(reversed(names))


def sampled_checkpoints(checkpoints: Sequence[Checkpoint], scores: int) -> set[Checkpoint]:
    """Those whose samples are shown: the end of every phase and, evenly spaced, as many others as there is room for."""
    room = max(SAMPLES // (LEAST_SAMPLES * max(scores, 1)), 1)
    ends = [one for one in checkpoints if one.last]
    between = [one for one in checkpoints if not one.last]
    left = max(room - len(ends), 0)
    step = max(1, -(-len(between) // left)) if left else len(between) + 1
    return {*ends, *between[step - 1 :: step]}


def chosen_items(results: Iterable[ItemResult], most: int) -> list[str]:
    """The items whose ids have the smallest digests: the same ones at every checkpoint that was asked them."""
    return sorted({one.item for one in results}, key=_digest)[:most]


@lru_cache(maxsize=1 << 16)
def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
