"""The scores of two models beside each other, and where both were asked the same items what these say together.

A score of one side alone, and one that cannot be paired, is a row as well and says why.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from k2model.artifacts import ArtifactRef, Store
from k2model.errors import K2Error
from k2model.evals.cells import results_of
from k2model.evals.compare import compare
from k2model.evals.items import ItemResult
from k2model.evals.scores import ScoreRow, by_score, load_scores
from k2model.evals.statistics import Paired
from k2model.recipe.safety import SAFETY
from k2model.reporting.scores import order_key
from k2model.safety import read_safety
from k2model.safety.compare import compared as compared_safety
from k2model.safety.judging import read_samples

LEVEL = 0.05
FEWEST = 6  # clusters that can tell anything: of fewer all fall on one side by chance more often than that


@dataclass(frozen=True)
class Measured:
    """What was measured of one model: `rows`, and what came of each item where that is there. `missing`: what of it
    cannot be read, and why."""

    rows: Mapping[str, ScoreRow]
    items: Mapping[str, Sequence[ItemResult]]
    safety: ArtifactRef | None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoreLine:
    """A score of both sides: `first`, `second` as each was measured, None where it was not; `paired` on the items that
    both were asked, None with the reason in `problem`. `higher_is_better`: whether more is."""

    score: str
    first: ScoreRow | None
    second: ScoreRow | None
    paired: Paired | None = None
    problem: str = ""
    higher_is_better: bool = True

    @property
    def significant(self) -> bool:
        """Whether the two differ by more than the choice of items explains: by McNemar's test where that is allowed,
        else by the paired interval, at 5%."""
        if self.paired is None:
            return False
        if self.paired.p is not None:
            return self.paired.p < LEVEL
        return self.paired.clusters >= FEWEST and not self.paired.low <= 0 <= self.paired.high

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `within noise` or `too few to tell` for the second; "" where the two cannot be paired."""
        if self.paired is None:
            return ""
        if self.paired.clusters < FEWEST:
            return "too few to tell"
        if not self.significant:
            return "within noise"
        return "better" if (self.paired.difference > 0) is self.higher_is_better else "worse"


def measured(store: Store, scores: ArtifactRef | None, safety: ArtifactRef | None) -> Measured:
    """Read from the artifacts of one model, None for those that it has not. What cannot be read is missing."""
    rows: dict[str, ScoreRow] = {}
    items: dict[str, list[ItemResult]] = {}
    missing: list[str] = []
    try:
        found = load_scores(store, [scores] if scores else [])
        rows = {row.score: row for row in found}
        items = by_score(results_of(store, scores)) if scores else {}
    except K2Error as error:
        missing.append(f"scores of {scores.name if scores else ''}: {error}")
    try:
        phase = next((row.phase for row in rows.values()), "")
        rows |= {row.score: row.as_score(phase) for row in read_safety(store, safety).rows} if safety else {}
    except K2Error as error:
        missing.append(f"safety of {safety.name if safety else ''}: {error}")
        safety = None
    return Measured(rows, items, safety, tuple(missing))


def score_lines(store: Store, first: Measured, second: Measured) -> list[ScoreLine]:
    """Every score that either side has, in reading order."""
    safety = _safety(store, first, second)
    found = []
    for score in sorted({*first.rows, *second.rows}, key=lambda one: _order(one, first, second)):
        one, other = first.rows.get(score), second.rows.get(score)
        more = (one or other) is None or (one or other).is_accuracy  # type: ignore[union-attr]
        if one is None or other is None:
            found.append(
                ScoreLine(score, one, other, None, f"only of the {'second' if one is None else 'first'}", more)
            )
        elif score.startswith(f"{SAFETY}/"):
            pair, better = safety.get(score, (None, True))
            why = "" if pair else "no prompts that both have a verdict on, or of a single filling"
            found.append(ScoreLine(score, one, other, pair, why, better))
        else:
            pair, why = _paired(first.items.get(score, ()), second.items.get(score, ()))
            found.append(ScoreLine(score, one, other, pair, why, more))
    return found


def _order(score: str, first: Measured, second: Measured) -> Any:
    row = first.rows.get(score) or second.rows[score]
    return order_key(score, row.group)


def _paired(first: Sequence[ItemResult], second: Sequence[ItemResult]) -> tuple[Paired | None, str]:
    if not first or not second:
        side = "either" if not first and not second else "the first" if not first else "the second"
        return None, f"what came of the items of {side} is not here"
    try:
        (one,) = compare(first, second)
    except K2Error as error:
        return None, str(error).partition(": ")[2] or str(error)
    if math.isnan(one.result.difference):
        return None, "no item with a verdict of both"
    return one.result, ""


def _safety(store: Store, first: Measured, second: Measured) -> dict[str, tuple[Paired, bool]]:
    if first.safety is None or second.safety is None:
        return {}
    pairs = compared_safety(read_samples(store, first.safety), read_samples(store, second.safety))
    return {one.score: (one.paired, one.higher_is_better) for one in pairs}


def expected_by_luck(lines: Sequence[ScoreLine]) -> float:
    """How many of the paired tests would be significant if nothing differed."""
    return LEVEL * sum(one.paired is not None for one in lines)
