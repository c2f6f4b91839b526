"""The rows of `scores.json`: how a score and its 95% interval are computed, written and read again.

Intervals cover the choice of items alone. Another seed of training moves a score by more than that.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from k2model.errors import EvaluationError

if TYPE_CHECKING:
    from k2model.artifacts import ArtifactRef, Store

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


SCORES = "scores.json"  # of an artifact of kind `scores`
DIGITS = 6  # of the numbers written; far below their intervals, and the same on every platform


@dataclass(frozen=True)
class ScoreRow:
    """One measurement: `value` with its 95% interval `low` to `high`, in `unit` ("accuracy" or "nats/token").

    `n` counts items (accuracy) or documents (loss), `mean_tokens` is the mean length of what was generated, `chance`
    what a guesser gets. `overlap`, the share of the items that a training document overlaps with, is counted by
    curation and put beside a score when it is reported: it is not in the `scores.json` of a phase.
    """

    phase: str
    score: str
    value: float
    n: int
    low: float
    high: float
    unit: str
    mean_tokens: float | None = None
    chance: float | None = None
    overlap: float | None = None

    @property
    def is_accuracy(self) -> bool:
        """Whether it is a share of right answers, 0 to 1, and not a loss."""
        return self.unit == "accuracy"


def write_scores(path: Path, rows: Iterable[ScoreRow]) -> None:
    """`scores.json` of one phase, without the overlap."""
    written = [{name: value for name, value in asdict(row).items() if name != "overlap"} for row in rows]
    path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def read_scores(content: bytes, where: str) -> list[ScoreRow]:
    """The rows of one `scores.json`, `where` it lies; fields that are not known are left out.

    Raises EvaluationError naming file, row and field.
    """
    known = {f.name for f in fields(ScoreRow)}
    required = known - {"mean_tokens", "chance", "overlap"}
    rows = []
    for number, row in enumerate(json.loads(content)):
        missing = sorted(required - row.keys())
        if missing:
            raise EvaluationError(
                f"{where}: row {number} lacks {', '.join(missing)} (it has {', '.join(sorted(row))}); "
                "evaluate the phase again, its scores do not have the agreed fields"
            )
        rows.append(ScoreRow(**{name: row[name] for name in known & row.keys()}))
    return rows


def load_scores(store: "Store", refs: "Iterable[ArtifactRef]") -> list[ScoreRow]:
    """All rows of several `scores` artifacts, in the order of the references. Raises the store's errors as well."""
    return [row for ref in refs for row in read_scores(store.read(ref, SCORES), f"{ref.uri}/{SCORES}")]


@dataclass(frozen=True)
class Sample:
    """One item: what the model saw, what it wrote, what was wanted, and whether that was right."""

    score: str
    prompt: str
    generation: str
    answer: str
    verdict: bool


@dataclass(frozen=True)
class Outcome:
    """What one group of scores leaves: rows, and a sample per item where items were asked."""

    rows: list[ScoreRow] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


def accuracy(
    phase: str, samples: Sequence[Sample], mean_tokens: float | None = None, chance: float | None = None
) -> ScoreRow:
    """The row of one score whose samples these are, with Wilson's interval."""
    right, n = sum(sample.verdict for sample in samples), len(samples)
    low, high = wilson(right, n)
    return _row(phase, samples[0].score, right / n, n, low, high, "accuracy", mean_tokens, chance)


def loss(phase: str, score: str, nats: Sequence[float], targets: Sequence[int]) -> ScoreRow:
    """The row of a held-out loss from each document's sum of nats and number of targets."""
    value, low, high = mean_interval(nats, targets)
    return _row(phase, score, value, len(targets), low, high, "nats/token", None, None)


def _row(
    phase: str, score: str, value: float, n: int, low: float, high: float,
    unit: str, mean_tokens: float | None, chance: float | None,
) -> ScoreRow:  # fmt: skip
    return ScoreRow(
        phase=phase,
        score=score,
        value=round(value, DIGITS),
        n=n,
        low=round(low, DIGITS),
        high=round(high, DIGITS),
        unit=unit,
        mean_tokens=None if mean_tokens is None else round(mean_tokens, DIGITS),
        chance=None if chance is None else round(chance, DIGITS),
    )
