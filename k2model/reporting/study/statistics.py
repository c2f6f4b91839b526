"""When a capability emerged, and whether it was lost again: two tests, and what keeps many looks from inventing either.

Emergence. At every checkpoint: is the share of right items above what a guesser gets? The exact one-sided binomial
test, over clusters of items (one that is right in part counts with its whole share, and what remains of an item is cut
off: never too small a p). Where guessing gets nothing the test is against `FLOOR`, or a single lucky answer would do.
The p-values of all checkpoints of a capability are corrected by Holm (1979), which holds whatever their dependence:
neighbours are nearly the same model, asked the same items. The first checkpoint left is the emergence; on a capability
that never rises above chance one is found with a probability of at most `ALPHA`.

Forgetting. Between the best checkpoint and the last one: did more clusters of items get worse than better? The exact
one-sided sign test over those that changed, which for single items that are right or wrong is McNemar's. The best of
many is best by luck as well, so p is multiplied by the number of checkpoints that could have been it (Bonferroni):
where nothing was lost, a loss is found with a probability of at most `ALPHA`. Of very many checkpoints that would find
nothing, so the best is looked for among the ends of phases and others evenly between, `CANDIDATES` at most; their
places do not depend on what was measured there. Where the items are not the same, Fisher's exact test on both counts
stands in for it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from k2model.evals.matrix import Checkpoint
from k2model.reporting.study.series import ItemValues, Point, Series

ALPHA = 0.05  # of a false emergence, and of a false loss, in one capability over its whole life
FLOOR = 0.01  # what a guesser is taken to get where nothing is known of it
CANDIDATES = 32  # checkpoints from which a capability can be seen to have dropped
Z95 = 1.959963984540054  # 0.975 quantile of the normal distribution


def binomial_tail(right: int, n: int, share: float) -> float:
    """P(X >= right) of `n` draws, each right with probability `share`; exact, summed from the smallest term."""
    if right <= 0:
        return 1.0
    if not 0 < share < 1:
        return float(share >= 1)
    k = np.arange(right, n + 1)
    logs = _log_choose(n, k) + k * math.log(share) + (n - k) * math.log1p(-share)
    return min(1.0, math.fsum(np.sort(np.exp(logs))))


def fisher_tail(right: int, n: int, other_right: int, other_n: int) -> float:
    """P(at most `right` of `n`) where `right + other_right` right ones fall at random on both: Fisher's exact test,
    one-sided, that the first gets less than the second."""
    total, drawn = n + other_n, right + other_right

    k = np.arange(max(0, drawn - other_n), right + 1)
    logs = _log_choose(n, k) + _log_choose(other_n, drawn - k) - _log_choose(total, np.array(drawn))
    return min(1.0, math.fsum(np.sort(np.exp(logs))))


def _log_choose(n: int, k: "np.ndarray") -> "np.ndarray":
    factorials = _log_factorials(1 << n.bit_length())
    return factorials[n] - factorials[k] - factorials[n - k]


@lru_cache(maxsize=32)
def _log_factorials(most: int) -> "np.ndarray":
    """Of 0 to `most`."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number: those at or below alpha are rejected with a family-wise error of alpha."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, least = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = least
    return adjusted


def counts_of(point: Point) -> tuple[int, int]:
    """(Right, all) in whole clusters; of a row whose items are not kept, in items."""
    if point.items is None:
        return math.floor(point.row.value * point.row.n + 1e-6), point.row.n
    sums, counts = point.items.by_cluster()
    return math.floor(float((sums / counts).sum()) + 1e-9), len(counts)


@dataclass(frozen=True)
class Emergence:
    """The first checkpoint above chance. p: Holm's, of `looks` checkpoints. against: the share that was tested."""

    checkpoint: Checkpoint
    value: float
    p: float
    looks: int
    against: float


def emergence(series: Series, alpha: float = ALPHA) -> Emergence | None:
    """None where no checkpoint is above chance, and for a loss, which has no chance level."""
    if not series.is_accuracy:
        return None
    against = max(series.chance or 0.0, FLOOR)
    adjusted = holm([binomial_tail(*counts_of(point), against) for point in series.points])
    for point, p in zip(series.points, adjusted, strict=True):
        if p <= alpha:
            return Emergence(point.checkpoint, point.value, p, len(adjusted), against)
    return None


@dataclass(frozen=True)
class Drop:
    """From the best checkpoint to the last: `difference` is the last value minus the best, below 0 unless it is of a
    loss, with a 95% interval where the items are the same. p: of the test, times the `looks` at checkpoints that could
    have been best."""

    best: Checkpoint
    last: Checkpoint
    best_value: float
    difference: float
    low: float | None
    high: float | None
    p: float
    looks: int
    paired: bool

    @property
    def lost(self) -> bool:
        return self.p <= ALPHA


def drop(series: Series) -> Drop | None:
    """How far the last checkpoint is below the best candidate before it, of a loss above; None where none was better,
    and of a loss whose documents are not kept."""
    *before, last = series.points
    if not before:
        return None
    before, up = candidates(before), 1 if series.is_accuracy else -1
    best = max(before, key=lambda point: up * point.value)  # the first of equals
    if up * best.value <= up * last.value or (up < 0 and not _same_items(best, last)):
        return None
    p, low, high, paired = _compare(best, last, up)
    looks = len(before)
    return Drop(
        best.checkpoint, last.checkpoint, best.value, last.value - best.value, low, high, min(1.0, p * looks), looks,
        paired,
    )  # fmt: skip


def candidates(points: Sequence[Point], most: int = CANDIDATES) -> list[Point]:
    """All of them where they are few; else ends of phases, the latest first, and others evenly between."""
    if len(points) <= most:
        return list(points)
    ends = [point for point in points if point.checkpoint.last][-most:]
    others = [point for point in points if not point.checkpoint.last]
    room = most - len(ends)
    step = -(-len(others) // room) if room else len(others) + 1
    return sorted([*ends, *others[step - 1 :: step]], key=lambda point: point.checkpoint)


def _same_items(best: Point, last: Point) -> bool:
    return bool(best.items and last.items and best.items.values.keys() == last.items.values.keys())


def _compare(best: Point, last: Point, up: int) -> tuple[float, float | None, float | None, bool]:
    """(p of no loss, interval of the difference, whether the items are the same). `up`: 1 where more is better, else
    -1. A loss is a mean over targets and its documents are of any length, so that it has no interval here."""
    if not _same_items(best, last) or best.items is None or last.items is None:
        (first_right, first_n), (right, n) = counts_of(best), counts_of(last)
        return fisher_tail(right, n, first_right, first_n), None, None, False
    changed = up * changes(best.items, last.items)
    worse, better = int((changed < -1e-12).sum()), int((changed > 1e-12).sum())
    p = binomial_tail(worse, worse + better, 0.5)
    if up < 0:
        return p, None, None, True
    mean = last.value - best.value
    spread = float(changed.std(ddof=1)) / math.sqrt(len(changed)) if len(changed) > 1 else 0.0
    return p, mean - Z95 * spread, mean + Z95 * spread, True


def changes(first: ItemValues, second: ItemValues) -> np.ndarray:
    """The second's mean minus the first's in every cluster of the items that both were asked."""
    common = [item for item in first.values if item in second.values]
    (sums, counts), (others, _) = first.by_cluster(common), second.by_cluster(common)
    return (others - sums) / counts
