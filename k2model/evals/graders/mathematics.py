"""Answers to mathematics, graded: `\\frac{1}{2}`, `0.5` and `1/2` are the same (`k2model.documents.answers`)."""

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from k2model.documents.answers import is_accepted, library_versions
from k2model.documents.schema import Item

VERSION = "2"  # another one grades otherwise


def grade(item: Item, answer: str) -> bool | None:
    """Whether the final answer in a text is one of those that are accepted; None where no accepted one can be read.
    Raises EvaluationError without math-verify."""
    return is_accepted(answer, json.loads(item["meta"]).get("accepted") or [item["answer"]])


def grade_all(pairs: Iterable[tuple[Item, str]], workers: int | None = None) -> list[bool | None]:
    """`grade` of each (item, answer), in their order, as many at once as there are processors."""
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(lambda pair: grade(*pair), pairs))


def grader_version() -> dict[str, str]:
    """What a grade depends on beside the item and the answer. Raises EvaluationError without math-verify."""
    return {"mathematics": VERSION, **library_versions()}
