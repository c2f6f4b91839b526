"""One maker per artifact: a lease that its holder renews, which outlives no holder.

A lease is a numbered file; the highest number holds. A file is only ever added by an exclusive
create, so two processes that find a dead owner at once cannot both succeed it, and the highest is
never removed, so numbers only grow. A holder counts its signs of life in its file. One whose process is known to be
dead on this machine is succeeded at once; any other when its count has stood still for `STALE_SECONDS` while somebody
watched, by the watcher's own monotonic clock: clocks of machines are not compared. The time in the file is for people,
and tells whether it is worth watching. A succeeded holder that wakes up finds the higher number and gets `LeaseLost`
when it tries to publish.

Processes that share a lease (ranks of a job) are not its business: one of them holds it.
"""

import contextlib
import json
import logging
import re
import secrets
import threading
import time
from types import TracebackType
from typing import Any, NotRequired, TypedDict, cast

from k2model.artifacts.files import Files
from k2model.artifacts.outside import read_typed
from k2model.artifacts.owner import machine, started, this_process
from k2model.errors import ArtifactError, LeaseHeld, LeaseLost

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
_POLL_SECONDS = 1.0
_NUMBER = re.compile(r"[0-9]{8}")
_log = logging.getLogger(__name__)
# Of leases of others, by address: the last sign of life that this process saw, when it looked last, and for how many
# seconds it has seen no other. A pause between two looks counts as one heartbeat at most: the watcher may have been
# stopped itself, or the store away for both.
_watched: dict[str, tuple[object, float, float]] = {}


class _Holder(TypedDict):
    host: str
    machine: str
    pid: int
    started: str
    token: str
    beat: NotRequired[int]
    heartbeat: float
    released: NotRequired[bool]


class Lease:
    """Holds `folder` (relative to `files`) while its `with` block runs.

    Raises on entry: LeaseHeld when a live process still has it after `wait_seconds`, StoreWriteError
    when the store cannot be written. `what` names the artifact in messages.
    """

    def __init__(self, files: Files, folder: str, what: str, wait_seconds: float = 0.0) -> None:
        self._files = files
        self._folder = folder
        self._what = what
        self._wait_seconds = wait_seconds
        self._owner = {**this_process(), "token": secrets.token_hex(8)}
        self._number = self._beats = 0
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Lease":
        self._wait()
        self._thread = threading.Thread(target=self._beat, name=f"lease {self._what}", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raises LeaseLost for whatever error the loss of the lease led to."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        lost = self._lost.is_set()
        # A release that cannot be written must not hide the error that the block ended with, nor
        # fail work that is done: the lease then ends by itself.
        with contextlib.suppress(ArtifactError, OSError):
            lost = lost or self._highest() != self._number
            if not lost:
                self._write(released=True)
        if lost and isinstance(error, Exception) and not isinstance(error, LeaseLost):
            raise self._loss() from error

    @property
    def held(self) -> bool:
        """Whether a live process seems to have it, this one or another: for people, since it goes by the clock."""
        holder = self._holder()
        return holder is not None and not holder.get("released") and not _is_dead(holder) and not _looks_silent(holder)

    def check(self) -> None:
        """Raises LeaseLost when another process has succeeded this one."""
        if self._lost.is_set() or self._highest() != self._number:
            raise self._loss()

    def _loss(self) -> LeaseLost:
        return LeaseLost(
            f"lost the lease on {self._what}: this process gave no sign of life for {STALE_SECONDS:.0f} s and "
            "another one took over. Nothing was published from here; run again to use what the other one makes"
        )

    def _wait(self) -> None:
        deadline = time.monotonic() + self._wait_seconds
        first: object = None  # the sign of life that was seen first
        while True:
            highest = self._highest()
            holder = self._read(highest) if highest else None
            if holder is None or _is_free(self._address(highest), holder):
                if self._acquire(highest):
                    return
                holder = self._holder()
            sign = holder and _sign(holder)
            if first is None:
                first = sign
                if self._wait_seconds:
                    _log.warning("waiting up to %.0f s: %s", self._wait_seconds, self._held(holder))
            # One that may be dead is watched until that is known, however short the wait.
            in_doubt = holder is not None and sign == first and _looks_silent(holder)
            if time.monotonic() >= deadline and not in_doubt:
                raise self._held(holder)
            time.sleep(_POLL_SECONDS)

    def _acquire(self, highest: int) -> bool:
        """Whether this process has got the number after `highest`."""
        number = highest + 1
        if not self._files.create(self._path(number), self._content()):
            holder = self._read(number)
            # A put whose answer got lost is repeated by the client and then finds its own file.
            if holder is None or holder["token"] != self._owner["token"]:
                return False
        # A slow process can have re-created a number that was taken, released and cleaned meanwhile.
        # Its successors have higher ones.
        numbers = self._numbers()
        if max(numbers, default=0) != number:
            return False
        self._number = number
        for earlier in numbers:
            if earlier < number:
                self._files.remove(self._path(earlier))
        return True

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            # A beat that fails is only missed: the next one may succeed before the lease is stale.
            with contextlib.suppress(ArtifactError, OSError):
                if self._highest() != self._number:
                    self._lost.set()
                    return
                self._write()

    def _held(self, holder: dict[str, Any] | None) -> LeaseHeld:
        who = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
        return LeaseHeld(
            f"{who} is making {self._what}. Wait until it has finished and run again: what it makes will be used. "
            f"If it died on another machine, a run that waits takes over once it has seen no sign of life for "
            f"{STALE_SECONDS:.0f} s"
        )

    def _content(self, released: bool = False) -> bytes:
        self._beats += 1
        life = {"beat": self._beats, "heartbeat": time.time(), "released": released}
        return json.dumps({**self._owner, **life}).encode()

    def _holder(self) -> dict[str, Any] | None:
        highest = self._highest()
        return self._read(highest) if highest else None

    def _address(self, number: int) -> str:
        return f"{self._files.uri}/{self._path(number)}"

    def _write(self, released: bool = False) -> None:
        self._files.write(self._path(self._number), self._content(released))

    def _read(self, number: int) -> dict[str, Any] | None:
        """The lease of this number, None when it was removed (so has a successor)."""
        path, advice = self._path(number), "Make sure that no other run is going on, delete the file and run again"
        try:
            return cast(dict[str, Any], read_typed(_Holder, self._files, path, "a lease", advice))
        except FileNotFoundError:
            return None

    def _numbers(self) -> list[int]:
        stems = (path.rpartition("/")[2].removesuffix(".json") for path in self._files.sizes(self._folder))
        return [int(stem) for stem in stems if _NUMBER.fullmatch(stem)]

    def _highest(self) -> int:
        return max(self._numbers(), default=0)

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:08d}.json"


def _is_free(address: str, holder: dict[str, Any]) -> bool:
    """Whether the lease at `address` may be taken over, by what this process has seen of it."""
    if holder.get("released") or _is_dead(holder):
        _watched.pop(address, None)
        return True
    now, sign = time.monotonic(), _sign(holder)
    seen, looked, silent = _watched.get(address, (None, now, 0.0))
    silent = silent + min(now - looked, HEARTBEAT_SECONDS) if seen == sign else 0.0
    _watched[address] = sign, now, silent
    return silent > STALE_SECONDS


def _sign(holder: dict[str, Any]) -> object:
    return holder["token"], holder.get("beat"), holder["heartbeat"]


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether its process ran on this machine and has ended."""
    return bool(holder["machine"] == machine() and started(holder["pid"]) != holder["started"])


def _looks_silent(holder: dict[str, Any]) -> bool:
    """By the clocks of two machines, which may be wrong; one that is ahead tells nothing either."""
    return abs(time.time() - float(holder["heartbeat"])) > STALE_SECONDS
