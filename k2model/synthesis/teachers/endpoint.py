"""Any OpenAI-compatible endpoint as a teacher: its requests as the protocol has them, and what it answers.

Not covered: streaming, and providers with a protocol of their own.
"""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from k2model.synthesis.config import EndpointConfig
from k2model.synthesis.conversation import Completion, Request
from k2model.synthesis.teachers import wire
from k2model.synthesis.teachers.client import Client, Read

CHAT = "/chat/completions"


class EndpointTeacher:
    def __init__(self, config: EndpointConfig, record: Path, read: Read = wire.read):
        """`read`: how a response is read. Raises `TeacherError` for an address or a key that cannot be used."""
        self._config, self._read = config, read
        self._client = Client(config, record)

    @property
    def concurrency(self) -> int:
        return self._client.concurrency

    def session(self) -> AbstractAsyncContextManager[None]:
        return self._client.session()

    async def complete(self, request: Request) -> Completion:
        """Raises what `Client.ask` does."""
        answer = await self._client.ask(CHAT, wire.body(self._config, request), self._read, request.sample)
        return Completion(wire.reply_of(answer.reply), answer.usage)

    def description(self) -> dict[str, Any]:
        config = self._config
        sampling = {"temperature": config.temperature, "top_p": config.top_p, "max_tokens": config.max_tokens}
        return {"kind": "endpoint", "model": config.model, **sampling}

    def run_statistics(self) -> dict[str, Any]:
        return self._client.run_statistics()
