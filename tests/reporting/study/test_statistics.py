"""Emergence and forgetting: by hand, against enumeration, and how often they are found where there is nothing."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from k2model.evals.items import Grade, ItemResult
from k2model.evals.matrix import Checkpoint
from k2model.evals.scores import ScoreRow
from k2model.reporting.study.series import ItemValues, Point, Series, pooled, series_of
from k2model.reporting.study.statistics import ALPHA, binomial_tail, candidates, drop, emergence, fisher_tail, holm

SIMULATIONS = 200


def checkpoint(number: int, phase: str = "pretrain", last: bool = False) -> Checkpoint:
    return Checkpoint(number, phase, number, number * 100, phase if last else f"{phase}@{number}", last)


def point(number: int, values: dict[str, float], clusters: dict[str, str] | None = None, chance: float = 0.25) -> Point:
    mean = sum(values.values()) / len(values)
    row = ScoreRow("pretrain", "quiz", mean, len(values), 0, 1, "accuracy", chance=chance)
    return Point(checkpoint(number), row, ItemValues(values, clusters or {name: name for name in values}))


def series(rights: "list[np.ndarray]", chance: float = 0.25) -> Series:
    """Of rights and wrongs [items] at one checkpoint after the other."""
    asked = [{str(i): float(value) for i, value in enumerate(one)} for one in rights]
    return Series("quiz", tuple(point(number, values, chance=chance) for number, values in enumerate(asked, 1)))


def test_the_binomial_tail_is_the_sum_of_its_terms() -> None:
    for right, n, share in (
        (3, 5, Fraction(1, 4)),
        (1, 8, Fraction(1, 2)),
        (40, 160, Fraction(1, 10)),
        (0, 4, Fraction(1, 3)),
    ):
        exact = sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(right, n + 1))
        assert binomial_tail(right, n, float(share)) == pytest.approx(float(exact), rel=1e-10)
    assert binomial_tail(128, 128, 0.01) == pytest.approx(1e-256, rel=1e-9)


def test_fishers_tail_is_that_of_his_tea() -> None:
    """The lady's cups (Fisher 1935): 3 of 4 named right, with 17 of 70 ways as good or better; and all ways."""
    assert fisher_tail(1, 4, 3, 4) == pytest.approx(17 / 70)
    assert fisher_tail(4, 4, 0, 4) == pytest.approx(1.0)
    assert fisher_tail(0, 4, 4, 4) == pytest.approx(1 / 70)


def test_holm_steps_down() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.5]) == [1.0, 1.0] and holm([]) == []


def test_emergence_is_the_first_checkpoint_above_chance() -> None:
    rights = [np.arange(40) < count for count in (10, 12, 16, 26, 40)]
    found = emergence(series(rights))
    p = [binomial_tail(count, 40, 0.25) for count in (10, 12, 16, 26, 40)]
    assert p[2] < ALPHA < 3 * p[2]  # alone it would be the third; among five it is the fourth
    assert found is not None and found.checkpoint.step == 4
    assert (found.looks, found.against, found.value) == (5, 0.25, 0.65)
    assert found.p == pytest.approx(max(4 * p[3], 5 * p[4]))


def test_one_lucky_answer_is_no_emergence_where_guessing_gets_nothing() -> None:
    lucky = [np.arange(128) < count for count in (0, 1, 0)]
    assert emergence(series(lucky, chance=0.0)) is None
    assert emergence(series([*lucky, np.arange(128) < 8], chance=0.0)).checkpoint.step == 4


def test_items_of_one_cluster_are_one_draw() -> None:
    right = {str(i): 1.0 for i in range(12)}
    assert emergence(Series("quiz", (point(1, right),))) is not None
    assert emergence(Series("quiz", (point(1, right, dict.fromkeys(right, "one document")),))) is None


def losses(number: int, nats: float, worse: int) -> Point:
    """Of 20 documents with 10 targets each, `worse` of which have a nat more a target, the others a little less."""
    row = ScoreRow("pretrain", "loss/prose", nats, 20, nats, nats, "nats/token")
    read = [
        ItemResult("loss/prose", str(i), str(i), "", "", None, "", Grade.MEASURED, 40.0 if i < worse else 30.0 - number)
        for i in range(20)
    ]
    read = [replace(one, tokens=10) for one in read]
    return Point(checkpoint(number), row, ItemValues.of(read, loss=True))


def test_a_loss_does_not_emerge_and_is_lost_where_it_rises() -> None:
    risen = Series("loss/prose", (losses(1, 3.5, 10), losses(2, 3.0, 0), losses(3, 3.9, 18)))
    found = drop(risen)
    assert emergence(risen) is None
    assert (found.best.step, found.looks, found.paired, found.low) == (2, 2, True, None)
    assert found.difference == pytest.approx(0.9)
    assert found.p == pytest.approx(2 * binomial_tail(18, 20, 0.5)) and found.lost
    assert drop(Series("loss/prose", risen.points[:2])) is None  # the last is the best
    kept = tuple(Point(point.checkpoint, point.row) for point in risen.points)
    assert drop(Series("loss/prose", kept)) is None  # whose documents are not known


def test_a_drop_is_mcnemars_test_between_the_best_and_the_last() -> None:
    best = np.arange(40) < 30
    last = best.copy()
    last[:12], last[30:32] = False, True  # 12 got worse, 2 better
    found = drop(series([np.arange(40) < 5, best, np.arange(40) < 20, last]))
    assert (found.best.step, found.last.step, found.looks, found.paired) == (2, 4, 3, True)
    assert found.difference == pytest.approx(-10 / 40)
    one_sided = sum(math.comb(14, k) for k in range(12, 15)) / 2**14
    assert found.p == pytest.approx(3 * one_sided) and found.lost
    spread = np.std([-1] * 12 + [1] * 2 + [0] * 26, ddof=1) / math.sqrt(40)
    assert found.high == pytest.approx(-0.25 + 1.959964 * spread)
    assert drop(series([np.arange(40) < 5, best])) is None and drop(series([best])) is None


def test_of_many_checkpoints_the_candidates_do_not_depend_on_values() -> None:
    points = [Point(checkpoint(n, last=n == 50), series([np.ones(4)]).points[0].row) for n in range(1, 101)]
    steps = [point.checkpoint.step for point in candidates(points)]
    assert len(steps) <= 32 and 50 in steps and steps == sorted(steps)
    assert max(b - a for a, b in itertools.pairwise(steps)) <= 5
    assert candidates(points[:20]) == points[:20]
    assert drop(series([np.arange(40) < 39, *[np.arange(40) < 20] * 40])) is None  # the first is none of them


def test_other_items_are_compared_by_their_counts() -> None:
    last = point(2, {f"new {i}": float(i < 10) for i in range(40)})
    found = drop(Series("quiz", (series([np.arange(40) < 30]).points[0], last)))
    assert not found.paired and found.low is None
    assert found.p == pytest.approx(fisher_tail(10, 40, 30, 40)) and found.lost
    rows = tuple(Point(one.checkpoint, one.row) for one in (series([np.arange(40) < 30]).points[0], last))
    assert drop(Series("quiz", rows)) == found  # of scores whose items are not kept


@pytest.mark.parametrize("checkpoints", [3, 40])
def test_where_nothing_happens_little_is_found(checkpoints: int) -> None:
    """Independent noise, which gives more false finds than dependent noise does. Three deviations of SIMULATIONS draws
    are allowed above ALPHA; that something is found at all shows that the test can fail."""
    rng = np.random.default_rng(3)
    risen = fallen = 0
    for _ in range(SIMULATIONS):
        guessed = series(list(rng.random((checkpoints, 48)) < 0.25))
        risen += emergence(guessed) is not None
        items = rng.beta(0.8, 0.8, 48)  # some items are easy, some are hard, at every checkpoint alike
        steady = drop(series(list(rng.random((checkpoints, 48)) < items)))
        fallen += steady is not None and steady.lost
    most = SIMULATIONS * ALPHA + 3 * math.sqrt(SIMULATIONS * ALPHA * (1 - ALPHA))
    assert 0 < risen <= most
    assert fallen <= most


def test_what_happens_is_found() -> None:
    rng = np.random.default_rng(4)
    risen = fallen = late = 0
    for _ in range(60):
        skill = [0.25] * 5 + [0.6] * 5 + [0.35] * 5
        found = series([rng.random(128) < one for one in skill])
        seen, lost = emergence(found), drop(found)
        risen += seen is not None and seen.checkpoint.step == 6
        late += seen is not None and seen.checkpoint.step > 6
        fallen += lost is not None and lost.lost
    assert risen > 54 and fallen > 48 and late <= 6


def test_repeats_are_averaged_and_what_has_no_verdict_is_left_out() -> None:
    def result(item: str, value: float, grade: Grade) -> ItemResult:
        return ItemResult("quiz", item, "source", "p", "g", "a", "w", grade, value)

    found = ItemValues.of(
        [result("a", 1, Grade.RIGHT), result("a", 0, Grade.CUT_OFF), result("b", math.nan, Grade.UNSCORED)]
    )
    assert found.values == {"a": 0.5} and found.clusters == {"a": "source"}
    sums, counts = found.by_cluster()
    assert (sums.tolist(), counts.tolist()) == ([0.5], [1])


def test_pools_do_not_reach_over_a_border_and_end_with_the_phase() -> None:
    numbers = [*((n, "pretrain") for n in range(1, 7)), *((n, "mid_1") for n in range(7, 11))]
    points = tuple(
        Point(checkpoint(n, phase, n in (6, 10)), ScoreRow(phase, "quiz", n / 10, 9, 0, 1, "accuracy"))
        for n, phase in numbers
    )
    pools = pooled(Series("quiz", points))
    assert [(pool.tokens, pool.value) for pool in pools] == [(450, pytest.approx(0.45)), (850, pytest.approx(0.85))]
    assert pooled(Series("quiz", points[:3])) == []


def test_a_series_follows_one_line_of_descent() -> None:
    before, end, other = checkpoint(1), checkpoint(2, last=True), checkpoint(3, "branch", True)
    row = point(2, {"a": 1.0}).row
    measured = {"quiz": [Point(other, row), Point(end, row)], "only there": [Point(other, row)]}
    (found,) = series_of(measured, {"quiz": [before, other]}, ("pretrain", "sft"))
    assert [one.checkpoint for one in found.points] == [end] and found.missing == (before,)
