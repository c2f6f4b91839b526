"""Two models on the items that both were asked: the difference of every score they share, by paired tests.

A pair of scores on the same items says more than two intervals beside each other: what is hard for one is hard for the
other, and the difference of an item is free of that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from k2model.errors import EvaluationError
from k2model.evals.items import ItemResult
from k2model.evals.statistics import Paired, paired
from k2model.recipe.tasks import LOSS, POSITION_LOSS


@dataclass(frozen=True)
class Compared:
    """A score of both models; `only_first` and `only_second` count items that the other was not asked or has no verdict
    on. Of a loss the values are nats a target, a document each; less is better, so `gained` are those that became less.
    """

    score: str
    result: Paired
    only_first: int
    only_second: int


def compare(first: Sequence[ItemResult], second: Sequence[ItemResult]) -> list[Compared]:
    """Every score that both have, in the first's order.

    Raises EvaluationError when they share none, or an item of one name was another question.
    """
    mine, theirs = _by_score(first), _by_score(second)
    shared = [score for score in mine if score in theirs]
    if not shared:
        raise EvaluationError(
            f"the two share no score: one has {', '.join(mine) or 'none'}, the other {', '.join(theirs) or 'none'}"
        )
    return [_compared(score, mine[score], theirs[score]) for score in shared]


def _by_score(results: Sequence[ItemResult]) -> dict[str, dict[tuple[str, int], ItemResult]]:
    found: dict[str, dict[tuple[str, int], ItemResult]] = {}
    for one in results:
        found.setdefault(one.score, {})[one.item, one.repeat] = one
    return found


def _compared(
    score: str, mine: dict[tuple[str, int], ItemResult], theirs: dict[tuple[str, int], ItemResult]
) -> Compared:
    for key in mine:
        if key in theirs and mine[key].wanted != theirs[key].wanted:
            raise EvaluationError(
                f"{score}: item '{key[0]}' wants {mine[key].wanted!r} of the one and {theirs[key].wanted!r} of the "
                "other, so they were not asked the same; measure both anew on one file of items"
            )
    ours, others = _values(mine), _values(theirs)
    clusters = {_name(key): one.cluster for key, one in mine.items()}
    try:
        result = paired(ours, others, clusters)
    except ValueError as error:
        raise EvaluationError(f"{score}: {error}") from error
    if is_loss(score):
        result = replace(result, gained=result.lost, lost=result.gained)
    return Compared(score, result, len(ours.keys() - others.keys()), len(others.keys() - ours.keys()))


def _values(results: dict[tuple[str, int], ItemResult]) -> dict[str, float]:
    """By item and repeat; of a document its nats a target."""
    return {
        _name(key): one.value / one.tokens if is_loss(one.score) else one.value
        for key, one in results.items()
        if not math.isnan(one.value)
    }


def is_loss(score: str) -> bool:
    """Whether results of a score are nats, over their `tokens`."""
    return score.partition("/")[0] in (LOSS, POSITION_LOSS)


def _name(key: tuple[str, int]) -> str:
    return f"{key[0]}#{key[1]}"
