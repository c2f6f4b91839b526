import math
from itertools import combinations

import pytest

from k2model.errors import EvaluationError
from k2model.evals.items import Grade, ItemResult
from k2model.evals.repeats import pass_at_k, repeated


def answers(item: str, marks: str, said: str = "", cluster: str = "") -> list[ItemResult]:
    """A result for each mark: r(ight), w(rong), c(ut off), t(oo long), u(nscored); what was said, a letter each."""
    grades = {"r": Grade.RIGHT, "w": Grade.WRONG, "c": Grade.CUT_OFF, "t": Grade.TOO_LONG, "u": Grade.UNSCORED}
    return [
        ItemResult(
            "s", item, cluster or item, "p", "g", None if mark in "ct" else (said[number] if said else mark), "r",
            grades[mark], {"r": 1.0, "u": math.nan}.get(mark, 0.0), repeat=number, seed=100 + number,
        )
        for number, mark in enumerate(marks)
    ]  # fmt: skip


def test_pass_at_k_is_the_share_of_draws_with_a_right_one() -> None:
    for n, right, k in [(5, 2, 1), (5, 2, 3), (6, 1, 2), (6, 0, 3), (4, 4, 2), (7, 3, 7)]:
        draws = list(combinations(range(n), k))
        share = sum(any(one < right for one in draw) for draw in draws) / len(draws)
        assert pass_at_k(n, right, k) == pytest.approx(share, abs=1e-12)
    assert pass_at_k(10, 3, 1) == pytest.approx(0.3)
    # C(100_000, 50_000) has 30,000 digits; 1 - (1 - 1/2)^... by hand: 1 - prod (1 - k/i) over one factor
    assert pass_at_k(100_000, 1, 50_000) == pytest.approx(0.5)
    assert 0 < pass_at_k(10_000, 1, 1) == pytest.approx(1e-4)
    for n, right, k in [(3, 1, 4), (3, 4, 1), (3, 1, 0)]:
        with pytest.raises(ValueError, match="expected 1 <= k <= n"):
            pass_at_k(n, right, k)


def test_measures_by_hand() -> None:
    results = answers("a", "rwww") + answers("b", "rrww", said="xxyz") + answers("c", "wwww", said="xxxx")
    # pass@2: 1 - 3/4 * 2/3 = 1/2; 1 - 2/4 * 1/3 = 5/6; 0
    assert repeated(results, "pass", 2).value == pytest.approx((1 / 2 + 5 / 6 + 0) / 3)
    assert repeated(results, "avg", 4).value == pytest.approx((0.25 + 0.5 + 0) / 3)
    assert repeated(results, "avg", 2).value == pytest.approx((0.5 + 1 + 0) / 3)
    # a: three say w; b: two say x, which is right; c: all wrong
    assert repeated(results, "maj", 4).value == pytest.approx(1 / 3)
    # a of two: r and w are tied; b: x; c: x
    assert repeated(results, "maj", 2).value == pytest.approx((0.5 + 1 + 0) / 3)
    assert repeated(results, "pass", 2).name == "pass@2"
    assert repeated(results, "pass", 1).seeds == (100, 101, 102, 103)


def test_what_was_cut_off_is_wrong_in_all_and_left_out_of_the_completed() -> None:
    results = answers("a", "rcc") + answers("b", "rrw") + answers("c", "cct") + answers("d", "ruw")
    one = repeated(results, "pass", 1)
    assert one.value == pytest.approx((1 / 3 + 2 / 3 + 0 + 1 / 2) / 4)
    assert one.completed == pytest.approx((1 + 2 / 3 + 1 / 2) / 3) and one.completed_items == 3
    assert (one.answers, one.cut_off, one.too_long, one.unscored, one.items) == (12, 4, 1, 1, 4)
    two = repeated(results, "pass", 2)
    assert two.completed == pytest.approx((1 + 1) / 2) and two.completed_items == 2  # of a one answer is left
    assert repeated(results, "maj", 3).value == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert repeated(answers("a", "ccc"), "avg", 3).completed is None


def test_the_interval_is_over_clusters() -> None:
    alone = [one for n in range(40) for one in answers(f"i{n}", "rw" if n % 2 else "ww")]
    shared = [one for n in range(40) for one in answers(f"i{n}", "rw" if n % 2 else "ww", cluster=f"c{n % 4}")]
    first, second = repeated(alone, "avg", 2), repeated(shared, "avg", 2)
    assert first.value == second.value == 0.25
    # The mean of 40 values of 0 and 0.5: a normal interval has 1.96 * 0.25 / sqrt(40) = 0.077 on either side.
    assert (first.value - first.low, first.high - first.value) == (pytest.approx(0.077, abs=0.015),) * 2
    assert second.high - second.low > 2 * (first.high - first.low)
    assert repeated(alone, "avg", 2) == first


def test_what_is_no_set_of_draws_is_refused() -> None:
    with pytest.raises(EvaluationError, match="did you mean 'pass'"):
        repeated(answers("a", "rw"), "pas", 1)
    with pytest.raises(EvaluationError, match="ask each item at least 4 times"):
        repeated(answers("a", "rw"), "pass", 4)
    with pytest.raises(EvaluationError, match="has repeats 0, 0, 1, 1"):
        repeated(answers("a", "rw") * 2, "pass", 1)
    same_seed = [ItemResult(**{**one.__dict__, "seed": 1}) for one in answers("a", "rw")]
    with pytest.raises(EvaluationError, match="twice with one seed"):
        repeated(same_seed, "pass", 1)
    with pytest.raises(EvaluationError, match="none of 1 has enough"):
        repeated(answers("a", "uu"), "avg", 1)
    other = [ItemResult(**{**one.__dict__, "score": "t"}) for one in answers("b", "rw")]
    with pytest.raises(EvaluationError, match=r"several scores \(s, t\)"):
        repeated(answers("a", "rw") + other, "pass", 1)
