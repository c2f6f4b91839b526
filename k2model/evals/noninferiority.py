"""Whether one model is no worse than another by more than a margin: one-sided statements on paired differences.

An interval of width 0 is no proof: two models that answer ten items alike may differ on every tenth of a thousand. So
rights and wrongs are tested by a score statistic that keeps its spread where nothing differs (Tango, Statistics in
Medicine 17, 1998, 891-908), exactly where items are few (Hsueh, Liu and Chen, Biometrics 57, 2001, 478-483): over
every table that could have come, at the worst rate of disagreement. Items that share a source count by their effective
number (Kish, Survey Sampling, 8.2), losses by the spread of whole documents around a ratio (Cochran, Sampling
Techniques, 6.4).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from k2model.evals.statistics import by_cluster

Floats = NDArray[np.float64]
EXACT = 200  # items up to which every table is counted; beyond, the normal approximation is as good
RATES = 33  # of disagreement among which the worst is looked for
FEW = 5  # clusters that differ, below which nothing is known of how alike the items of one are
FLIPS, SEED = 20_000, 0  # of signs, where there are too many to go through all


@dataclass(frozen=True)
class Bound:
    """`gain`, of the second model over the first, is at least `low` with the confidence asked for; both in the unit of
    the margin. passed: `low` lies above -margin. enough: a second model just like the first, which differs from it on
    as many items, would have passed; `needed`: about how many items that takes. `low` is -inf where nothing can be
    said."""

    gain: float
    low: float
    passed: bool
    enough: bool
    needed: int


def score_statistic(gained: Floats | float, lost: Floats | float, n: float, margin: float) -> Floats:
    """Tango's: how many standard errors the difference `(gained - lost) / n` lies above `margin`, the spread being the
    likeliest under that margin. Counts may be fractions."""
    b, c = np.asarray(gained, float), np.asarray(lost, float)
    linear = -b - c + (2 * n - b + c) * margin
    rate = (np.sqrt(np.maximum(linear**2 + 8 * n * c * margin * (1 - margin), 0.0)) - linear) / (4 * n)
    spread = n * (2 * np.clip(rate, max(0.0, -margin), None) + margin * (1 - margin))
    above = b - c - n * margin
    return np.where(np.abs(above) < 1e-9, 0.0, above / np.sqrt(np.maximum(spread, 1e-12)))


def difference_p(gained: float, lost: float, n: float, margin: float) -> float:
    """The one-sided probability of such a table, or one that speaks more for it, where the difference `(gained - lost)
    / n` is not above `margin`. Exact for whole counts of up to EXACT items."""
    if n > EXACT or any(value != int(value) for value in (gained, lost, n)):
        return 1.0 - NormalDist().cdf(float(score_statistic(gained, lost, n, margin)))
    return _exact_p(int(gained), int(lost), int(n), margin)


@lru_cache(maxsize=4096)
def _exact_p(gained: int, lost: int, n: int, margin: float) -> float:
    b, c = (side.ravel().astype(float) for side in np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij"))
    b, c = b[b + c <= n], c[b + c <= n]
    observed = float(score_statistic(gained, lost, n, margin))
    more = score_statistic(b, c, n, margin) >= observed - 1e-9
    b, c = b[more], c[more]
    factorials = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, n + 1)))))
    ways = factorials[n] - factorials[b.astype(int)] - factorials[c.astype(int)] - factorials[(n - b - c).astype(int)]
    least, most = max(0.0, -margin), (1 - margin) / 2
    worst = 0.0
    for rate in least + (most - least) * np.linspace(0.0, 1.0, RATES) ** 2:  # denser where models agree
        rates = (rate + margin, rate, 1 - 2 * rate - margin)
        logs = [math.log(max(one, 1e-300)) for one in rates]
        worst = max(worst, float(np.exp(ways + b * logs[0] + c * logs[1] + (n - b - c) * logs[2]).sum()))
    return min(1.0, worst)


def lower_bound(gained: float, lost: float, n: float, confidence: float, margin: float) -> tuple[float, bool]:
    """(The difference that is still credible at least, whether it lies above -`margin`), by inverting `difference_p`.
    What is below any credible one is looked for on the side of -`margin` that the test says, so that both agree."""
    level = 1 - confidence
    passed = difference_p(gained, lost, n, -margin) <= level
    low, high = (-margin, (gained - lost) / n) if passed else (-1.0, min(-margin, (gained - lost) / n))
    for _ in range(13):
        middle = (low + high) / 2
        low, high = (middle, high) if difference_p(gained, lost, n, middle) <= level else (low, middle)
    return low, passed


def bounded(differences: Sequence[float], clusters: Sequence[str], confidence: float, margin: float) -> Bound:
    """Of values between 0 and 1: `differences` are the second's minus the first's, an item each; more is better.

    Marks in between count as parts of an item, which overstates their spread. Of clusters that hold several items the
    counts are those of the effective number, and the margin of error is Student's where that was estimated.
    """
    gained, lost, n, freedom = effective(differences, clusters)
    z = student(confidence, freedom) if freedom else NormalDist().inv_cdf(confidence)
    confidence = min(NormalDist().cdf(z), 1 - 1e-12)
    low, passed = lower_bound(gained, lost, n, confidence, margin)
    half, gain = (gained + lost) / 2, (gained - lost) / n
    if margin <= 0:  # no number of items lets an equal model pass
        return Bound(gain, low, passed, True, 0)
    enough = passed or difference_p(half, half, n, -margin) <= 1 - confidence
    agreeing = math.log(1 - confidence) / math.log(1 - min(margin, 1 - 1e-9))  # where not one of them may differ
    needed = max(agreeing, z * z * 2 * half / n / margin**2) * len(differences) / n
    return Bound(gain, low, passed, enough, math.ceil(needed))


def effective(differences: Sequence[float], clusters: Sequence[str]) -> tuple[float, float, float, int]:
    """(What was gained, what was lost, of how many items, degrees of freedom), in effective items where clusters hold
    several. Where fewer than FEW clusters differ each counts as one item, and nothing is estimated: freedom is 0."""
    gained = math.fsum(one for one in differences if one > 0)
    lost = -math.fsum(one for one in differences if one < 0)
    sums, counts = by_cluster(differences, clusters)
    n, m = len(differences), len(sums)
    if m == n:
        return gained, lost, n, 0
    if np.count_nonzero(sums) < FEW:
        return gained * m / n, lost * m / n, m, 0
    mean = (gained - lost) / n
    independent = max(gained + lost - n * mean**2, 1e-12)
    effect = max(1.0, float(((sums - mean * counts) ** 2).sum()) * m / (m - 1) / independent)
    return gained / effect, lost / effect, n / effect, m - 1


def ratio(first: Sequence[float], second: Sequence[float], confidence: float, margin: float) -> Bound:
    """Of losses, nats of a document each: the gain is the share of the first's that the second saves (negative: loses).

    Documents are the sample, so the spread is theirs around the ratio, and the margin of error Student's.
    """
    ours, theirs = np.asarray(first, float), np.asarray(second, float)
    m, total = len(ours), float(ours.sum())
    gain = float((ours - theirs).sum()) / total
    if m < 2:
        return Bound(gain, -math.inf, False, False, 2)
    residuals = ours - theirs - gain * ours
    error = math.sqrt(float((residuals**2).sum()) * m / (m - 1)) / total
    half = student(confidence, m - 1) * error
    needed = math.ceil(m * (half / margin) ** 2) if margin > 0 else 0
    return Bound(gain, gain - half, gain - half > -margin, half < margin or margin <= 0, needed)


def mcnemar_gain(gained: int, lost: int) -> float:
    """McNemar's exact one-sided p: of the items that the two answer differently, so many or more fall to the second."""
    n = gained + lost
    return sum(math.comb(n, k) for k in range(gained, n + 1)) / 2**n


def flipped_signs(differences: Sequence[float], clusters: Sequence[str]) -> tuple[float, float]:
    """(One-sided p that the sum of `differences` is above 0, two-sided p): by all ways, or FLIPS of them, to give each
    cluster's difference the other sign (Fisher's randomisation of pairs). Exact where either sign is as likely."""
    sums = by_cluster(differences, clusters)[0]
    sums = sums[np.abs(sums) > 0]
    total, m = float(sums.sum()), len(sums)
    if not m:
        return 1.0, 1.0
    if 2**m <= FLIPS:
        signs = 1.0 - 2.0 * ((np.arange(2**m)[:, None] >> np.arange(m)) & 1)
        drawn, own = signs @ sums, 0
    else:
        rng, parts = np.random.default_rng(SEED), []
        for _ in range(FLIPS // 1000):
            parts.append((rng.integers(0, 2, (1000, m)) * 2.0 - 1.0) @ sums)
        drawn, own = np.concatenate(parts), 1  # what was seen is one of the ways
    near = 1e-9 * float(np.abs(sums).sum())
    more, far = int((drawn >= total - near).sum()), int((np.abs(drawn) >= abs(total) - near).sum())
    return (more + own) / (len(drawn) + own), (far + own) / (len(drawn) + own)


def holm(values: Sequence[float]) -> list[float]:
    """Probabilities corrected for their number (Holm, Scandinavian Journal of Statistics 6, 1979), in their order."""
    corrected, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        largest = max(largest, min(1.0, values[place] * (len(values) - rank)))
        corrected[place] = largest
    return corrected


@lru_cache(maxsize=1024)
def student(confidence: float, freedom: int) -> float:
    """Quantile of Student's distribution; infinite without a degree of freedom. Its cumulative distribution is summed
    by Simpson's rule over the angle whose tangent is t / sqrt(freedom)."""
    if freedom < 1:
        return math.inf
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    weights = np.array([1.0, *([4.0, 2.0] * 500)[:-1], 1.0])

    def below(angle: float) -> float:
        values = np.cos(np.linspace(0.0, angle, 1001)) ** (freedom - 1)
        return 0.5 + scale * float(weights @ values) * angle / 3000

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < confidence else (low, middle)
    return math.sqrt(freedom) * math.tan(low)
