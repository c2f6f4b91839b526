"""Intervals and paired tests against values worked out by hand, printed tables and scipy."""

import math

import pytest

from k2model.evals.compare import compare
from k2model.evals.items import Grade, ItemResult
from k2model.evals.statistics import accuracy_interval, mcnemar, mean_interval, paired, wilson


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_against_published_values(right: int, n: int, low: float, high: float) -> None:
    # 81/263: Newcombe (1998), Statistics in Medicine 17, table I; the others worked out by hand.
    assert wilson(right, n) == pytest.approx((low, high), abs=1e-4)


def test_wilson_refuses_no_items() -> None:
    with pytest.raises(ValueError, match="0 right of 0 items"):
        wilson(0, 0)


def test_mean_interval_by_hand() -> None:
    # Mean 12/4 = 3; residuals 2-3*1 = -1 and 10-3*3 = 1; spread sqrt((1+1)*2/1)/4 = 1/2.
    mean, low, high = mean_interval([2.0, 10.0], [1, 3])
    assert mean == 3.0
    assert (low, high) == pytest.approx((3 - 1.96 / 2, 3 + 1.96 / 2), abs=1e-4)


def test_equal_documents_leave_no_spread() -> None:
    assert mean_interval([6.0, 6.0, 6.0], [2, 2, 2]) == (3.0, 3.0, 3.0)
    assert not math.isnan(mean_interval([6.0], [2])[1])


def test_items_of_their_own_have_wilsons_interval() -> None:
    values, clusters = [1.0] * 8 + [0.0] * 2, [str(i) for i in range(10)]
    assert accuracy_interval(values, clusters) == wilson(8, 10)


def test_items_that_share_a_source_count_less() -> None:
    # Ten documents with five items each, all alike within: the documents are what was drawn. Spread of the ratio:
    # sqrt(10 * (6 * (5*.4)^2 + 4 * (5*.6)^2) / 9) / 50, squared .026667 = .24 / 9: nine effective items.
    values = [1.0] * 30 + [0.0] * 20
    clusters = [f"{i // 5}" for i in range(50)]
    assert accuracy_interval(values, clusters) == pytest.approx(wilson(0.6 * 9, 9))
    assert accuracy_interval([1.0] * 50, clusters) == wilson(10, 10)  # of their likeness nothing is known
    low, high = accuracy_interval(values, [str(i) for i in range(50)])
    assert high - low < 0.27


def test_marks_have_a_bootstrap_interval_like_the_normal_one() -> None:
    values = [(i % 11) / 10 for i in range(440)]
    low, high = accuracy_interval(values, [str(i) for i in range(440)])
    half = 1.96 * math.sqrt(0.1 / 440)  # variance of 0, .1, ... 1
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.003)
    assert accuracy_interval(values, [str(i) for i in range(440)]) == (low, high)


@pytest.mark.parametrize(("gained", "lost", "p"), [(10, 2, 0.038574), (5, 5, 1.0), (0, 0, 1.0), (6, 0, 0.03125)])
def test_mcnemar_by_hand(gained: int, lost: int, p: float) -> None:
    # 10 against 2: 2 * (1 + 12 + 66) / 4096
    assert mcnemar(gained, lost) == pytest.approx(p, abs=1e-6)


def test_mcnemar_is_scipys_binomial_test() -> None:
    scipy = pytest.importorskip("scipy.stats")
    for gained, lost in ((3, 9), (40, 61), (1, 0)):
        assert mcnemar(gained, lost) == pytest.approx(scipy.binomtest(gained, gained + lost).pvalue)


def test_models_are_compared_on_the_items_both_were_asked() -> None:
    first = {"a": 1.0, "b": 0.0, "c": 0.0, "only first": 1.0}
    second = {"a": 1.0, "b": 1.0, "c": 1.0, "only second": 0.0}
    found = paired(first, second, {name: name for name in first})
    assert (found.n, found.first, found.second, found.gained, found.lost) == (3, 1 / 3, 1.0, 2, 0)
    assert found.p == 0.5 and found.difference == pytest.approx(2 / 3) and found.low < 2 / 3 < found.high
    shared = paired(first, second, {"a": "x", "b": "x", "c": "y"})
    assert shared.clusters == 2 and shared.p is None  # McNemar's items are drawn one by one
    with pytest.raises(ValueError, match="not asked a single item in common"):
        paired(first, {"other": 1.0}, {})


def losses(score: str, *nats: float) -> list[ItemResult]:
    return [
        ItemResult(score, str(n), str(n), "", "", None, "", Grade.MEASURED, one, tokens=10)
        for n, one in enumerate(nats)
    ]


@pytest.mark.parametrize("score", ["loss/code", "position_loss/1024"])
def test_losses_are_compared_by_target_and_less_is_gained(score: str) -> None:
    (found,) = compare(losses(score, 30.0, 20.0, 10.0), losses(score, 20.0, 10.0, 20.0))
    assert (found.result.first, found.result.gained, found.result.lost) == (2.0, 2, 1)
    assert found.result.difference == pytest.approx(-1 / 3)


def test_a_single_mark_is_no_certainty() -> None:
    assert accuracy_interval([0.5], ["a"]) == pytest.approx(wilson(0.5, 1))
    assert accuracy_interval([0.5, 0.25], ["a", "a"]) == pytest.approx(wilson(0.375, 1))
