"""A verifiable problem and its worked solution, the common shape of all families, and the lifecycle's own families as
problems: chain sums, countdown, knights, words spelled backwards.

The held-out split is that of `documents.families.task`: what the lifecycle is evaluated on is not trained on here
either. A sum that begins with a held-out one belongs to neither split.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from random import Random
from typing import Literal, NamedTuple, Protocol

from k2model.documents.families import FAMILIES
from k2model.documents.families.task import Task
from k2model.documents.schema import is_heldout, make_item

Split = Literal["train", "heldout", "neither"]


class Solution(NamedTuple):
    """`steps` is the whole way, line by line; `brief` a shorter one; `check` one line that confirms the answer."""

    steps: tuple[str, ...]
    brief: str
    answer: str
    check: str
    method: str

    def trace(self, effort: str) -> str:
        return {"low": "", "medium": self.brief, "high": "\n".join(self.steps)}[effort]


@dataclass(frozen=True)
class Problem:
    """`key` is the content key, by which held-out content is recognised in whatever wording."""

    family: str
    domain: str
    key: str
    question: str
    answer: str  # the reference; other answers may be right too
    check: Callable[[str], bool]
    split: Split
    licence: str
    origin: str
    solution: Solution | None = None


class Family(Protocol):
    def draw(self, seed: int, index: int, size: int) -> Problem:
        """Problem `index` of a stream of about `size` distinct ones; a pure function of its arguments."""
        ...


#: Family -> its domain.
OURS = {"arithmetic": "mathematics", "countdown": "mathematics", "knights": "logic", "spelling": "language"}
MIN_POOL = 1_000

_METHODS = {
    "arithmetic": "Add or take away one term at a time, from left to right.",
    "countdown": "Join two numbers in every way, then try the third on the result until the target appears.",
    "knights": "Assume who is a knight, write down the truth of both statements, and keep what agrees with itself.",
    "spelling": "Spell the word letter by letter, then read the letters from the end.",
}
_CHECKS = {
    "arithmetic": "Taking the terms in another order gives {answer} again.",
    "countdown": "Working out {answer} uses each number once and gives the target.",
    "knights": "Under {answer} each statement has the truth of the one who makes it.",
    "spelling": "The last letter of the word comes first in{answer}, and the number of letters is the same.",
}


class OwnFamily:
    def __init__(self, name: str, domain: str):
        self.name = name
        self.domain = domain

    def draw(self, seed: int, index: int, size: int) -> Problem:
        """Draws beyond a family's supply begin again from its first."""
        tasks = _pool(self.name, seed, max(size, MIN_POOL))
        task = tasks[index % len(tasks)]
        module = FAMILIES[self.name]
        item = make_item(self.name, task.key, task.prompt, task.answer)
        return Problem(
            family=self.name,
            domain=self.domain,
            key=task.key,
            question=task.prompt,
            answer=task.answer,
            check=partial(module.check, item),
            split=_split_of(task),
            licence=module.LICENCE,
            origin=module.ORIGIN,
            solution=_solution(self.name, task),
        )


def _solution(name: str, task: Task) -> Solution:
    steps = tuple(task.high.split(";"))
    return Solution(steps, task.medium, task.answer, _CHECKS[name].format(answer=task.answer), _METHODS[name])


@lru_cache(maxsize=32)
def _pool(name: str, seed: int, size: int) -> list[Task]:
    tasks: list[Task] = FAMILIES[name].pool(Random(f"{seed}:synthesis {name}"), size)
    return tasks


def _split_of(task: Task) -> Split:
    if is_heldout(task.group or task.key):
        return "heldout"
    return "neither" if any(is_heldout(key) for key in task.reveals) else "train"
