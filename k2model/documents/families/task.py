"""A reasoning task with its worked solution, the common shape of the families with a thinking trace."""

from collections.abc import Sequence
from typing import NamedTuple

from k2model.documents.schema import Item, is_heldout, make_item


class Task(NamedTuple):
    """`key` is the canonical content: two tasks with one key never sit on both sides of the split.

    `group` decides the side instead where tasks of different keys share parts of their traces ("" = the
    key does). `reveals` are keys of other tasks whose whole trace stands in this one's.
    """

    key: str
    prompt: str
    answer: str
    high: str  # the whole trace
    medium: str  # a shorter trace
    group: str = ""
    reveals: tuple[str, ...] = ()

    def trace(self, effort: str) -> str:
        return {"low": "", "medium": self.medium, "high": self.high}[effort]


def split(tasks: Sequence[Task]) -> tuple[list[Task], list[Task]]:
    """(trained, held out), decided by content alone; a task that reveals a held-out one is on neither side."""
    heldout = [task for task in tasks if is_heldout(task.group or task.key)]
    trained = [
        task
        for task in tasks
        if not is_heldout(task.group or task.key) and not any(is_heldout(key) for key in task.reveals)
    ]
    return trained, heldout


def items_of(family: str, tasks: Sequence[Task], count: int) -> list[Item]:
    """The first `count` tasks with distinct keys as evaluation items."""
    by_key: dict[str, Task] = {}
    for task in tasks:
        by_key.setdefault(task.key, task)
    return [make_item(family, task.key, task.prompt, task.answer) for task in list(by_key.values())[:count]]
