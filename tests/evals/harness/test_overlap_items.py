"""Items of public tasks as contamination looks for them: named as results are, worded as the question is."""

import json

from k2model.evals.clean_scores import Sighting, clean_scores
from k2model.evals.contamination import PUBLIC
from k2model.evals.harness import evaluation_items, prepare, tasks_named
from k2model.evals.harness.overlap_items import _texts
from k2model.evals.items import Grade, ItemResult
from tests.evals.harness.conftest import REAL


class Choices:
    """Of the harness's tasks with choices what is asked here: the question may be one of them, by its number."""

    OUTPUT_TYPE = "multiple_choice"

    def __init__(self, text: object, target: object) -> None:
        self.doc_to_text, self.doc_to_target = lambda doc: text, lambda doc: target

    def doc_to_choice(self, doc: object) -> list[str]:
        return ["red", "blue"]


def test_a_question_and_its_answer_without_shots() -> None:
    (task,) = tasks_named(["gsm8k"])  # five solved examples stand before each question
    items = list(evaluation_items(prepare(task)))
    (file,) = REAL.glob("openai/gsm8k/**/test*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [one.id for one in items] == [f"gsm8k/{number}" for number in range(len(rows))]
    assert all(one.prompt == f"Question: {row['question']}\nAnswer:" for one, row in zip(items, rows, strict=True))
    assert all(one.answer == f"\n{row['answer']}" for one, row in zip(items, rows, strict=True))
    assert {(one.family, one.worded, one.holds_out) for one in items} == {(PUBLIC, True, True)}


def test_choices_are_texts_and_not_their_numbers() -> None:
    assert _texts(Choices("Which colour?", 1), {}) == ("Which colour?", "blue")
    assert _texts(Choices("Which colour?", [0, 1]), {}) == ("Which colour?", "red")
    assert _texts(Choices(1, "is the sky."), {}) == ("blue", "is the sky.")


def test_results_of_any_score_find_them() -> None:
    """Scores carry an effort or a length, and an item's parts the item as their cluster."""
    seen = {(PUBLIC, "gsm8k/0"): Sighting("pretrain", 3), (PUBLIC, "gsm8k/1"): None}
    results = [
        ItemResult("gsm8k/high", f"gsm8k/{number}:{part}", f"gsm8k/{number}", "", "", "", "", Grade.RIGHT, 1.0)
        for number in range(2)
        for part in range(2)
    ]
    found = clean_scores(results, seen)["gsm8k/high"]
    assert (found.n, found.seen, found.untold, found.clean_n) == (4, 2, 0, 2)
