import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from k2model.documents.schema import Item, make_item
from k2model.evals.graders import mathematics
from k2model.evals.graders.mathematics import extract, grade, normal, same

DATA = Path(__file__).parents[1] / "data" / "gsm8k.jsonl"


def item(gold: str, **meta: list[str]) -> Item:
    return make_item("mathematics", gold, "How much?", gold, meta=meta)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So it is $\boxed{42}$.", "42"),
        (r"Thus \[\boxed{\frac{1}{2}}\]", r"\frac{1}{2}"),
        (r"\boxed{\left\{x \in \mathbb{R} : x^{2} > 1\right\}}", r"\left\{x \in \mathbb{R} : x^{2} > 1\right\}"),
        (r"First \boxed{100}, no: \boxed{99}.", "99"),
        (r"\boxed{7} and then \boxed{} and \boxed{cut o", "7"),
        (r"\boxed 5 it is", "5"),
        (r"\fbox{3}", "3"),
        (r"\boxed{\boxed{3}}", "3"),
        ("x\n#### 1,234\n", "1,234"),
        ("The answer is 7. No. The answer is 8.", "8"),
        ("Final Answer: The final answer is $\\sqrt{2}$. I hope it is correct.", "$\\sqrt{2}$"),
        ("**Answer:** 12", "12"),
        ("Answer:\n3.5 cm. That is all.", "3.5 cm"),
        ("It has no answer.\nOr has it?", None),
        ("42", "42"),
        ("It is\nhard to say", None),
        ("", None),
        ("x" * 200, None),
    ],
)
def test_the_final_answer_is_found(text: str, answer: str | None) -> None:
    assert extract(text) == answer


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("1e3", "1000"), ("-2.5E-1", "-0.25"), ("1,234,567", "1234567"), (r"1\,000", "1000"), ("1{,}000", "1000"),
        (r"\$5", "5"), ("$5$", "5"), (r"\(x\)", "x"), (r"\left(1, 2\right)", "(1, 2)"),
        ("1,2", "1,2"), (r"50\%", "50%"),
    ],
)  # fmt: skip
def test_one_form(text: str, plain: str) -> None:
    assert normal(text) == plain


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\frac{1}{2}", "0.5"), (r"\frac12", "1/2"), ("0.5", r"\dfrac{1}{2}"), ("1e3", "1000"), ("1000", "1e3"),
        ("12", r"12 \text{ cm}"), ("12", "12 apples"), ("5", r"\$5.00"), (r"\sqrt{8}", r"2\sqrt{2}"),
        ("x^2+2x+1", "(x+1)^2"), ("(1,2)", "(1, 2)"), (r"\{1,2\}", r"\{2,1\}"), ("1,234", "1234"), ("x=3", "3"),
        (r"\text{C}", "C"), (r"90^\circ", "90"), (r"\frac{1}{3}", "0.333333"), ("-3", "−3"), ("2^{10}", "1024"),
        ("10:30", "10:30"), ("1:3", "2:6"), ("Monday", r"\text{monday}"), ("5", "x=5"), ("6", "4+2=6"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}"),
    ],
)  # fmt: skip
def test_equal_answers(gold: str, answer: str) -> None:
    assert same(gold, answer) is True


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("1", "1000"), ("1e3", "1"), ("99", r"\{99, 100\}"), ("3", "3 or 4"), ("(1,2)", "(2,1)"), ("x^2", "y^2"),
        ("0.5", "0.51"), ("1000", "1"), ("12", ""), ("12", "twelve"), ("10:30", "2:6"), ("Tuesday", "Thursday"),
        ("listen", "silent"), ("5", "3=5"), ("5", "x=3=5"), ("5", r"x \neq 5"), ("5", r"\pm 5"),
        ("10:30", "10"), ("16", "-16"), ("5", "5x"), ("5", "x" * 5000),
        ("1", "__import__('os').system('touch /tmp/k2-evaluated')"),
    ],
)  # fmt: skip
def test_other_answers(gold: str, answer: str) -> None:
    assert same(gold, answer) is False
    assert not Path("/tmp/k2-evaluated").exists()


def test_an_answer_without_end_costs_no_more_than_its_time() -> None:
    with mathematics._verifiers.one():
        pass  # one is there
    start = time.monotonic()
    assert same("1", "9^{9^{9^9}}", seconds=0.5) is False
    assert time.monotonic() - start < 1.5
    assert same("x+1", "1+x") is True, "the next one is not answered"


def test_many_at_once_from_threads() -> None:
    pairs = [("x+1", f"{number}+x") for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda pair: same(*pair), pairs)) == [number == 1 for number in range(6)]


def test_a_box_is_graded_and_nothing_else() -> None:
    assert grade(item("99"), r"\boxed{100} ... \boxed{99}") is True
    assert grade(item("100"), r"\boxed{100} ... \boxed{99}") is False
    assert grade(item("3"), "I do not\nknow.") is False
    assert grade(item("x", accepted=["1/2", "0.6"]), r"\boxed{\frac{3}{5}}") is True
    assert grade(item(" "), "7") is None, "an item without an answer gives no verdict"


def test_gold_answers_of_gsm8k() -> None:
    rows = [json.loads(line) for line in DATA.read_text().splitlines()]
    items = [item(row["answer"]) for row in rows]
    right = [row["answer"].rsplit("####", 1)[1].strip() for row in rows]
    assert {"-10", "2,125"} <= set(right)
    boxed = [rf"It is \(\boxed{{{gold}}}\)." for gold in right]
    assert mathematics.grade_all(zip(items, boxed, strict=True)) == [True] * len(rows)
    off = [f"#### {int(gold.replace(',', '')) + 1}" for gold in right]
    assert mathematics.grade_all(zip(items, off, strict=True)) == [False] * len(rows)


def test_versions_are_those_of_the_process_that_verifies() -> None:
    from importlib.metadata import version

    assert mathematics.grader_version()["math-verify"] == version("math-verify")
