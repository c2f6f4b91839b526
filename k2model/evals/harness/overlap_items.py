"""The items of public tasks as contamination looks for them: the question as its task words it, and a right answer.

Shots and instructions around a question are the same for all items and in many documents, so they are not part of one.
"""

from collections.abc import Iterator
from typing import Any

from k2model.curation.overlap import EvaluationItem
from k2model.evals.contamination import PUBLIC
from k2model.evals.harness.asking import Prepared


def evaluation_items(prepared: Prepared) -> Iterator[EvaluationItem]:
    """Every item of the parts that are on this machine, named as its results are."""
    for part in prepared.parts:
        for number, doc in enumerate(part.task.eval_docs):
            prompt, answer = _texts(part.task, doc)
            yield EvaluationItem(PUBLIC, f"{part.name}/{number}", "", prompt, f"\n{answer}", True, True)


def _texts(task: Any, doc: Any) -> tuple[str, str]:
    """The question, and a right answer.

    Of choices a task may name the right one by its number, or the question (Winogrande's are two beginnings of one
    sentence).
    """
    prompt, answer = task.doc_to_text(doc), task.doc_to_target(doc)
    if "multiple_choice" in str(task.OUTPUT_TYPE):
        choices = [str(choice) for choice in task.doc_to_choice(doc)]
        if isinstance(prompt, int):  # a sentence with a gap: each choice is a beginning, the answer its end
            return choices[prompt], str(answer)
        answer = _chosen(choices, answer)
    if isinstance(answer, list):
        answer = answer[0] if answer else ""
    return str(prompt), str(answer)


def _chosen(choices: list[str], answer: Any) -> str:
    """A right choice, where a task names it, or them, by number."""
    first = answer[0] if isinstance(answer, list) and answer else answer
    return choices[first] if isinstance(first, int) and 0 <= first < len(choices) else str(first)
