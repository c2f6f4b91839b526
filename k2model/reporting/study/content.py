"""What the study shows: every cell of the matrix read once, one capability after the other, into series and samples.

Of a cell's items only the values are kept, and the texts of a few: of 2,500 checkpoints no page could hold all. Which
ones follows from the items' ids, so that every checkpoint shows the same and nobody has picked them.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from k2model.evals.contamination import CleanScore
from k2model.evals.items import ItemResult
from k2model.evals.scores import ScoreRow
from k2model.recipe.schema import Recipe
from k2model.reporting.scores import parse, score_order
from k2model.reporting.study.efforts import ThinkingPoint, thinking_point
from k2model.reporting.study.heat import HeatMap, heat_map
from k2model.reporting.study.series import Checkpoint, ItemValues, Point, Series, series_of
from k2model.reporting.timeline import Timeline

SAMPLES = 20_000  # in a page, at most, beside the gallery's
LEAST_SAMPLES = 4  # of a score at a checkpoint that is sampled; fewer checkpoints are, where there is no room for it


@dataclass(frozen=True)
class Cell:
    """A score at a checkpoint. `row`: None where it was not measured. `overlap`: what of its items had been seen, None
    where that was not looked up."""

    checkpoint: Checkpoint
    score: str
    row: ScoreRow | None
    overlap: CleanScore | None = None


Results = Callable[[Cell], Sequence[ItemResult]]  # of a cell that was measured; empty where its items are not kept


@dataclass(frozen=True)
class Shown:
    """A sample: what one checkpoint wrote to one item."""

    checkpoint: Checkpoint
    result: ItemResult


@dataclass
class Study:
    """`series`: along the line of descent of the recipe's last phase. `gallery`: by score, the item that every
    checkpoint shows. `samples`: in the order of scores, items and training."""

    recipe: Recipe
    timeline: Timeline
    checkpoints: tuple[Checkpoint, ...]
    series: list[Series]
    overlaps: dict[tuple[str, Checkpoint], CleanScore]
    gallery: dict[str, str] = field(default_factory=dict)
    samples: list[Shown] = field(default_factory=list)
    sampled: int = 0  # of so many
    maps: list[HeatMap] = field(default_factory=list)
    thinking: dict[str, list[ThinkingPoint]] = field(default_factory=dict)

    @property
    def measured(self) -> int:
        return sum(len(one.points) for one in self.series)

    @property
    def missing(self) -> int:
        return sum(len(one.missing) for one in self.series)


def study_of(recipe: Recipe, cells: Iterable[Cell], results: Results) -> Study:
    """`cells`: the matrix, in any order. `results` is asked for one cell at a time, and once for each."""
    by_score: dict[str, list[Cell]] = {}
    for cell in cells:
        by_score.setdefault(cell.score, []).append(cell)
    checkpoints = tuple(sorted({cell.checkpoint for own in by_score.values() for cell in own}))
    groups = score_order(cell.row for own in by_score.values() for cell in own if cell.row is not None)
    sampled = sampled_checkpoints(checkpoints, len(groups))
    most = max(LEAST_SAMPLES, SAMPLES // max(1, len(sampled) * len(groups)))
    lineage, ends = lineage_of(recipe), {one for one in checkpoints if one.last}
    study = Study(recipe, Timeline.of(recipe.phases), checkpoints, [], {})
    measured: dict[str, list[Point]] = {}
    for score in groups:
        texts: dict[str, list[Shown]] = {}
        for cell in sorted(by_score[score], key=lambda cell: cell.checkpoint):
            if cell.row is None:
                continue
            read = [one for one in results(cell) if one.score == score]
            point = Point(cell.checkpoint, cell.row, ItemValues.of(read) if read and cell.row.is_accuracy else None)
            measured.setdefault(score, []).append(point)
            if cell.overlap is not None:
                study.overlaps[score, cell.checkpoint] = cell.overlap
            if not cell.row.is_accuracy:
                continue  # a loss has documents, and no answers
            study.sampled += len(read)
            for number, one in enumerate(chosen_items(read, most if cell.checkpoint in sampled else 1)):
                texts.setdefault(one, []).extend(_first_asked(cell.checkpoint, read, one))
                if number == 0:
                    study.gallery.setdefault(score, one)
            if cell.checkpoint in ends:
                _of_phase_end(study, cell.checkpoint, score, read)
        study.samples += [shown for item in texts.values() for shown in item]
    study.maps.sort(key=lambda one: (one.task, one.checkpoint))
    study.series += series_of(measured, checkpoints, lineage)
    return study


def _of_phase_end(study: Study, checkpoint: Checkpoint, score: str, read: Sequence[ItemResult]) -> None:
    """Heat maps and efforts are shown of the ends of phases; the last of them is what a reader sees."""
    if found := heat_map(checkpoint, score, read):
        earlier = next((one for one in study.maps if (one.task, one.checkpoint) == (found.task, checkpoint)), None)
        if earlier is None:
            study.maps.append(found)
        else:
            earlier.cells.update(found.cells)
    if point := thinking_point(checkpoint, score, read):
        study.thinking.setdefault(parse(score).family, []).append(point)


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
    names = {one.item for one in results}
    return sorted(names, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest())[:most]


def _first_asked(checkpoint: Checkpoint, read: Iterable[ItemResult], item: str) -> list[Shown]:
    """The first of an item's repeats."""
    return [Shown(checkpoint, one) for one in read if one.item == item and one.repeat == 0][:1]


def of_results(read: Mapping[tuple[Checkpoint, str], Sequence[ItemResult]]) -> Results:
    """Of results that are at hand."""
    return lambda cell: read.get((cell.checkpoint, cell.score), ())
