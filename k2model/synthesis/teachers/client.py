"""Calls of an OpenAI-compatible server, whatever is asked of it: recorded, limited, retried, stopped by their budget.

What is sent, and how an answer is read, is whose who asks (`Client.ask`): a teacher of synthesis, a model under
evaluation, a judge. The key is read from the environment variable that the configuration names and stands in no record,
log or error. Not covered: streaming, and providers with a protocol of their own.
"""

import asyncio
import contextlib
import ipaddress
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from k2model.documents.counts import Counts
from k2model.errors import TeacherError
from k2model.synthesis.config import EndpointConfig
from k2model.synthesis.conversation import Unanswered, Usage
from k2model.synthesis.output import cost
from k2model.synthesis.teachers import wire
from k2model.synthesis.teachers.limits import (
    FATAL_STATUSES,
    RETRIED_STATUSES,
    Budget,
    Pause,
    TokenBucket,
    retry_after,
    wait_seconds,
)
from k2model.synthesis.teachers.record import Record

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 600.0  # a `Retry-After` beyond this ends the run instead
SHOWN = 200  # characters of a response in an error


class _Failed(Exception):
    """One attempt that gave no answer. `charged`: what the endpoint may have billed for it."""

    def __init__(self, what: str, charged: Usage = Usage(), pause: float = 0.0):  # noqa: B008  a tuple
        super().__init__(what)
        self.charged = charged
        self.pause = pause


class _Call(NamedTuple):
    name: str  # its fingerprint
    url: str
    sent: Mapping[str, Any]
    read: "Read"


#: Reads a response's text, given what was sent. Raises `wire.BadResponse` for what is worth another attempt, and
#: `TeacherError` for what ends the run.
Read = Callable[[str, Mapping[str, Any]], wire.Answer]


class Client:
    """`ask` may be called `concurrency` times at once, inside `session`."""

    def __init__(self, config: EndpointConfig, record: Path | None):
        """`record`: the JSONL file of calls; None keeps none. Raises `TeacherError` for an address or a key that cannot
        be used."""
        self._config = config
        self._url = _checked_url(config)
        self._key = _key(config)
        self._path = record
        self._counts = Counts()
        self._asking: dict[str, asyncio.Task[wire.Answer]] = {}
        self._rng = Random()
        self._failures_in_a_row = 0
        self._stopped = ""
        self._fatal: TeacherError | None = None

    @property
    def concurrency(self) -> int:
        return max(1, self._config.concurrency)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        import httpx

        config = self._config
        self._slots = asyncio.Semaphore(self.concurrency)
        self._requests, self._tokens = TokenBucket(config.requests_per_minute), TokenBucket(config.tokens_per_minute)
        self._pause = Pause()
        limits = httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
        timeout = httpx.Timeout(config.timeout_seconds, connect=min(CONNECT_SECONDS, config.timeout_seconds))
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        with Record.opened(self._path) as self._record:
            self._budget = Budget(config, self._record.spent)
            self._counts["torn_bytes"] = self._record.torn_bytes
            async with httpx.AsyncClient(
                headers=headers, limits=limits, timeout=timeout, trust_env=not _is_loopback(self._url)
            ) as self._client:
                try:
                    yield
                finally:
                    self._asking.clear()
        if self._fatal:
            raise self._fatal

    async def ask(self, path: str, sent: Mapping[str, Any], read: Read, sample: int = 0) -> wire.Answer:
        """The recorded answer, or a fresh one, to `sent`, posted to `path` below the base address. Equal requests under
        way at once are asked once; `sample` tells those apart that are to be answered anew.

        Raises `Unanswered` with `budget`, `attempts_exhausted`, `refused` or `stopped`. That the server will answer
        nothing at all is raised as `TeacherError` by the session, once the calls under way are recorded.
        """
        name = wire.fingerprint(sent, sample)
        if name in self._record:
            self._counts["replayed"] += 1
            return wire.Answer(*self._record.answer(name))
        if name not in self._asking:
            task = asyncio.create_task(self._ask(_Call(name, self._url + path, sent, read)))
            task.add_done_callback(lambda _: self._asking.pop(name, None))
            self._asking[name] = task
        return await self._asking[name]

    def recorded(self, name: str) -> dict[str, Any]:
        """Request and response of a recorded answer, by its fingerprint, inside the session. Raises KeyError."""
        row = self._record.row(name)
        return {"request": row["request"], "response": row["response"]}

    async def get(self, path: str) -> Any:
        """The JSON at `path` below the base address; None where the server has nothing there. Raises TeacherError when
        it cannot be reached, and for a key that it does not take."""
        import httpx

        try:
            response = await self._client.get(self._url + path)
            if response.status_code in (401, 403):
                named = self._config.api_key_env
                remedy = f"check the key in ${named}" if named else "name the environment variable that holds its key"
                raise TeacherError(f"{self._url}{path} answers status {response.status_code}; {remedy}")
            return response.json() if response.status_code == 200 else None
        except httpx.HTTPError as error:
            raise TeacherError(f"{self._url}{path} gives no answer ({type(error).__name__}); is it running?") from error
        except ValueError:
            return None

    def run_statistics(self) -> dict[str, Any]:
        spent = self._budget.spent
        names = ("asked", "answered", "replayed", "failed_attempts", "usage_wrong", "torn_bytes")
        return {name: self._counts[name] for name in names} | {
            "spent_tokens": sum(spent),
            "spent_cost": round(cost(self._config, spent), 6),
            "failures": self._counts.below("failures"),
            "stopped": self._stopped or self._budget.stopped,
        }

    async def _ask(self, call: _Call) -> wire.Answer:
        """One request with its retries, which alone decides whether the run goes on."""
        try:
            answer = await self._retried(call)
        except TeacherError as error:
            # Calls under way are still to be answered and recorded, so it is raised when the session ends.
            self._fatal = self._fatal or error
            self._stopped = self._stopped or str(error)
            raise Unanswered("stopped", str(error)) from error
        except Unanswered as left:
            self._failures_in_a_row += left.reason in ("attempts_exhausted", "refused")
            if self._failures_in_a_row >= self._config.max_failures and not self._stopped:
                self._stopped = f"{self._failures_in_a_row} requests in a row failed, the last with: {left.detail}"
            raise
        self._failures_in_a_row = 0
        return answer

    async def _retried(self, call: _Call) -> wire.Answer:
        last = ""
        for attempt in range(1, self._config.max_attempts + 1):
            try:
                return await self._attempt(call, attempt)
            except _Failed as failure:
                last = str(failure)
                if failure.pause > LONGEST_PAUSE_SECONDS:
                    self._stopped = f"the endpoint asks to wait {failure.pause:.0f} s"
                    break
                self._pause.extend(failure.pause)
                if attempt < self._config.max_attempts:
                    await asyncio.sleep(wait_seconds(self._config, attempt, self._rng))
        raise Unanswered("attempts_exhausted", last)

    async def _attempt(self, call: _Call, attempt: int) -> wire.Answer:
        """One call, when the limits let it through."""
        async with self._slots:
            if self._stopped:
                raise Unanswered("stopped", self._stopped)
            most, likely = wire.most_usage(call.sent), wire.likely_tokens(call.sent)
            self._budget.reserve(most)
            real = Usage()
            try:
                await self._requests.take()
                await self._tokens.take(likely)
                await self._pause.over()
                answer = await self._call(call, most, attempt)
                real = answer.usage
                self._tokens.correct(sum(real) - likely)
            except _Failed as failure:
                real = failure.charged
                raise
            finally:
                self._budget.charge(most, real)
        return answer

    async def _call(self, call: _Call, most: Usage, attempt: int) -> wire.Answer:
        """One call, recorded whatever becomes of it."""
        started = time.monotonic()
        self._counts["asked"] += 1
        details: dict[str, Any] = {"request": call.sent, "attempt": attempt}
        try:
            answer, text = await self._post(call, most)
        except (_Failed, Unanswered, TeacherError, asyncio.CancelledError) as failure:
            interrupted = isinstance(failure, asyncio.CancelledError)
            charged = most if interrupted else getattr(failure, "charged", Usage())
            what = "interrupted" if interrupted else str(failure)
            self._counts.update(["failed_attempts", f"failures/{what.split(':')[0]}"])
            seconds = round(time.monotonic() - started, 6)
            self._record.add_failure(call.name, charged, details | {"failure": what, "seconds": seconds})
            raise
        seconds = round(time.monotonic() - started, 6)
        details |= {"response": text, "seconds": seconds, "usage_wrong": answer.usage_wrong}
        self._record.add_answer(call.name, answer.reply, answer.usage, details)
        self._counts["answered"] += 1
        self._counts["usage_wrong"] += answer.usage_wrong
        return answer

    async def _post(self, call: _Call, most: Usage) -> tuple[wire.Answer, str]:
        """Raises `_Failed` for what another attempt may not meet, `Unanswered` and `TeacherError` for the rest."""
        import httpx

        try:
            async with asyncio.timeout(self._config.timeout_seconds):
                response = await self._client.post(call.url, json=call.sent)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _Failed(f"connection: {type(error).__name__}") from error
        except (httpx.TransportError, TimeoutError) as error:
            kind = "timeout" if isinstance(error, TimeoutError | httpx.TimeoutException) else "cut off"
            raise _Failed(f"{kind}: {type(error).__name__}", charged=most) from error
        text = response.text.replace(self._key, "***") if self._key else response.text
        if response.status_code == 200:
            try:
                return call.read(text, call.sent), text
            except wire.BadResponse as error:
                raise _Failed(f"malformed: {error}", charged=most) from error
        self._refuse(response, text)
        raise _Failed(f"status {response.status_code}", pause=retry_after(response.headers))

    def _refuse(self, response: "httpx.Response", text: str) -> None:
        """Raises unless the status is worth another attempt."""
        status, shown = response.status_code, " ".join(text[:SHOWN].split())
        if status in FATAL_STATUSES:
            remedy, key = "check endpoint.base_url, endpoint.model and the account", self._config.api_key_env
            if status in (401, 403):
                remedy = f"check the key in ${key}" if key else "set endpoint.api_key_env"
            raise TeacherError(
                f"{response.url} answers status {status} for model '{self._config.model}': {shown}; {remedy}"
            )
        if status not in RETRIED_STATUSES:
            raise Unanswered("refused", f"status {status}: {shown}")


def _checked_url(config: EndpointConfig) -> str:
    parts = urlsplit(config.base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TeacherError(f"endpoint.base_url = '{config.base_url}' is no address; write e.g. https://host/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise TeacherError(
            "endpoint.base_url must hold no user, password or query; put the key into an environment variable and "
            "name that in endpoint.api_key_env"
        )
    if parts.scheme == "http" and not _is_loopback(config.base_url) and not config.allow_plain_http:
        raise TeacherError(
            f"endpoint.base_url = '{config.base_url}' would send prompts and key unencrypted; use https, or set "
            "endpoint.allow_plain_http = true where the network is trusted"
        )
    return config.base_url.rstrip("/")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _key(config: EndpointConfig) -> str:
    if not config.api_key_env:
        return ""
    key = os.environ.get(config.api_key_env, "").strip()
    if not key:
        raise TeacherError(
            f"the environment variable {config.api_key_env} holds no key; set it, or endpoint.api_key_env"
        )
    return key
