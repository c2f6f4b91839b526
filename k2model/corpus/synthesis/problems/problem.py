"""A verifiable problem and its worked solution, the common shape of all families."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

Side = Literal["train", "heldout", "neither"]


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
    side: Side
    licence: str
    origin: str
    solution: Solution | None = None


class Family(Protocol):
    def draw(self, seed: int, index: int, size: int) -> Problem:
        """Problem `index` of a stream of about `size` distinct ones; a pure function of its arguments."""
        ...
