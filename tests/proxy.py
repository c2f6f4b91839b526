"""A TCP proxy in front of a real server: every request waits before it is passed on, and the line can be cut.

For what a test or benchmark on one machine lacks: distance and failures. It also notes what HTTP asks for.
"""

import asyncio
import contextlib
import re
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

CHUNK = 2**18
_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n(?:.*?\r\n)*?range: bytes=(\d+)-(\d+)\r\n", re.IGNORECASE)


@dataclass
class Proxy:
    """Listens on `port` of the loopback interface. `ranges`: path and bytes (first, last) of all GETs of ranges so
    far; `received`: bytes that came back."""

    host: str
    to_port: int
    latency: float
    port: int = 0
    ranges: list[tuple[str, int, int]] = field(default_factory=list)
    received: int = 0

    def __post_init__(self) -> None:
        self._up = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: asyncio.Server = self._run(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Drop all connections and refuse others until `mend`."""
        self._run(self._cut())

    def mend(self) -> None:
        self._up = True

    def close(self) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _cut(self) -> None:
        self._up = False
        for writer in self._writers:
            writer.transport.abort()

    async def _end(self) -> None:
        await self._cut()
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._up:
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection(self.host, self.to_port)
        self._writers |= {writer, there_writer}
        try:
            with contextlib.suppress(asyncio.CancelledError):  # by `close`
                await asyncio.gather(self._requests(reader, there_writer), self._answers(there_reader, writer))
        finally:
            self._writers -= {writer, there_writer}
            writer.close()
            there_writer.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                for _, path, first, last in _REQUEST.findall(data):
                    self.ranges.append((path.decode(), int(first), int(last)))
                await asyncio.sleep(self.latency)
                writer.write(data)
                await writer.drain()
            writer.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                self.received += len(data)
                writer.write(data)
                await writer.drain()
            writer.close()


@contextlib.contextmanager
def proxied(endpoint: str, latency: float) -> Iterator[Proxy]:
    """A proxy in front of `endpoint` (`http://host:port`), with `latency` seconds before each request."""
    host, port = endpoint.removeprefix("http://").split(":")
    proxy = Proxy(host, int(port), latency)
    try:
        yield proxy
    finally:
        proxy.close()
