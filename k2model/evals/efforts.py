"""What thinking buys: accuracy against the thinking tokens spent, by reasoning effort and by a forced budget.

A point is what came of the same items at one effort, or with the trace closed for the model behind so many tokens
(budget forcing, Muennighoff et al. 2025; only ever shortened here: nothing makes a model think on). Mean and median are
of the tokens really spent, those of answers that were cut off among them: an effort that runs into its limit shows.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from k2model.documents.families.generated import GENERATED
from k2model.documents.schema import Item
from k2model.evals.backend import Backend, Generation, Prompt, Sampling
from k2model.evals.items import Grade, ItemResult
from k2model.evals.scores import wilson
from k2model.recipe.evaluation import Mode


class EffortPoint(NamedTuple):
    """effort: a mode that thinks. budget: tokens after which the trace was closed; None = never. accuracy: with its 95%
    Wilson interval, over all items that have a verdict. cut_off: the share that came to no end."""

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


def ask_at_budgets(
    backend: Backend, items: Sequence[Item], mode: Mode, budgets: Sequence[int | None], sampling: Sampling
) -> list[ItemResult]:
    """Items of a generated family, asked in a mode that thinks, once at each budget; scores `<family>/<mode>@<budget>`.

    sampling: its `max_new_tokens` are room for the answer alone at a budget, and for all at None (no budget), whose
    score has the mode's name. Raises ValueError for a mode that does not think, and as `Backend.generate` does.
    """
    if not Prompt.of("", mode).closing:
        raise ValueError(f"mode {mode.value} has no trace that a budget could close; ask in think, low, medium or high")
    results: list[ItemResult] = []
    for budget in budgets:
        how = sampling
        if budget is not None:
            how = replace(sampling, max_new_tokens=budget + 1 + sampling.max_new_tokens, thinking_budget=budget)
        requests = [(Prompt.of(item["prompt"], mode), how) for item in items]
        own: dict[int, ItemResult] = {}
        for index, written in backend.generate(requests):
            score = f"{items[index]['family']}/{mode.value}" + ("" if budget is None else f"@{budget}")
            own[index] = _graded(score, items[index], written, how.seed)
        results += [own[index] for index in range(len(items))]
    return results


def _graded(score: str, item: Item, written: Generation, seed: int) -> ItemResult:
    right = written.complete and bool(GENERATED[item["family"]].family.check(item, written.answer))
    grade = Grade.CUT_OFF if not written.complete else Grade.RIGHT if right else Grade.WRONG
    return ItemResult(
        score, item["id"], item["id"], item["prompt"], written.text, written.answer, item["answer"], grade,
        float(right), written.trace, seed=seed, tokens=written.tokens, thinking_tokens=written.thinking_tokens,
    )  # fmt: skip


def _point(score: str, results: Sequence[ItemResult]) -> EffortPoint:
    family, effort, budget = _parts(score) or ("", "", None)
    grades = [result.grade for result in results]
    right, n = grades.count(Grade.RIGHT), len(grades)
    spent = [result.thinking_tokens for result in results]
    return EffortPoint(
        family, effort, budget, n, right / n, *wilson(right, n), statistics.fmean(spent), statistics.median(spent),
        grades.count(Grade.CUT_OFF) / n,
    )  # fmt: skip


_MODES: Mapping[str, Mode] = {mode.value: mode for mode in Mode if mode is not Mode.COMPLETION}


def _parts(score: str) -> tuple[str, str, int | None] | None:
    """(Family, mode, budget) of a score's name; None where it names no mode."""
    family, _, rest = score.rpartition("/")
    effort, _, budget = rest.partition("@")
    if effort not in _MODES or not (budget.isdigit() or not budget):
        return None
    return family, effort, int(budget) if budget else None
