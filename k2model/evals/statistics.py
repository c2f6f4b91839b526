"""Intervals of scores and paired tests between two models, over items that may share a source.

Items of one document, or one item asked several times, resemble each other: they are a cluster, and clusters are what
is drawn. All of it covers the choice of items alone; another seed of training moves a score by more than that.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054  # 0.975 quantile of the normal distribution
RESAMPLES = 4_000  # of a bootstrap; moves an end of a 95% interval by about 1/40 of its width
SEED = 0


def wilson(right: float, n: float) -> tuple[float, float]:
    """Wilson's score interval (1927) of `right` out of `n`; sound near 0 and 1, where scores live. `n` is real where
    it is an effective number of items.

    Raises ValueError when there are no items or more right ones than items.
    """
    if not 0 <= right <= n or n == 0:
        raise ValueError(f"{right} right of {n} items: expected at least one item and no more right ones than items")
    share, z2 = right / n, Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(sums: Sequence[float], counts: Sequence[int]) -> tuple[float, float, float]:
    """(mean, low, high) of `sum(sums) / sum(counts)` where clusters are the sample: documents of `counts` tokens.

    Normal approximation of a ratio estimator (Cochran, Sampling Techniques, 6.4): tokens of one
    document resemble each other, so the spread is that of whole documents around the mean. With a
    single document the interval is the mean itself.

    Raises ValueError when nothing was counted.
    """
    total, n = sum(counts), len(counts)
    if total == 0:
        raise ValueError("no targets to take a mean over")
    mean = math.fsum(sums) / total
    if n < 2:
        return mean, mean, mean
    squares = math.fsum((s - mean * c) ** 2 for s, c in zip(sums, counts, strict=True))
    half = Z95 * math.sqrt(squares * n / (n - 1)) / total
    return mean, mean - half, mean + half


def accuracy_interval(values: Sequence[float], clusters: Sequence[str]) -> tuple[float, float]:
    """95% interval of the mean of values between 0 and 1.

    Rights and wrongs: Wilson's, over the effective number of items where clusters hold several (n over the design
    effect: Kish, Survey Sampling, 8.2; with Wilson's interval: Dean and Pagano 2015); where all are right or all wrong,
    clusters say nothing of their likeness, so each counts as one item. Marks in between: a bootstrap over clusters. A
    single cluster counts as one item.

    Raises ValueError when there are no values.
    """
    n = len(values)
    if not n:
        raise ValueError("no items to take an interval over")
    sums, counts = by_cluster(values, clusters)
    mean = math.fsum(values) / n
    if len(sums) == 1:  # nothing tells how much another would differ
        return wilson(mean, 1)
    if any(value not in (0.0, 1.0) for value in values):
        drawn = _resampled(sums, counts)
        low, high = np.quantile(drawn, (0.025, 0.975))
        return float(low), float(high)
    if len(sums) == n:
        return wilson(round(mean * n), n)
    if mean in (0.0, 1.0):
        return wilson(mean * len(sums), len(sums))
    effective = min(float(n), max(1.0, mean * (1 - mean) / _variance_of_mean(sums, counts, mean)))
    return wilson(mean * effective, effective)


def _variance_of_mean(sums: NDArray[np.float64], counts: NDArray[np.float64], mean: float) -> float:
    """Of a ratio estimator over clusters, as in `mean_interval`; tiny rather than 0 where all clusters are alike."""
    m = len(sums)
    squares = float(((sums - mean * counts) ** 2).sum())
    return max(squares * m / (m - 1) / float(counts.sum()) ** 2, 1e-12)


def by_cluster(values: Sequence[float], clusters: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums and counts of each cluster, in the order in which they first appear."""
    places = {name: place for place, name in enumerate(dict.fromkeys(clusters))}
    of = np.array([places[name] for name in clusters])
    return np.bincount(of, np.asarray(values, float)).astype(np.float64), np.bincount(of).astype(np.float64)


def _resampled(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of RESAMPLES draws of as many clusters as there are, with replacement, always the same ones."""
    rng, m = np.random.default_rng(SEED), len(sums)
    means = np.empty(RESAMPLES)
    step = max(1, 4_000_000 // m)
    for first in range(0, RESAMPLES, step):
        drawn = rng.integers(0, m, (min(step, RESAMPLES - first), m))
        means[first : first + len(drawn)] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means


@dataclass(frozen=True)
class Paired:
    """Two models on the items that both were asked: `difference` is the second's mean minus the first's, with a 95%
    bootstrap interval over `clusters`; `gained` and `lost` items are right in the second alone or in the first alone,
    and `p` is McNemar's exact two-sided probability of that under no difference (1947), None where values are no rights
    and wrongs or items share a cluster, which it does not allow for."""

    n: int
    clusters: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    gained: int
    lost: int
    p: float | None


def paired(first: Mapping[str, float], second: Mapping[str, float], clusters: Mapping[str, str]) -> Paired:
    """Compare values by item; `clusters` has the cluster of each.

    Raises ValueError when no item is in both.
    """
    common = [item for item in first if item in second]
    if not common:
        raise ValueError("the two were not asked a single item in common")
    ours, theirs = ([side[item] for item in common] for side in (first, second))
    differences = [b - a for a, b in zip(ours, theirs, strict=True)]
    sums, counts = by_cluster(differences, [clusters[item] for item in common])
    low, high = np.quantile(_resampled(sums, counts), (0.025, 0.975))
    gained, lost = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    n = len(common)
    decided = all(value in (0.0, 1.0) for value in (*ours, *theirs)) and len(sums) == n
    return Paired(
        n, len(sums), math.fsum(ours) / n, math.fsum(theirs) / n, math.fsum(differences) / n, float(low), float(high),
        gained, lost, mcnemar(gained, lost) if decided else None,
    )  # fmt: skip


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p of McNemar's test: of `gained + lost` items that the two answer differently, each falls on
    either side with probability 1/2. 1.0 where there are none."""
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**n)
