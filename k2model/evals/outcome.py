"""What one group of scores leaves: rows for `scores.json` and a sample per item."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from k2model.evals.intervals import mean_interval, wilson

DIGITS = 6  # of the numbers written; far below their intervals, and the same on every platform


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
    rows: list[dict[str, Any]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


def accuracy(
    phase: str, samples: Sequence[Sample], mean_tokens: float | None = None, chance: float | None = None
) -> dict[str, Any]:
    """The row of one score whose samples these are, with Wilson's interval."""
    right, n = sum(sample.verdict for sample in samples), len(samples)
    low, high = wilson(right, n)
    return _row(phase, samples[0].score, right / n, n, low, high, "accuracy", mean_tokens, chance)


def loss(phase: str, score: str, nats: Sequence[float], targets: Sequence[int]) -> dict[str, Any]:
    """The row of a held-out loss from each document's sum of nats and number of targets."""
    value, low, high = mean_interval(nats, targets)
    return _row(phase, score, value, len(targets), low, high, "nats/token", None, None)


def _row(
    phase: str, score: str, value: float, n: int, low: float, high: float,
    unit: str, mean_tokens: float | None, chance: float | None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "phase": phase,
        "score": score,
        "value": round(value, DIGITS),
        "n": n,
        "low": round(low, DIGITS),
        "high": round(high, DIGITS),
        "unit": unit,
        "mean_tokens": None if mean_tokens is None else round(mean_tokens, DIGITS),
        "chance": None if chance is None else round(chance, DIGITS),
    }
