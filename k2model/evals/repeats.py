"""What several answers to each item say: pass@k and maj@k, beside the mean over all of them.

Each is a result like any other, one an item, whose value is between 0 and 1: rows, their intervals over items, clean
subsets and comparisons come of these as of any score's. They have no texts; those are in the results they come from.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from k2model.errors import EvaluationError
from k2model.evals.items import Grade, ItemResult
from k2model.recipe.repeats import PASS, repeated_of, repeated_scores

#: What an answer to an item (its id) says, so that equal ones count together; None where it says nothing.
Vote = Callable[[str, str], str | None]
ENDED = (Grade.RIGHT, Grade.WRONG, Grade.MEASURED)


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


def majority(answers: Sequence[ItemResult], vote: Vote) -> float | None:
    """Whether what most answers to an item say is right; what is tied is drawn from, so its mean counts. Whoever has
    said nothing that can be read has no vote. None where there are no answers."""
    said: dict[str, list[float]] = defaultdict(list)
    for one in answers:
        if one.answer is not None and one.grade in ENDED and (read := vote(one.item, one.answer)) is not None:
            said[read].append(one.value)
    if not said:
        return 0.0 if answers else None
    most = max(map(len, said.values()))
    leading = [math.fsum(values) / most for values in said.values() if len(values) == most]
    return math.fsum(leading) / len(leading)


def with_repeats(results: Sequence[ItemResult], repeats: int, vote: Vote | None = None) -> list[ItemResult]:
    """Results of one score, and behind them those of pass@k and maj@k, an item each. What was cut off or had no room
    counts as wrong; an item with fewer than k verdicts is unscored.

    Raises EvaluationError where items were not asked `repeats` times, or twice with one seed.
    """
    by_item = _by_item(results, repeats)
    scores = repeated_scores(results[0].score, repeats, vote is not None) if results else []
    return [*results, *(_repeated(score, answers, vote) for score in scores for answers in by_item.values())]


def completed(results: Sequence[ItemResult], score: str, repeats: int, vote: Vote | None = None) -> float | None:
    """The value of pass@k or maj@k over answers that came to an end alone, of items with enough of these; `results` are
    those of the score that it stands beside. None where there is no such item."""
    answers = ([one for one in own if one.grade in ENDED] for own in _by_item(results, repeats).values())
    values = [value for own in answers if (value := _value(score, own, vote)) is not None]
    return math.fsum(values) / len(values) if values else None


def guessed(chance: float | None, score: str) -> float | None:
    """What a guesser gets who has `chance` each time. Of pass@k no less than it is where items differ in that."""
    named = repeated_of(score)
    if chance is None or named is None or named.measure != PASS:
        return chance
    return 1.0 - (1.0 - chance) ** named.k


def _repeated(score: str, answers: Sequence[ItemResult], vote: Vote | None) -> ItemResult:
    value = _value(score, [one for one in answers if one.grade is not Grade.UNSCORED], vote)
    grades = {one.grade for one in answers}
    if value is None:
        grade = Grade.UNSCORED
    elif len(grades) == 1 and grades <= {Grade.CUT_OFF, Grade.TOO_LONG}:
        (grade,) = grades
    else:
        grade = {1.0: Grade.RIGHT, 0.0: Grade.WRONG}.get(value, Grade.MEASURED)
    return replace(
        answers[0], score=score, generation="", trace=None, answer=None, grade=grade,
        value=math.nan if value is None else value, seed=None, tokens=0, thinking_tokens=0,
    )  # fmt: skip


def _value(score: str, answers: Sequence[ItemResult], vote: Vote | None) -> float | None:
    """Of one item's answers that count; None where they are too few."""
    named = repeated_of(score)
    assert named is not None, f"{score} is no name of repeats"
    if named.measure == PASS:
        right = sum(one.right for one in answers)
        return pass_at_k(len(answers), right, named.k) if len(answers) >= named.k else None
    return majority(answers, vote) if vote else None


def _by_item(results: Sequence[ItemResult], repeats: int) -> Mapping[str, Sequence[ItemResult]]:
    """The answers to each item in the order of their repeats. Raises EvaluationError where they are no such draws."""
    asked: dict[str, list[ItemResult]] = defaultdict(list)
    for one in sorted(results, key=lambda one: one.repeat):
        asked[one.item].append(one)
    for item, answers in asked.items():
        if [one.repeat for one in answers] != list(range(repeats)):
            raise EvaluationError(
                f"item {item!r} has repeats {', '.join(str(one.repeat) for one in answers)}; expected each from 0 to "
                f"{repeats - 1} once: ask each item {repeats} times"
            )
        seeds = [one.seed for one in answers if one.seed is not None]
        if len(set(seeds)) < len(seeds):
            raise EvaluationError(f"item {item!r} was asked twice with one seed, so its answers are no two draws")
    return asked
