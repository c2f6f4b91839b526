"""A reasoning task with its worked solution: what the families with a thinking trace have in common.

Some of them draw from reasoning-gym. Importing any part of it imports all of its datasets. One of them, zebra_puzzles,
imports pycosat, which is published as source only and would make a C compiler part of the set-up. Where pycosat is
absent, that dataset is left out of the import; `SOLVER_DATASETS` says what then cannot be drawn.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Literal, NamedTuple

from k2model.documents.markup import trace_at
from k2model.documents.schema import Item, is_heldout, make_item

Split = Literal["train", "heldout", "neither"]
SOLVER = "pycosat==0.6.6"  # the one that reasoning-gym 0.1.25 asks for
SOLVER_DATASETS = frozenset({"zebra_puzzles"})


class Task(NamedTuple):
    """`key` is the canonical content: two tasks with one key never fall into both splits.

    `group` decides the split instead where tasks of different keys share parts of their traces ("" = the
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
        return trace_at(effort, self.medium, self.high)

    @property
    def split(self) -> Split:
        """Decided by content alone; a task that reveals a held-out one is in neither split."""
        if is_heldout(self.group or self.key):
            return "heldout"
        return "neither" if any(map(is_heldout, self.reveals)) else "train"


def split(tasks: Sequence[Task]) -> tuple[list[Task], list[Task]]:
    """(trained, held out)."""
    trained, heldout = ([task for task in tasks if task.split == name] for name in ("train", "heldout"))
    return trained, heldout


def items_of(family: str, tasks: Sequence[Task], count: int) -> list[Item]:
    """The first `count` tasks with distinct keys as evaluation items."""
    by_key: dict[str, Task] = {}
    for task in tasks:
        by_key.setdefault(task.key, task)
    return [make_item(family, task.key, task.prompt, task.answer) for task in list(by_key.values())[:count]]


def gym_module(name: str = "") -> ModuleType:
    """A module of reasoning-gym by its name within it, such as `logic.knights_knaves`; "" is the package itself."""
    if not has_solver():
        # What reasoning_gym.logic imports by name of the one module that needs the solver.
        absent = ModuleType("reasoning_gym.logic.zebra_puzzles")
        absent.ZebraConfig = absent.ZebraCurriculum = absent.ZebraDataset = None  # type: ignore[attr-defined]
        sys.modules.setdefault(absent.__name__, absent)
    return import_module(f"reasoning_gym.{name}" if name else "reasoning_gym")


def has_solver() -> bool:
    return find_spec("pycosat") is not None
