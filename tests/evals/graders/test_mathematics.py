import json
from pathlib import Path

import pytest

from k2model.documents.answers import final
from k2model.documents.schema import Item, make_item
from k2model.evals.graders import mathematics
from k2model.evals.graders.mathematics import grade

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
    assert final(text) == answer


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
