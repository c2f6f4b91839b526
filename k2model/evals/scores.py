"""The rows of `scores.json`: how a score and its 95% interval are computed, written and read again.

Intervals cover the choice of items alone. Another seed of training moves a score by more than that.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


SCORES, SAMPLES = "scores.json", "attachments/samples.jsonl"  # of an artifact of kind `scores`
BENCHMARKS = ("group", "cut_off", "too_long")  # fields that rows of benchmarks alone have
DIGITS = 6  # of the numbers written; far below their intervals, and the same on every platform


@dataclass(frozen=True)
class ScoreRow:
    """One measurement: `value` with its 95% interval `low` to `high`, in `unit` ("accuracy" or "nats/token").

    `n` counts items (accuracy) or documents (loss), `mean_tokens` is the mean length of what was generated, `chance`
    what a guesser gets. Of a recipe's own benchmark `group` is where tables show it, and `cut_off` and `too_long` count
    the items of `n` whose answer had no end, and those that were not asked since there was no room for them.
    `overlap`, the share of the items that a training document overlaps with, is counted by curation and put beside a
    score when it is reported: it is not in the `scores.json` of a phase.
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
    group: str | None = None
    cut_off: int | None = None
    too_long: int | None = None

    @property
    def is_accuracy(self) -> bool:
        """Whether it is a share of right answers, 0 to 1, and not a loss."""
        return self.unit == "accuracy"

    def to_dict(self) -> dict[str, Any]:
        """Its fields; those of benchmarks where they are known."""
        return {name: value for name, value in asdict(self).items() if value is not None or name not in BENCHMARKS}


def write_scores(path: Path, rows: Iterable[ScoreRow]) -> None:
    """`scores.json` of one phase, without the overlap."""
    written = [{name: value for name, value in row.to_dict().items() if name != "overlap"} for row in rows]
    path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def read_scores(content: bytes, where: str) -> list[ScoreRow]:
    """The rows of one `scores.json`, `where` it lies; fields that are not known are left out.

    Raises EvaluationError naming file, row and field.
    """
    known = {f.name for f in fields(ScoreRow)}
    required = {f.name for f in fields(ScoreRow) if f.default is MISSING}
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


class Grade(str, Enum):
    RIGHT = "right"
    WRONG = "wrong"
    CUT_OFF = "cut off"  # the model had not come to an end when it had written as much as it may
    TOO_LONG = "too long"  # not asked: the model has no room for prompt and answer


@dataclass(frozen=True)
class Sample:
    """One item: what the model saw, what it wrote, what was wanted, and what came of it."""

    score: str
    prompt: str
    generation: str
    answer: str
    grade: Grade

    @property
    def right(self) -> bool:
        return self.grade is Grade.RIGHT


def read_samples(content: bytes) -> list[Sample]:
    """The samples of one `samples.jsonl`, in the order they were asked."""
    rows = (json.loads(line) for line in content.splitlines())
    return [Sample(**row | {"grade": Grade(row["grade"])}) for row in rows]


@dataclass(frozen=True)
class Outcome:
    """What one group of scores leaves: rows, and a sample per item where items were asked."""

    rows: list[ScoreRow] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


def accuracy(
    phase: str, samples: Sequence[Sample], mean_tokens: float | None = None, chance: float | None = None,
    group: str | None = None,
) -> ScoreRow:  # fmt: skip
    """The row of one score whose samples these are, with Wilson's interval. Only what is right counts as right; with a
    `group` it is told how many were cut off or too long."""
    grades = [sample.grade for sample in samples]
    right, n = grades.count(Grade.RIGHT), len(grades)
    row = _row(phase, samples[0].score, (right / n, *wilson(right, n)), n, "accuracy", mean_tokens, chance)
    if group is None:
        return row
    return replace(row, group=group, cut_off=grades.count(Grade.CUT_OFF), too_long=grades.count(Grade.TOO_LONG))


def loss(phase: str, score: str, nats: Sequence[float], targets: Sequence[int]) -> ScoreRow:
    """The row of a held-out loss from each document's sum of nats and number of targets."""
    return _row(phase, score, mean_interval(nats, targets), len(targets), "nats/token")


def _row(
    phase: str, score: str, interval: tuple[float, float, float], n: int, unit: str, mean_tokens: float | None = None,
    chance: float | None = None,
) -> ScoreRow:  # fmt: skip
    value, low, high = (round(number, DIGITS) for number in interval)
    mean_tokens, chance = (None if one is None else round(one, DIGITS) for one in (mean_tokens, chance))
    return ScoreRow(phase, score, value, n, low, high, unit, mean_tokens, chance)
