"""Between a maker and its S3: a line that is cut, resets, is slow, answers with errors; a server that is killed; a
login that ends.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from random import Random

from tests.chaos.bench import Bench, Command, Expected, Fault, Seen, Unexpected
from tests.proxy import CHUNK, Proxy
from tests.servers import S3Server, run_s3

STATUS = {403: "Forbidden", 404: "Not Found", 400: "Bad Request", 500: "Internal Server Error", 503: "Slow Down"}


@dataclass
class FaultyLine(Proxy):
    """A proxy whose answers can be lost halfway, trickle, or be errors of the service's own."""

    lost: float = 0.0  # of the answers, which are cut in their middle
    trickle: float = 0.0  # seconds before each piece of an answer
    answer: tuple[int, str] | None = None  # status and code that all requests get
    draw: Random = field(default_factory=Random)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._up and self.answer is not None:
            await self._refuse(reader, writer, *self.answer)
        else:
            await super()._serve(reader, writer)

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int, code: str) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            asked = await reader.readuntil(b"\r\n\r\n")
            with contextlib.suppress(asyncio.TimeoutError):
                while await asyncio.wait_for(reader.read(CHUNK), 0.1):
                    pass
            body = f"<Error><Code>{code}</Code><Message>{code}, as the service says it</Message></Error>"
            head = f"HTTP/1.1 {status} {STATUS[status]}\r\nContent-Type: application/xml\r\nConnection: close\r\n"
            shown = "" if asked.startswith(b"HEAD ") else body
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{shown}".encode())
            await writer.drain()
        writer.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                await asyncio.sleep(self.trickle)
                if self.draw.random() < self.lost:
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    writer.transport.abort()
                    return
                writer.write(data)
                await writer.drain()
            writer.close()


@contextlib.contextmanager
def line_to(bench: Bench, server: S3Server, latency: float = 0.0) -> Iterator[tuple[FaultyLine, str]]:
    """The line, and an empty store behind it; all commands of the bench take it."""
    host, port = server.endpoint.removeprefix("http://").split(":")
    proxy = FaultyLine(host, int(port), latency, draw=bench.draw)
    bench.environment.update(server.environment, AWS_ENDPOINT_URL=proxy.endpoint)
    try:
        yield proxy, f"s3://{server.bucket}/{bench.folder.name}"
    finally:
        bench.environment.update(server.environment)
        proxy.close()


def met(
    strike: Callable[[FaultyLine], None], mend: Callable[[FaultyLine], None], seconds: float, words: tuple[str, ...],
    bench: Bench, note: str = "", latency: float = 0.0,
) -> Seen:  # fmt: skip
    """Strikes before a maker begins, or when it comes to `note`; mends it `seconds` later, or when it has ended."""
    with line_to(bench, bench.services.s3, latency) as (line, store):
        if not note:
            strike(line)
        maker = bench.start("subject", "line", "--store", store, "--pause", "0.05" if note else "0")
        if note:
            maker.wait_for(note)
            strike(line)
        timer = threading.Timer(seconds, mend, [line]) if seconds else None
        if timer:
            timer.start()
        ended = maker.wait()
        if timer:
            timer.cancel()
        mend(line)
        return Seen([ended], bench.line(store), bench.calm, words)


def cut(line: FaultyLine) -> None:
    line.cut()


def whole(line: FaultyLine) -> None:
    line.lost, line.trickle, line.answer = 0.0, 0.0, None
    line.cut()  # connections of before
    line.mend()


def losing(share: float, line: FaultyLine) -> None:
    line.lost = share


def trickling(seconds: float, line: FaultyLine) -> None:
    line.trickle = seconds


def answering(status: int, code: str, line: FaultyLine) -> None:
    line.answer = (status, code)
    line.cut()
    line.mend()


def credentials(changes: dict[str, str], words: tuple[str, ...], bench: Bench) -> Seen:
    """A maker with another login; the secret is in no message."""
    server = bench.services.s3
    bench.environment.update(server.environment)
    store = f"s3://{server.bucket}/{bench.folder.name}"
    ended = bench.line(store, **changes)
    if secret := [value for name, value in changes.items() if "SECRET" in name and value in ended.out + ended.err]:
        raise Unexpected(f"{secret} is in what it says")
    return Seen([ended], bench.line(store), bench.calm, words)


def server_killed(bench: Bench) -> Seen:
    """SeaweedFS is killed in the midst of it, and another one is started with what it has left on its disk."""
    folder = bench.folder / "own-s3"
    folder.mkdir()
    with run_s3(folder) as server:
        bench.environment.update(server.environment)
        store = f"s3://{server.bucket}/own"
        maker: Command = bench.start("subject", "line", "--store", store, "--pause", "0.1")
        maker.wait_for("tokens-b")
        server.process.kill()
        server.process.wait()
        ended = maker.wait()
    with run_s3(folder) as again:
        bench.environment.update(again.environment)
        return Seen([ended], bench.line(store), bench.calm, ("AWS_ENDPOINT_URL|reach",))


def objects_gone(bench: Bench) -> Seen:
    """Somebody empties the bucket between a step and the next."""
    import boto3

    server = bench.services.s3
    bench.environment.update(server.environment)
    prefix = bench.folder.name
    store = f"s3://{server.bucket}/{prefix}"
    maker = bench.start("subject", "line", "--store", store, "--pause", "0.3")
    maker.wait_for("tokens-gathered")
    keys = (server.environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    key, secret = keys
    client = boto3.client(
        "s3", endpoint_url=server.endpoint, aws_access_key_id=key, aws_secret_access_key=secret, region_name="us-east-1"
    )
    for one in client.list_objects_v2(Bucket=server.bucket, Prefix=f"{prefix}/").get("Contents", []):
        client.delete_object(Bucket=server.bucket, Key=one["Key"])
    return Seen([maker.wait()], bench.line(store), bench.calm)


FAULTS = [
    Fault("S3/not reachable", Expected.ERROR, partial(met, cut, whole, 0.0, ("AWS_ENDPOINT_URL",))),
    Fault("S3/down 3 s", Expected.EITHER, partial(met, cut, whole, 3.0, ("AWS_ENDPOINT_URL",), note="tokens-a")),
    Fault(
        "S3/down 60 s", Expected.EITHER, partial(met, cut, whole, 60.0, ("AWS_ENDPOINT_URL",), note="corpus-c"), False
    ),
    Fault("S3/one answer in ten is cut off", Expected.EITHER, partial(met, partial(losing, 0.1), whole, 0.0, ())),
    Fault("S3/every answer is cut off", Expected.ERROR, partial(met, partial(losing, 1.0), whole, 0.0, ()), False),
    Fault("S3/answers after 0.2 s", Expected.EQUAL, partial(met, partial(trickling, 0.2), whole, 0.0, ()), False),
    Fault(
        "S3/503 for 2 s", Expected.EITHER,
        partial(met, partial(answering, 503, "SlowDown"), whole, 2.0, (), note="corpus-b"),
    ),
    Fault(
        "S3/500 for ever", Expected.ERROR,
        partial(met, partial(answering, 500, "InternalError"), whole, 0.0, (), note="tokens-b"), False,
    ),
    Fault(
        "S3/the login expires", Expected.ERROR,
        partial(met, partial(answering, 400, "ExpiredToken"), whole, 0.0, ("ExpiredToken|credentials|token",),
                note="tokens-a"),
    ),
    Fault(
        "S3/the login may not write any more", Expected.ERROR,
        partial(met, partial(answering, 403, "AccessDenied"), whole, 0.0, ("credentials|right|permi|denied",),
                note="tokens-c"),
    ),
    Fault(
        "S3/a wrong secret key", Expected.ERROR,
        partial(credentials, {"AWS_SECRET_ACCESS_KEY": "canary-wrong"}, ("credentials",)),
    ),
    Fault(
        "S3/an unknown access key", Expected.ERROR,
        partial(credentials, {"AWS_ACCESS_KEY_ID": "nobody"}, ("credentials",)),
    ),
    Fault(
        "S3/no such bucket", Expected.ERROR,
        partial(met, partial(answering, 404, "NoSuchBucket"), whole, 0.0, ("Bucket",)),
    ),
    Fault("S3/the server is killed and comes back", Expected.EITHER, server_killed, fast=False),
    Fault("S3/the bucket is emptied in the midst of it", Expected.EITHER, objects_gone, fast=False),
]  # fmt: skip
