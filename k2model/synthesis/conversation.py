"""What is said between a job and its teacher, free of any input or output.

A *conversation* is a generator: it yields requests, is sent completions, and returns the samples it made of them. So
a kind of document that takes one call and one that takes a dialogue of ten look alike to whoever runs them, and a
conversation is tested without a teacher. How calls are made, recorded, limited and retried is `teachers`; in which
order cases run and where samples go is `run`.
"""

import json
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from k2model.documents.schema import Document


class ToolCall(NamedTuple):
    name: str
    arguments: str  # JSON text of an object

    @property
    def text(self) -> str:
        """The call as K2 writes it between its tool tags."""
        return f'{{"name": {json.dumps(self.name, ensure_ascii=False)}, "arguments": {self.arguments}}}'


class Turn(NamedTuple):
    role: str  # system, user, assistant, tool
    content: str = ""
    trace: str = ""
    calls: tuple[ToolCall, ...] = ()


class Reply(NamedTuple):
    """What a teacher says: an answer, the thinking before it, the tools it calls."""

    content: str = ""
    trace: str = ""
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class Request:
    """`exact` is what a teacher that makes no mistakes would say; None where no program knows. It is never
    sent. `sample` tells equal requests apart that are to be answered anew."""

    turns: tuple[Turn, ...]
    effort: str
    tools: tuple[str, ...] = ()  # JSON texts of MCP tool definitions
    exact: Reply | None = None
    sample: int = 0


class Usage(NamedTuple):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Completion(NamedTuple):
    """`fault`: why the reply cannot be used, whatever it says: cut_off, filtered, refused, ... (`wire.read_whole`)."""

    reply: Reply
    usage: Usage = Usage()
    fault: str = ""
    detail: str = ""


class Sample(NamedTuple):
    """A document made of a conversation. It is kept when `reason` is empty, else rejected for it."""

    document: Document
    heldout: bool = False
    reason: str = ""
    detail: str = ""


Conversation = Generator[Request, Completion, list[Sample]]


class Case(NamedTuple):
    """One conversation of a job; `family` is the row of the report that it counts for."""

    family: str
    conversation: Conversation


class Unanswered(Exception):
    """A teacher gives no answer to a request, in this run: the case is left for another one.

    `reason` is a word for the counts, e.g. `budget`, `attempts_exhausted`, `no_exact_answer`.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Teacher(Protocol):
    """Whoever answers requests. `complete` may be called `concurrency` times at once, inside `session`."""

    @property
    def concurrency(self) -> int: ...

    def session(self) -> AbstractAsyncContextManager[None]: ...

    async def complete(self, request: Request) -> Completion:
        """Raises `Unanswered` for this request alone; that nothing can be asked at all is `session`'s to raise."""
        ...

    def description(self) -> dict[str, Any]:
        """What it is, for the report: a function of its settings."""
        ...

    def run_statistics(self) -> dict[str, Any]:
        """What happened in this run (calls, retries, money): not a function of the settings."""
        ...
