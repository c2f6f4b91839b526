"""Marks that are ours where the harness's own do harm, and the harness's own where they do not.

Programs run in the sandbox, mathematics is compared in a process that can be ended, and the last box counts, wherever
it stands. An answer is marked for itself: of several to one item each is.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from k2model.documents.schema import Item, make_item
from k2model.errors import EvaluationError, nearest
from k2model.evals.harness.suites import HarnessTask
from k2model.evals.repeats import Vote

Verdict = bool | float | None
_LETTER = re.compile(r"\(?\b([A-Z])\b\)?")


def graders() -> dict[str, Callable[[Sequence[tuple[Item, str]]], Sequence[Verdict]]]:
    """By the name a row gives: verdicts on (item, answer), None where there is none."""
    from k2model.evals.graders import code, mathematics

    return {"program": code.grade_all, "mathematics": mathematics.grade_all, "letter": _letters}


def graded_by_us(task: HarnessTask, built: Any, answers: Sequence[tuple[Mapping[str, Any], str]]) -> Sequence[Verdict]:
    """Verdicts of the row's grader on (document, answer). Raises EvaluationError for a grader that there is not, and
    where this machine cannot run it."""
    known = graders()
    if task.grade not in known:
        raise EvaluationError(f"task '{task.name}': grade '{task.grade}' is none; {nearest(task.grade, known)}")
    return known[task.grade]([(_item(task, built, doc), answer) for doc, answer in answers])


def versions(task: HarnessTask) -> dict[str, str]:
    """What the marks depend on beside item and answer."""
    from k2model.evals.graders import code, mathematics

    own = {"program": code.grader_version, "mathematics": mathematics.grader_version}
    return own[task.grade]() if task.grade in own else {}


def vote_of(task: HarnessTask) -> Vote | None:
    """What of an answer counts in a vote among several; None where the row's grader reads no short answer."""
    from k2model.documents.answers import final

    read = {"mathematics": final, "letter": last_letter}.get(task.grade)
    return (lambda _, answer: read(answer)) if read else None


def graded_by_theirs(task: HarnessTask, built: Any, instance: Any, answer: str) -> dict[str, Any]:
    """The harness's marks of one answer, by metric, through the task's own filters.

    Raises EvaluationError for a filter that the task has not.
    """
    instance.resps, instance.filtered_resps = [answer], {}
    for one in built._filters:
        one.apply([instance])
    name = filter_of(task, built)
    return dict(built.process_results(instance.doc, [instance.filtered_resps[name]]))


def filter_of(task: HarnessTask, built: Any) -> str:
    """The filter whose marks count: the row's, or the first of the task."""
    names = [one.name for one in built._filters]
    if task.filter and task.filter not in names:
        raise EvaluationError(f"{built.task_name} has no filter '{task.filter}'; {nearest(task.filter, names)}")
    return task.filter or names[0]


def last_letter(text: str) -> str | None:
    """The letter of a choice that an answer ends with: in its last box, behind its last "answer", or alone."""
    from k2model.documents.answers import final

    found = _LETTER.search((final(text) or "").replace("\\text", ""))
    return found[1] if found else None


def _letters(pairs: Sequence[tuple[Item, str]]) -> list[Verdict]:
    return [
        last_letter(answer) is not None and last_letter(answer) == last_letter(item["answer"]) for item, answer in pairs
    ]


def _item(task: HarnessTask, built: Any, doc: Mapping[str, Any]) -> Item:
    from k2model.evals.graders import code

    if task.grade == "program":
        return code.humaneval_item(doc) if "entry_point" in doc else code.mbpp_item(doc)
    return make_item(task.name, "", str(built.doc_to_text(doc)), str(built.doc_to_target(doc)))
