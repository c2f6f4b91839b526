"""One capability over a model's life: its score at every checkpoint in the order of training, with gaps where a
checkpoint was not asked.

A series follows one line of descent. Values of items are means over their repeats, clusters are what is drawn: items
that share a source are one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from k2model.evals.items import Grade, ItemResult
from k2model.evals.matrix import Checkpoint
from k2model.evals.scores import ScoreRow

POOLED = 4  # neighbouring checkpoints in one average, as K2's base track prints them


@dataclass(frozen=True)
class ItemValues:
    """What came of the items of one score at one checkpoint: value of each and its cluster, by item. Values are 0 to 1,
    or of a document its nats a target."""

    values: Mapping[str, float]
    clusters: Mapping[str, str]

    @classmethod
    def of(cls, results: Iterable[ItemResult], loss: bool = False) -> "ItemValues":
        """Of one score's results; those without a verdict are left out, repeats are averaged."""
        found: dict[str, list[float]] = {}
        clusters: dict[str, str] = {}
        for one in results:
            if one.grade is not Grade.UNSCORED:
                found.setdefault(one.item, []).append(one.value / one.tokens if loss else one.value)
                clusters[one.item] = one.cluster
        return cls({item: sum(values) / len(values) for item, values in found.items()}, clusters)

    def by_cluster(self, among: Iterable[str] | None = None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(Sum of values, items) of each cluster, in the order of their names; `among`: these items alone."""
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for item in self.values if among is None else among:
            cluster = self.clusters[item]
            sums[cluster] = sums.get(cluster, 0.0) + self.values[item]
            counts[cluster] = counts.get(cluster, 0) + 1
        names = sorted(sums)
        return np.array([sums[name] for name in names]), np.array([counts[name] for name in names], dtype=np.int64)


@dataclass(frozen=True)
class Point:
    """A checkpoint that was asked: its row, and the values of its items where they are kept."""

    checkpoint: Checkpoint
    row: ScoreRow
    items: ItemValues | None = None

    @property
    def tokens(self) -> int:
        return self.checkpoint.tokens

    @property
    def value(self) -> float:
        return self.row.value


@dataclass(frozen=True)
class Series:
    """`points` in the order of training, `missing` the checkpoints that could have been asked and were not."""

    score: str
    points: tuple[Point, ...]
    missing: tuple[Checkpoint, ...] = ()

    @property
    def rows(self) -> list[ScoreRow]:
        return [point.row for point in self.points]

    @property
    def chance(self) -> float | None:
        return next((row.chance for row in self.rows if row.chance is not None), None)

    @property
    def is_accuracy(self) -> bool:
        return self.points[0].row.is_accuracy

    def phase_ends(self) -> dict[str, Point]:
        """The points that end a phase, by phase."""
        return {point.checkpoint.phase: point for point in self.points if point.checkpoint.last}


@dataclass(frozen=True)
class Pool:
    """The mean of `size` neighbours, in the middle of their tokens."""

    tokens: float
    value: float
    size: int


def pooled(series: Series, size: int = POOLED) -> list[Pool]:
    """Averages of `size` neighbouring checkpoints, none over a phase's border, counted back from each phase's end so
    that its last checkpoint is in one; what is left at its beginning is in none."""
    found: list[Pool] = []
    by_phase: dict[str, list[Point]] = {}
    for point in series.points:
        by_phase.setdefault(point.checkpoint.phase, []).append(point)
    for points in by_phase.values():
        for first in range(len(points) % size, len(points), size):
            group = points[first : first + size]
            tokens, value = (sum(values) / size for values in zip(*((p.tokens, p.value) for p in group), strict=True))
            found.append(Pool(tokens, value, size))
    return found


def series_of(
    measured: Mapping[str, Sequence[Point]], missing: Mapping[str, Sequence[Checkpoint]], lineage: Sequence[str]
) -> list[Series]:
    """A series for each score along the phases of `lineage`; `missing`: by score the checkpoints that were not
    measured."""
    found = []
    for score, points in measured.items():
        own = sorted((p for p in points if p.checkpoint.phase in lineage), key=lambda p: p.checkpoint)
        gaps = sorted(one for one in missing.get(score, ()) if one.phase in lineage)
        if own:
            found.append(Series(score, tuple(own), tuple(gaps)))
    return found
