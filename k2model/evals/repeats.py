"""What several answers to each item say: pass@k, avg@k and maj@k, from what came of each.

Each is a mean over items of a value between 0 and 1, with the interval of `k2model.evals.statistics` over the items'
clusters: the choice of items, not that of draws, is what it covers.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from k2model.errors import EvaluationError, nearest
from k2model.evals.items import Grade, ItemResult
from k2model.evals.statistics import accuracy_interval

ENDED = (Grade.RIGHT, Grade.WRONG, Grade.MEASURED)


@dataclass(frozen=True)
class Repeated:
    """`measure` ("pass", "avg", "maj") at `k` answers an item.

    value: over all that has a verdict, what was cut off or had no room counting as wrong, with its 95% interval `low`
    to `high` over `items` items. completed: over what came to an end alone, of `completed_items`; None where there is
    no such item. An item is left out where too few answers are left. cut_off, too_long, unscored: answers, of all
    `answers`. seeds: of the requests, each once.
    """

    measure: str
    k: int
    value: float
    low: float
    high: float
    items: int
    completed: float | None
    completed_items: int
    answers: int
    cut_off: int
    too_long: int
    unscored: int
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.measure}@{self.k}"


def pass_at_k(n: int, right: int, k: int) -> float:
    """The probability that one of k answers drawn without replacement from n, of which some are right, is right: the
    unbiased estimator of Chen et al. (2021, equation 1), 1 - C(n - right, k) / C(n, k), as a product that neither
    overflows nor cancels.

    Raises ValueError where there are fewer answers than k or right ones are.
    """
    if not (1 <= k <= n and 0 <= right <= n):
        raise ValueError(f"pass@{k} of {n} answers, {right} of them right: expected 1 <= k <= n and 0 <= right <= n")
    if n - right < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / one for one in range(n - right + 1, n + 1))


def _pass(results: Sequence[ItemResult], k: int) -> float | None:
    return pass_at_k(len(results), sum(one.right for one in results), k) if len(results) >= k else None


def _avg(results: Sequence[ItemResult], k: int) -> float | None:
    """The mean of the first k answers."""
    first = [one.value for one in results if one.repeat < k]
    return math.fsum(first) / len(first) if first else None


def _maj(results: Sequence[ItemResult], k: int) -> float | None:
    """Whether what most of the first k answers say is right; what is tied is drawn from, so its mean counts. Whoever
    has said nothing that can be read has no vote."""
    first = [one for one in results if one.repeat < k]
    said: dict[str, list[float]] = defaultdict(list)
    for one in first:
        if one.answer is not None and one.grade in ENDED:
            said[" ".join(one.answer.split())].append(one.value)
    if not said:
        return 0.0 if first else None
    most = max(map(len, said.values()))
    leading = [math.fsum(values) / most for values in said.values() if len(values) == most]
    return math.fsum(leading) / len(leading)


MEASURES: dict[str, Callable[[Sequence[ItemResult], int], float | None]] = {"pass": _pass, "avg": _avg, "maj": _maj}


def repeated(results: Sequence[ItemResult], measure: str, k: int) -> Repeated:
    """A measure of all answers to the items of one score.

    pass takes all answers of an item; avg and maj those of its repeats 0 to k - 1. maj counts answers as equal that are
    but for white space.

    Raises EvaluationError for an unknown measure, for items that were asked fewer than k times or twice with one seed,
    and where no item has enough verdicts.
    """
    if measure not in MEASURES:
        raise EvaluationError(f"there is no measure '{measure}' of repeated answers: {nearest(measure, MEASURES)}")
    asked = _by_item(results, k)
    value_of = MEASURES[measure]
    judged = {item: [one for one in answers if one.grade is not Grade.UNSCORED] for item, answers in asked.items()}
    ended = {item: [one for one in answers if one.grade in ENDED] for item, answers in asked.items()}
    values = {item: value for item, answers in judged.items() if (value := value_of(answers, k)) is not None}
    completed = [value for answers in ended.values() if (value := value_of(answers, k)) is not None]
    if not values:
        raise EvaluationError(
            f"{measure}@{k} needs items with verdicts on their answers, and none of {len(asked)} has enough of them: "
            "mend the grader or the judge, and grade again"
        )
    low, high = accuracy_interval(list(values.values()), [asked[item][0].cluster for item in values])
    grades = [one.grade for one in results]
    return Repeated(
        measure, k, math.fsum(values.values()) / len(values), low, high, len(values),
        math.fsum(completed) / len(completed) if completed else None, len(completed), len(results),
        grades.count(Grade.CUT_OFF), grades.count(Grade.TOO_LONG), grades.count(Grade.UNSCORED),
        tuple(sorted({one.seed for one in results if one.seed is not None})),
    )  # fmt: skip


def _by_item(results: Sequence[ItemResult], k: int) -> dict[str, list[ItemResult]]:
    """The answers to each item in the order of their repeats. Raises EvaluationError where they are no k draws."""
    if len({one.score for one in results}) > 1:
        raise EvaluationError(
            f"answers of several scores ({', '.join(sorted({one.score for one in results}))}) at once"
        )
    asked: dict[str, list[ItemResult]] = defaultdict(list)
    for one in sorted(results, key=lambda one: one.repeat):
        asked[one.item].append(one)
    for item, answers in asked.items():
        if [one.repeat for one in answers] != list(range(len(answers))) or len(answers) < k:
            raise EvaluationError(
                f"item {item!r} has repeats {', '.join(str(one.repeat) for one in answers)}; expected each from 0 to "
                f"{max(k, len(answers)) - 1} once: ask each item at least {k} times"
            )
        seeds = [one.seed for one in answers if one.seed is not None]
        if len(set(seeds)) < len(seeds):
            raise EvaluationError(f"item {item!r} was asked twice with one seed, so its answers are no two draws")
    return asked
