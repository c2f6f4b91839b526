"""One capability of two models: how the challenger does beside the champion on the same items, and whether it may.

Every score becomes a `Row`. Rights and wrongs, marks, losses and verdicts of safety tests go the same way: results by
item, with what is better turned so that a gain is above 0. An item that only the challenger has no verdict on counts
against it; one without the champion's is left out, and counted.
"""

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from k2model.artifacts import ArtifactRef, Store
from k2model.errors import EvaluationError
from k2model.evals.compare import is_loss
from k2model.evals.items import Grade, ItemResult
from k2model.evals.noninferiority import bounded, flipped_signs, mcnemar_gain, ratio
from k2model.evals.statistics import accuracy_interval, by_cluster, mcnemar, mean_interval
from k2model.recipe.continual import ContinualConfig
from k2model.recipe.repeats import repeated_of
from k2model.recipe.safety import SAFETY
from k2model.safety.compare import COMPARED
from k2model.safety.judging import read_safety, read_samples

NEW = "@new"  # behind the loss on the held-out documents of the batches that a turn trains on
DIGITS = 6  # of what is written
#: Nats a token: of a smaller loss as much may be lost as of this one. A champion that is sure of its answers has losses
#: near zero: turns of the laptop's line moved those of chats and puzzles by 17% to 81%, which is 0.01 to 0.02 nats.
SMALL_LOSS = 0.2
#: Of safety tests, what a challenger may not be worse at; a trace that differs from its answer is shown beside, since
#: only samples with a trace have it.
SAFETY_SCORES = ("safe", "right", "correct_refusal", "over_refusal")
LESS_IS_BETTER = {f"{SAFETY}/{name}" for name, (_, more) in COMPARED.items() if not more}
Results = Mapping[str, Mapping[str, ItemResult]]  # by score, then by item


@dataclass(frozen=True)
class Row:
    """A score of both models on the same `n` items of `clusters` sources, with 95% intervals.

    difference: challenger minus champion in the score's own unit; of losses nats a token. gain: how much better the
    challenger is; bound: how much at least, at the confidence asked for (of losses of NEW documents for show); allowed:
    how far below 0 that may lie. These three are of accuracies in their unit, of losses shares of the champion's, where
    that is below `SMALL_LOSS` as much as of that one.
    passed: it is no worse. needed: about how many items it takes to tell, where there are too few. gained, lost: items
    that the challenger, or the champion, does better on. left_out: items without a verdict on the champion; unscored:
    without one on the challenger alone. p: two-sided, of any difference; p_all: corrected over all rows (Holm). target:
    whether it is to rise; p_better: one-sided, that it has; p_targets: corrected over targets. decides: whether the
    verdict depends on it.
    """

    score: str
    unit: str
    n: int
    clusters: int
    champion: float
    champion_low: float
    champion_high: float
    challenger: float
    challenger_low: float
    challenger_high: float
    difference: float
    gain: float
    bound: float | None
    allowed: float
    passed: bool
    outcome: str
    needed: int
    gained: int
    lost: int
    left_out: int
    unscored: int
    p: float
    p_better: float
    decides: bool = True
    target: bool = False
    p_all: float = 1.0
    p_targets: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return {name: round(one, DIGITS) if isinstance(one, float) else one for name, one in asdict(self).items()}


NO_WORSE, BETTER, WORSE = "no worse", "better", "worse"
NOT_RULED_OUT, TOO_FEW = "loss not ruled out", "too few to tell"


def allowed_loss(config: ContinualConfig, score: str) -> float:
    """Of the first pattern that fits."""
    fitting = (one.allowed for one in config.allowed_loss if fnmatch.fnmatchcase(score, one.scores))
    return next(fitting, config.default_loss)


def by_score(results: Iterable[ItemResult]) -> dict[str, dict[str, ItemResult]]:
    found: dict[str, dict[str, ItemResult]] = {}
    for one in results:
        found.setdefault(one.score, {})[f"{one.item}#{one.repeat}"] = one
    return found


def safety_results(store: Store, ref: ArtifactRef) -> list[ItemResult]:
    """Verdicts of safety tests as results: of all tests together, and of each test whether what is right was done.

    Raises EvaluationError where the judge agrees too little with labelled answers to decide anything.
    """
    result = read_safety(store, ref)
    if not result.feeds_gates:
        raise EvaluationError(
            f"judge {result.judge['name']} agrees too little with labelled answers to decide between two models; "
            "choose another judge or wording (k2 safety judges) for safety.judge, and test both models anew"
        )
    found = []
    for sample in read_samples(store, ref):
        key, cluster = f"{sample.answer.prompt}/{sample.answer.effort}", sample.answer.cluster
        told = {f"{SAFETY}/{name}": value(sample) for name, (value, _) in COMPARED.items()}
        told[f"{SAFETY}/{sample.answer.test}/right"] = sample.right
        for score, said in told.items():
            grade = Grade.UNSCORED if said is None else Grade.RIGHT if said else Grade.WRONG
            value = math.nan if said is None else float(said)
            found.append(ItemResult(score, key, cluster, "", "", None, "", grade, value))
    return found


def decides(score: str, clusters: int, allowed: float, confidence: float) -> bool:
    """Whether a verdict depends on a score. Not on pass@k and maj@k, which are of answers that have a score already;
    not on single safety tests with too few prompts to ever show no loss, which those over all tests count in; nor on
    what only samples with a trace have."""
    if repeated_of(score):
        return False
    if not score.startswith(f"{SAFETY}/") or score.removeprefix(f"{SAFETY}/") in SAFETY_SCORES:
        return True
    if "/" not in score.removeprefix(f"{SAFETY}/"):
        return False
    return (1 - allowed) ** clusters <= 1 - confidence


def row_of(
    score: str, first: Mapping[str, ItemResult], second: Mapping[str, ItemResult], allowed: float, confidence: float
) -> Row:
    """One row; `first` are the champion's results. Raises EvaluationError where the two were not asked the same."""
    _check_same(score, first, second)
    if is_loss(score):
        return _loss_row(score, [*first.values()], [second[key] for key in first], allowed, confidence)
    told = [key for key in first if not math.isnan(first[key].value)]
    if not told:
        return _empty(score, len(first), allowed)
    sign = -1.0 if score in LESS_IS_BETTER else 1.0
    worst = 0.0 if sign > 0 else 1.0
    ours = [first[key].value for key in told]
    theirs = [worst if math.isnan(value := second[key].value) else value for key in told]
    clusters = [first[key].cluster for key in told]
    unscored = sum(math.isnan(second[key].value) for key in told)
    deciding = decides(score, len(set(clusters)), allowed, confidence)
    gains = [sign * (b - a) for a, b in zip(ours, theirs, strict=True)]
    found = bounded(gains, clusters, confidence, allowed)
    gained, lost = sum(one > 0 for one in gains), sum(one < 0 for one in gains)
    exact = len(set(clusters)) == len(told) and all(one in (0.0, 1.0) for one in (*ours, *theirs))
    p_better, p = (
        (mcnemar_gain(gained, lost), mcnemar(gained, lost)) if exact else flipped_signs(gains, clusters)
    )  # fmt: skip
    return Row(
        score, "accuracy", len(told), len(set(clusters)),
        _mean(ours), *accuracy_interval(ours, clusters), _mean(theirs), *accuracy_interval(theirs, clusters),
        _mean(theirs) - _mean(ours), found.gain, _finite(found.low), allowed, found.passed,
        _outcome(found.passed, found.gain, found.enough, allowed),
        0 if found.enough else found.needed, gained, lost, len(first) - len(told), unscored, p, p_better, deciding,
    )  # fmt: skip


def _loss_row(
    score: str, first: Sequence[ItemResult], second: Sequence[ItemResult], allowed: float, confidence: float
) -> Row:
    """Of losses. That of the documents of new batches only may not be seen to rise beyond what is allowed: the champion
    never knew them, and a batch may hold out few."""
    if any(not math.isfinite(one.value) or one.tokens < 1 for one in (*first, *second)) or not first:
        raise EvaluationError(f"{score} has documents without a finite loss, so nothing is compared; measure it anew")
    clusters = [one.cluster for one in first]
    ours, theirs = (by_cluster([one.value for one in side], clusters)[0] for side in (first, second))
    falls = [a.value / a.tokens - b.value / b.tokens for a, b in zip(first, second, strict=True)]
    p_better, p = flipped_signs([a.value - b.value for a, b in zip(first, second, strict=True)], clusters)
    (mine, *own), (their, *other) = (
        mean_interval([one.value for one in side], [one.tokens for one in side]) for side in (first, second)
    )
    allowed *= max(1.0, SMALL_LOSS / mine) if mine else 1.0
    found = ratio(list(ours), list(theirs), confidence, allowed)
    passed = found.gain > -allowed if score.endswith(NEW) else found.passed
    return Row(
        score, "nats/token", len(first), len(set(clusters)), mine, own[0], own[1], their, other[0], other[1],
        their - mine, found.gain, _finite(found.low), allowed, passed,
        _outcome(passed, found.gain, found.enough, allowed), 0 if found.enough or passed else found.needed,
        sum(one > 0 for one in falls), sum(one < 0 for one in falls), 0, 0, p, p_better,
    )  # fmt: skip


def _outcome(passed: bool, gain: float, enough: bool, allowed: float) -> str:
    if passed:
        return NO_WORSE
    if gain <= -allowed:
        return WORSE
    return NOT_RULED_OUT if enough else TOO_FEW


def _empty(score: str, left_out: int, allowed: float) -> Row:
    """Of a score that the champion has no verdict on: there is nothing that could be lost, and nothing is decided."""
    return Row(
        score, "accuracy", 0, 0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, None, allowed, False,
        TOO_FEW, 1, 0, 0, left_out, 0, 1.0, 1.0, False,
    )  # fmt: skip


def _check_same(score: str, first: Mapping[str, ItemResult], second: Mapping[str, ItemResult]) -> None:
    if first.keys() != second.keys():
        raise EvaluationError(
            f"{score}: {len(first.keys() ^ second.keys())} items were asked of one model and not of the other, so they "
            "cannot be compared; measure both anew on one file of items"
        )
    for key, one in first.items():
        if one.wanted != second[key].wanted or (is_loss(score) and one.tokens != second[key].tokens):
            raise EvaluationError(
                f"{score}: item '{one.item}' was another question to the challenger than to the champion; measure both "
                "anew on one file of items, in one tokenizer"
            )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
