"""A problem whose answer a program can check, its worked solution, and problems of the lifecycle's own families.

The held-out split of our own families is that of their tasks: what the lifecycle is evaluated on is not trained on here
either. A sum that begins with a held-out one belongs to neither split.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from random import Random
from typing import NamedTuple

from k2model.documents.families import FAMILIES
from k2model.documents.families.task import Split, Task
from k2model.documents.markup import trace_at
from k2model.documents.schema import make_item


class Solution(NamedTuple):
    """`steps` is the whole way, line by line; `brief` a shorter one; `check` one line that confirms the answer."""

    steps: tuple[str, ...]
    brief: str
    answer: str
    check: str
    method: str

    def trace(self, effort: str) -> str:
        return trace_at(effort, self.brief, "\n".join(self.steps))


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

    @property
    def heldout(self) -> bool:
        return self.split == "heldout"


class OwnFamily(NamedTuple):
    domain: str
    method: str
    check: str


OWN: dict[str, OwnFamily] = {
    "arithmetic": OwnFamily(
        "mathematics",
        "Add or take away one term at a time, from left to right.",
        "Taking the terms in another order gives {answer} again.",
    ),
    "countdown": OwnFamily(
        "mathematics",
        "Join two numbers in every way, then try the third on the result until the target appears.",
        "Working out {answer} uses each number once and gives the target.",
    ),
    "knights": OwnFamily(
        "logic",
        "Assume who is a knight, write down the truth of both statements, and keep what agrees with itself.",
        "Under {answer} each statement has the truth of the one who makes it.",
    ),
    "spelling": OwnFamily(
        "language",
        "Spell the word letter by letter, then read the letters from the end.",
        "The last letter of the word comes first in{answer}, and the number of letters is the same.",
    ),
}
MIN_POOL = 1_000


def draw_own(family: str, seed: int, index: int, size: int) -> Problem:
    """Draws beyond a family's supply begin again from its first."""
    tasks = _pool(family, seed, max(size, MIN_POOL))
    task, own, module = tasks[index % len(tasks)], OWN[family], FAMILIES[family]
    check = own.check.format(answer=task.answer)
    return Problem(
        family=family,
        domain=own.domain,
        key=task.key,
        question=task.prompt,
        answer=task.answer,
        check=partial(module.check, make_item(family, task.key, task.prompt, task.answer)),
        split=task.split,
        licence=module.LICENCE,
        origin=module.ORIGIN,
        solution=Solution(tuple(task.high.split(";")), task.medium, task.answer, check, own.method),
    )


@lru_cache(maxsize=32)
def _pool(name: str, seed: int, size: int) -> list[Task]:
    tasks: list[Task] = FAMILIES[name].pool(Random(f"{seed}:synthesis {name}"), size)
    return tasks
