import math
from itertools import combinations

import pytest

from k2model.errors import EvaluationError
from k2model.evals.items import Grade, ItemResult
from k2model.evals.repeats import completed, guessed, majority, pass_at_k, with_repeats
from k2model.evals.scores import by_score, row_of
from k2model.recipe.repeats import Repeated, repeated_of, repeated_scores


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


def vote(item: str, answer: str) -> str | None:
    return answer


def values(results: list[ItemResult], repeats: int, score: str) -> list[float]:
    return [one.value for one in by_score(with_repeats(results, repeats, vote))[score]]


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


def test_names_of_repeats() -> None:
    assert repeated_scores("exam", 1) == []
    assert repeated_scores("exam", 2) == ["exam/pass@2"]  # of two answers there is no majority
    assert repeated_scores("a/high@512", 8) == [f"a/high@512/{one}" for one in ("pass@2", "pass@4", "pass@8", "maj@8")]
    assert repeated_scores("exam", 5, voted=False) == ["exam/pass@2", "exam/pass@4", "exam/pass@5"]
    assert repeated_of("a/high@512/pass@64") == Repeated("a/high@512", "pass", 64)
    assert repeated_of("retrieval/256@new_theta") is None and repeated_of("exam") is None


def test_measures_by_hand() -> None:
    results = answers("a", "rwww") + answers("b", "rrww", said="xxyz") + answers("c", "wwww", said="xxxx")
    # pass@2: 1 - 3/4 * 2/3 = 1/2; 1 - 2/4 * 1/3 = 5/6; 0
    assert values(results, 4, "s/pass@2") == pytest.approx([1 / 2, 5 / 6, 0])
    assert values(results, 4, "s/pass@4") == [1, 1, 0]
    # a: three say w; b: two say x, which is right; c: all wrong
    assert values(results, 4, "s/maj@4") == [0, 1, 0]
    first = by_score(with_repeats(results, 4, vote))["s/pass@2"][0]
    assert (first.item, first.cluster, first.wanted, first.grade) == ("a", "a", "r", Grade.MEASURED)
    assert (first.repeat, first.seed, first.generation, first.answer) == (0, None, "", None)
    assert with_repeats(results, 4, vote)[:12] == results
    assert "s/maj@4" not in by_score(with_repeats(results, 4))


def test_what_is_tied_is_drawn_from_and_what_says_nothing_has_no_vote() -> None:
    assert majority(answers("a", "rw"), vote) == 0.5
    assert majority(answers("a", "rww", said="x??"), lambda _, said: None if said == "?" else said) == 1.0
    assert majority(answers("a", "cct"), vote) == 0.0 and majority([], vote) is None


def test_what_was_cut_off_is_wrong_in_all_and_left_out_of_the_completed() -> None:
    results = answers("a", "rcc") + answers("b", "rrw") + answers("c", "cct") + answers("d", "ruw")
    derived = by_score(with_repeats(results, 3, vote))
    two = derived["s/pass@2"]
    assert [one.value for one in two] == pytest.approx([2 / 3, 1, 0, 1])
    assert completed(results, "s/pass@2", 3) == pytest.approx((1 + 1) / 2)  # of a one answer is left, of c none
    three = derived["s/pass@3"]
    assert [one.grade for one in three] == [Grade.RIGHT, Grade.RIGHT, Grade.WRONG, Grade.UNSCORED]
    assert [one.value for one in derived["s/maj@3"]] == pytest.approx([1, 1, 0, 0.5])
    cut = by_score(with_repeats(answers("a", "ccc"), 3, vote))["s/pass@2"]
    assert (cut[0].grade, cut[0].value) == (Grade.CUT_OFF, 0.0)
    assert completed(answers("a", "ccc"), "s/pass@2", 3) is None


def test_the_interval_is_over_clusters() -> None:
    alone = [one for n in range(40) for one in answers(f"i{n}", "rwww" if n % 2 else "wwww")]
    shared = [one for n in range(40) for one in answers(f"i{n}", "rwww" if n % 2 else "wwww", cluster=f"c{n % 4}")]
    first, second = (row_of("", "", by_score(with_repeats(one, 4))["s/pass@2"], "Other") for one in (alone, shared))
    assert first.value == second.value == 0.25 and first.n == 40
    # The mean of 40 values of 0 and 0.5: a normal interval has 1.96 * 0.25 / sqrt(40) = 0.077 on either side.
    assert (first.value - first.low, first.high - first.value) == (pytest.approx(0.077, abs=0.015),) * 2
    assert second.high - second.low > 2 * (first.high - first.low)


def test_a_guesser_has_k_tries() -> None:
    assert guessed(0.25, "exam/pass@2") == pytest.approx(1 - 0.75**2)
    assert guessed(0.25, "exam/maj@8") == guessed(0.25, "exam") == 0.25 and guessed(None, "exam/pass@2") is None


def test_what_is_no_set_of_draws_is_refused() -> None:
    with pytest.raises(EvaluationError, match="ask each item 4 times"):
        with_repeats(answers("a", "rw"), 4)
    with pytest.raises(EvaluationError, match="has repeats 0, 0, 1, 1"):
        with_repeats(answers("a", "rw") * 2, 2)
    same_seed = [ItemResult(**{**one.__dict__, "seed": 1}) for one in answers("a", "rw")]
    with pytest.raises(EvaluationError, match="twice with one seed"):
        with_repeats(same_seed, 2)
