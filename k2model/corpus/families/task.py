"""A reasoning task with its worked solution, the common shape of the families with a thinking trace."""

from collections.abc import Sequence
from typing import NamedTuple

from k2model.corpus.documents import Item, is_heldout, make_item


class Task(NamedTuple):
    """`key` is the canonical content: two tasks with one key never sit on both sides of the split."""

    key: str
    prompt: str
    answer: str
    high: str  # the whole trace
    medium: str  # a shorter trace

    def trace(self, effort: str) -> str:
        return {"low": "", "medium": self.medium, "high": self.high}[effort]


def split(tasks: Sequence[Task]) -> tuple[list[Task], list[Task]]:
    """(trained, held out), decided by the key alone."""
    heldout = [is_heldout(task.key) for task in tasks]
    trained = [task for task, out in zip(tasks, heldout, strict=True) if not out]
    return trained, [task for task, out in zip(tasks, heldout, strict=True) if out]


def items_of(family: str, tasks: Sequence[Task], count: int) -> list[Item]:
    """The first `count` tasks with distinct keys as evaluation items."""
    by_key: dict[str, Task] = {}
    for task in tasks:
        by_key.setdefault(task.key, task)
    return [make_item(family, task.key, task.prompt, task.answer) for task in list(by_key.values())[:count]]
