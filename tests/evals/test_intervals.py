"""Intervals against values worked out by hand and printed tables."""

import math

import pytest

from k2model.evals.scores import mean_interval, wilson


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
