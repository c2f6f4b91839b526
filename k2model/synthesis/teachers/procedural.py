"""The offline teacher: it says what each request's solver worked out, with an error in some of its replies.

Errors are injected at a set rate, to exercise verification: a reply is cut short, emptied, or its last
number or word is changed; which and how is a function of the request and the seed. Reasoning behaviours take from here
the wrong guesses that they correct.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from k2model.documents.schema import content_id
from k2model.synthesis.conversation import Completion, Reply, Request, ToolCall, Unanswered

_OPPOSITES = {"yes": "No", "no": "Yes", "true": "False", "false": "True"}
TRIES = 8
ANOTHER = "something else"


def inject_error(text: str, rng: Random) -> str:
    """The last number changed by a few, else the last yes or no turned, else the last word turned round; `text`
    without a word comes back empty."""
    if numbers := list(re.finditer(r"\d+", text)):
        last = numbers[-1]
        return f"{text[: last.start()]}{int(last[0]) + rng.randint(1, 9)}{text[last.end() :]}"
    words = list(re.finditer(r"\w+", text))
    if not words:
        return ""
    last = words[-1]
    changed = _OPPOSITES.get(last[0].lower(), last[0][::-1] if last[0] != last[0][::-1] else last[0] + "s")
    return text[: last.start()] + changed + text[last.end() :]


def near_miss(answer: str, check: Callable[[str], bool], rng: Random) -> str:
    """Something that looks like the answer and is wrong; `ANOTHER` when no error that was tried makes it wrong."""
    tries = (inject_error(answer, rng) for _ in range(TRIES))
    return next((guess for guess in tries if guess and not check(guess)), ANOTHER)


@dataclass(frozen=True)
class ProceduralTeacher:
    """`error_rate` is the share of replies that get an error."""

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
                return Completion(with_error(request.exact, rng))
        return Completion(request.exact)

    def description(self) -> dict[str, Any]:
        return {"kind": "procedural", "error_rate": self.error_rate}

    def run_statistics(self) -> dict[str, Any]:
        return {}


def with_error(reply: Reply, rng: Random) -> Reply:
    """A reply that is wrong in one of the ways of a careless teacher."""
    if reply.calls:
        *calls, last = reply.calls
        return reply._replace(calls=(*calls, ToolCall(last.name, inject_error(last.arguments, rng))))
    kind = rng.choice(("changed", "changed", "cut", "empty"))
    if kind == "empty":
        return Reply()
    if kind == "cut":
        return reply._replace(content=reply.content[: len(reply.content) // 2])
    return reply._replace(content=inject_error(reply.content, rng))
