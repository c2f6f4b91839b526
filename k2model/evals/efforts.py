"""What thinking buys: accuracy against the thinking tokens spent, by reasoning effort and by a forced budget.

A point is what came of the same items at one effort, or with the trace closed for the model behind so many tokens
(budget forcing, Muennighoff et al. 2025; only ever shortened here: nothing makes a model think on), as a recipe's
`evaluation.thinking_budgets` asks for. Mean and median are of the tokens really spent, those of answers that were cut
off among them: an effort that runs into its limit shows.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from k2model.evals.items import Grade, ItemResult
from k2model.evals.statistics import accuracy_interval
from k2model.recipe.evaluation import Mode


class EffortPoint(NamedTuple):
    """effort: a mode that thinks. budget: tokens after which the trace was closed; None = never. accuracy: with its 95%
    interval, over all items that have a verdict. cut_off: the share that came to no end."""

    family: str
    effort: str
    budget: int | None
    items: int
    accuracy: float
    low: float
    high: float
    thinking_mean: float
    thinking_median: float
    cut_off: float


def effort_points(results: Iterable[ItemResult]) -> list[EffortPoint]:
    """A point of every score that is named after a mode (`knights_8/high`, `knights_8/high@512`), in the order in which
    they come up; the results of other scores have none. Items that were not asked, or have no verdict, do not count."""
    asked: dict[str, list[ItemResult]] = {}
    for result in results:
        if result.grade not in (Grade.TOO_LONG, Grade.UNSCORED) and _parts(result.score) is not None:
            asked.setdefault(result.score, []).append(result)
    return [_point(score, own) for score, own in asked.items()]


def _point(score: str, results: Sequence[ItemResult]) -> EffortPoint:
    family, effort, budget = _parts(score) or ("", "", None)
    grades = [result.grade for result in results]
    values, n = [result.value for result in results], len(grades)
    low, high = accuracy_interval(values, [result.cluster for result in results])
    spent = [result.thinking_tokens for result in results]
    return EffortPoint(
        family, effort, budget, n, statistics.fmean(values), low, high, statistics.fmean(spent),
        statistics.median(spent), grades.count(Grade.CUT_OFF) / n,
    )  # fmt: skip


_MODES: Mapping[str, Mode] = {mode.value: mode for mode in Mode if mode is not Mode.COMPLETION}


def _parts(score: str) -> tuple[str, str, int | None] | None:
    """(Family, mode, budget) of a score's name; None where it names no mode."""
    family, _, rest = score.rpartition("/")
    effort, _, budget = rest.partition("@")
    if effort not in _MODES or not (budget.isdigit() or not budget):
        return None
    return family, effort, int(budget) if budget else None
