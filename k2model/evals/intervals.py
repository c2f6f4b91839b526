"""95% intervals of what is measured: a share of right answers, and a mean over documents.

They cover the choice of items alone. Another seed of training moves a score by more than that.
"""

import math
from collections.abc import Sequence

Z95 = 1.959963984540054  # 0.975 quantile of the normal distribution


def wilson(right: int, n: int) -> tuple[float, float]:
    """Wilson's score interval (1927) of `right` out of `n`; sound near 0 and 1, where scores live.

    Raises ValueError when there are no items or more right ones than items.
    """
    if not 0 <= right <= n or n == 0:
        raise ValueError(f"{right} right of {n} items: expected at least one item and no more right ones than items")
    share, z2 = right / n, Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(sums: Sequence[float], counts: Sequence[int]) -> tuple[float, float, float]:
    """(mean, low, high) of `sum(sums) / sum(counts)` where documents, not tokens, are the sample.

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
