"""The offline teacher: it says what each request's solver worked out, or, at a set rate, something spoilt.

What is spoilt, and how, is a function of the request and the seed. Spoiling is there to exercise verification: a
reply is cut short, emptied, or its last number or word is changed.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random
from typing import Any

from k2model.corpus.documents import content_id
from k2model.corpus.synthesis.conversation import Completion, Reply, Request, ToolCall, Unanswered
from k2model.corpus.synthesis.slips import slip


@dataclass(frozen=True)
class ProceduralTeacher:
    """`error_rate` is the share of replies that are spoilt."""

    error_rate: float = 0.0
    seed: int = 0

    @property
    def concurrency(self) -> int:
        return 1

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        yield

    async def complete(self, request: Request) -> Completion:
        """Raises `Unanswered` (`no_exact_answer`) for a request that no program can answer."""
        if request.exact is None:
            raise Unanswered("no_exact_answer", request.turns[-1].content[:80])
        if self.error_rate:
            said = (part for turn in request.turns for part in (turn.role, turn.content, *(c.text for c in turn.calls)))
            rng = Random(content_id(str(self.seed), request.effort, str(request.sample), *said))
            if rng.random() < self.error_rate:
                return Completion(spoil(request.exact, rng))
        return Completion(request.exact)

    def facts(self) -> dict[str, Any]:
        return {"kind": "procedural", "error_rate": self.error_rate}

    def account(self) -> dict[str, Any]:
        return {}


def spoil(reply: Reply, rng: Random) -> Reply:
    """A reply that is wrong in one of the ways of a careless teacher."""
    if reply.calls:
        *calls, last = reply.calls
        return reply._replace(calls=(*calls, ToolCall(last.name, slip(last.arguments, rng))))
    kind = rng.choice(("slip", "slip", "cut", "empty"))
    if kind == "empty":
        return Reply()
    if kind == "cut":
        return reply._replace(content=reply.content[: len(reply.content) // 2])
    return reply._replace(content=slip(reply.content, rng))
