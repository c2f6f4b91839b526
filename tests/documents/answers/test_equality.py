"""One place says whether two answers are equal. Both kinds of error are counted on pairs that a reader labelled."""

import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from k2model.documents.answers import is_accepted, last_number, library_versions, same, verifying
from k2model.documents.answers.numbers import told
from tests.documents.answers.pairs import Pair, judged, pairs

#: Equal to a reader and different here: (wanted, answer). None is the other way round.
MISSED = {
    ("i^2", "-1"), ("Yes", "Yes, it is"), ("7", "I am sure it is 7"),  # prose around it without "answer is"
    ("2 and 3", "3 and 2"), ("A, B", "B, A"), ("first", "1st"), ("0x10", "16"), ("$1.5M", "1500000"), ("1.5k", "1500"),
    ("12:00", "noon"), ("January 5", "Jan 5"), ("05/01/2024", "5/1/2024"),
}  # fmt: skip


@pytest.fixture(scope="module")
def verdicts() -> list[tuple[Pair, bool]]:
    with ThreadPoolExecutor(2) as pool:
        return list(zip(pairs(), pool.map(judged, pairs()), strict=True))


def test_no_pair_is_called_equal_that_is_not(verdicts: list[tuple[Pair, bool]]) -> None:
    assert len(verdicts) == 606 and min(Counter(pair.equal for pair, _ in verdicts).values()) >= 100
    assert not [pair for pair, equal in verdicts if equal and not pair.equal]


def test_pairs_that_are_called_different_though_equal_are_those_that_are_known(
    verdicts: list[tuple[Pair, bool]],
) -> None:
    assert {(pair.wanted, pair.answer) for pair, equal in verdicts if pair.equal and not equal} == MISSED
    assert not Path("/tmp/k2-evaluated").exists()


def test_nothing_said_is_no_answer_and_nothing_wanted_no_verdict() -> None:
    assert same("5", None) is False and same("5", "  ") is False
    assert same("", "5") is None and same(" . ", "5") is None
    assert is_accepted("7", ["1/2", "7"]) is True and is_accepted("7", ["", "8"]) is False


@pytest.mark.parametrize("size", [5_000, 50_000])
def test_numbers_of_any_size_are_exact(size: int) -> None:
    assert same("7" * size, "7" * size + ".0") is True
    assert same("7" * size, "7" * (size - 1) + "8") is False
    assert same("0." + "7" * size, "." + "7" * size + "0") is True
    assert same("0." + "7" * size, "0." + "7" * (size - 1) + "8") is False


@pytest.mark.parametrize(
    "answer",
    ["(" * 20_000 + ")" * 20_000, "{" * 5_000, "\\frac{" * 5_000, "5" + " " * 100_000 + "6", "1/" * 50_000 + "1",
     "word " * 50_000, "-" * 50_000, "1," * 50_000, "\\boxed{" * 20_000,
     "\\boxed{" * 20_000 + "}" * 20_000, "answer is " * 20_000, "=" * 1_900],
)  # fmt: skip
def test_long_and_deep_text_is_no_answer_and_takes_no_time(answer: str) -> None:
    start = time.process_time()
    assert is_accepted(answer, ["5"], seconds=0.5) is False and last_number("") is None
    assert last_number(answer) is None or answer[0].isdigit() or answer[0] == "\\"
    assert time.process_time() - start < 5


def test_what_has_no_end_costs_no_more_than_its_time_and_the_next_is_answered() -> None:
    library_versions()
    start = time.monotonic()
    assert same("1", "9^{9^{9^9}}", seconds=0.3) is False
    assert time.monotonic() - start < 20 * 0.3 + 2
    assert same("x+1", "1+x") is True


def test_a_process_that_was_killed_between_two_questions_is_replaced() -> None:
    assert same("x+1", "1+x") is True
    with verifying._verifiers.one() as idle:
        pass
    os.kill(idle._process.pid, signal.SIGKILL)
    idle._process.wait()
    assert same("x+2", "2+x") is True


def test_many_at_once_from_threads() -> None:
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda number: same("x+1", f"{number}+x"), range(6)))
    assert found == [number == 1 for number in range(6)]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 1,234.50.", "2469/2"), ("3-4", "4"), ("= -7", "-7"), ("x = −7", "-7"), ("a 1, 2, 3", "3"), (".5", "1/2"),
        ("none", None), ("1,2,3", "3"), ("it is 1e3", "1000"), ("3/4 of it", "3/4"), ("on 1/5/2024", "2024"),
        ("that is 50%.", "1/2"), ("١٢ شيئا", "12"), ("so \\frac{3}{4}", "3/4"), ("about 2.5 × 10^3 m", "2500"),
        ("9007199254740993", "9007199254740993"), ("12345,678", "678"),
    ],
)  # fmt: skip
def test_the_last_number_of_a_text(text: str, number: str | None) -> None:
    found = last_number(text)
    assert (None if found is None else told(found)) == number
