"""Any OpenAI-compatible endpoint as a teacher: its requests as the protocol has them, and what it answers.

A reply that was cut off is asked for once more with more room, where the job has some. `RecordedTeacher` says again
what an endpoint said, and asks nobody.

Not covered: streaming, and providers with a protocol of their own.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from k2model.errors import RecordError
from k2model.recipe.synthesis import EndpointConfig
from k2model.synthesis.conversation import Completion, Request, Unanswered, Usage
from k2model.synthesis.teachers import wire
from k2model.synthesis.teachers.client import Client, Read

CHAT = "/chat/completions"
REFUSED = "refused"  # in a row of calls: what the server said of a request that it does not take


class _Asked:
    """A teacher whose replies are answers to requests of the protocol."""

    def __init__(self, config: EndpointConfig):
        self._config = config

    async def complete(self, request: Request) -> Completion:
        """Raises what `_said` does."""
        sent = wire.body(self._config, request)
        completion = await self._completion(sent, request.sample)
        if completion.fault == "cut_off" and self._config.longer_tokens:
            longer = await self._completion(sent | {"max_tokens": self._config.longer_tokens}, request.sample)
            return longer._replace(usage=Usage(*map(sum, zip(completion.usage, longer.usage, strict=True))))
        return completion

    async def _completion(self, sent: Mapping[str, Any], sample: int) -> Completion:
        answer = await self._said(sent, sample)
        kept = answer.reply
        return Completion(wire.reply_of(kept), answer.usage, kept.get("fault", ""), kept.get("detail", ""))

    async def _said(self, sent: Mapping[str, Any], sample: int) -> wire.Answer:
        raise NotImplementedError

    def description(self) -> dict[str, Any]:
        return describe(self._config)


class EndpointTeacher(_Asked):
    def __init__(self, config: EndpointConfig, record: Path, read: Read = wire.read_whole):
        """`read`: how a response is read. Raises `TeacherError` for an address or a key that cannot be used."""
        super().__init__(config)
        self._read = read
        self._client = Client(config, record)
        self._heard: dict[str, dict[str, Any]] = {}

    @property
    def concurrency(self) -> int:
        return self._client.concurrency

    def session(self) -> AbstractAsyncContextManager[None]:
        return self._client.session()

    async def _said(self, sent: Mapping[str, Any], sample: int) -> wire.Answer:
        """Raises what `Client.ask` does, but for a request that the server does not take: that is an answer, too."""
        name = wire.fingerprint(sent, sample)
        try:
            answer = await self._client.ask(CHAT, sent, self._read, sample)
        except Unanswered as left:
            if left.reason != REFUSED:
                raise
            self._heard[name] = {"fingerprint": name, "request": sent, REFUSED: left.detail}
            return _refusal(left.detail)
        self._heard[name] = {}
        return answer

    def heard(self) -> Iterator[dict[str, Any]]:
        """The calls since the last time, by their fingerprints: of each `request`, and `response` or `refused`. To be
        asked for inside the session."""
        for name, row in sorted(self._heard.items()):
            yield row or {"fingerprint": name} | self._client.recorded(name)
        self._heard = {}

    def run_statistics(self) -> dict[str, Any]:
        return self._client.run_statistics()


class RecordedTeacher(_Asked):
    """Answers from rows of calls alone. `rows`: JSON lines as `EndpointTeacher.heard` gives them."""

    concurrency = 1

    def __init__(self, config: EndpointConfig, rows: Path):
        super().__init__(config)
        self._path = rows
        with rows.open(encoding="utf-8") as lines:
            self._rows = {row["fingerprint"]: row for row in map(json.loads, lines)}

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        yield

    async def _said(self, sent: Mapping[str, Any], sample: int) -> wire.Answer:
        """Raises `RecordError` for a request that was never made."""
        row = self._rows.get(wire.fingerprint(sent, sample))
        if row is None:
            raise RecordError(
                f"{self._path} has no answer to a request that the job makes: {str(sent['messages'])[-80:]!r}. The "
                "job asks in another way than it did; raise the version of synthesis_calls in k2model/versions.py"
            )
        return _refusal(row[REFUSED]) if REFUSED in row else wire.read_whole(row["response"], row["request"])

    def run_statistics(self) -> dict[str, Any]:
        return {}


def describe(config: EndpointConfig) -> dict[str, Any]:
    """An endpoint as the report has it."""
    sampling = {"temperature": config.temperature, "top_p": config.top_p, "max_tokens": config.max_tokens}
    return {"kind": "endpoint", "model": config.model, **sampling}


def _refusal(detail: str) -> wire.Answer:
    return wire.Answer({"content": "", "trace": "", "calls": [], "fault": REFUSED, "detail": detail}, Usage())
