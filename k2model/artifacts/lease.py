"""One maker per artifact: a lease with heartbeat, which outlives no owner.

A lease is a numbered file; the highest number holds. A file is only ever added by an exclusive
create, so two processes that find a dead owner at once cannot both succeed it, and the highest is
never removed, so numbers only grow. An owner that stops answering for `STALE_SECONDS` (by the wall
clocks of the machines, which are expected to agree to within seconds) is succeeded; one whose
process is known to be dead on this machine, at once. A succeeded owner that wakes up finds the higher
number and gets `LeaseLost` when it tries to publish.

Processes that share a lease (ranks of a job) are not its business: one of them holds it.
"""

import contextlib
import json
import logging
import os
import re
import secrets
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NotRequired, TypedDict, cast

from k2model.artifacts.files import Files
from k2model.artifacts.outside import read_typed
from k2model.errors import ArtifactError, LeaseHeld, LeaseLost

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
_POLL_SECONDS = 1.0
_NUMBER = re.compile(r"[0-9]{8}")
_log = logging.getLogger(__name__)


class _Holder(TypedDict):
    host: str
    machine: str
    pid: int
    started: str
    token: str
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
        self._owner = {**_this_process(), "token": secrets.token_hex(8)}
        self._number = 0
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Lease":
        self._wait()
        self._thread = threading.Thread(target=self._beat, name=f"lease {self._what}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        # A release that cannot be written must not hide the error that the block ended with, nor
        # fail work that is done: the lease then ends by itself.
        with contextlib.suppress(ArtifactError, OSError):
            if self._highest() == self._number:
                self._write(released=True)

    @property
    def held(self) -> bool:
        """Whether a live process has it: this one or another."""
        highest = self._highest()
        holder = self._read(highest) if highest else None
        return holder is not None and not _is_free(holder)

    def check(self) -> None:
        """Raises LeaseLost when another process has succeeded this one."""
        if self._lost.is_set() or self._highest() != self._number:
            raise LeaseLost(
                f"lost the lease on {self._what}: this process gave no sign of life for {STALE_SECONDS:.0f} s and "
                "another one took over. Nothing was published from here; run again to use what the other one makes"
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + self._wait_seconds
        told = False
        while True:
            try:
                return self._acquire()
            except LeaseHeld as held:
                if time.monotonic() >= deadline:
                    raise
                if not told:
                    _log.warning("waiting up to %.0f s: %s", self._wait_seconds, held)
                    told = True
            time.sleep(_POLL_SECONDS)

    def _acquire(self) -> None:
        highest = self._highest()
        if highest:
            holder = self._read(highest)
            if holder is not None and not _is_free(holder):
                raise self._held(holder)
        if not self._files.create(self._path(highest + 1), self._content()):
            holder = self._read(highest + 1)
            # A put whose answer got lost is repeated by the client and then finds its own file.
            if holder is None or holder["token"] != self._owner["token"]:
                raise self._held(holder)
        self._number = highest + 1
        # A slow process can have re-created a number that was taken, released and cleaned meanwhile.
        # Its successors have higher ones.
        if self._highest() != self._number:
            raise self._held(self._read(self._highest()))
        for number in self._numbers():
            if number < self._number:
                self._files.remove(self._path(number))

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
            f"If it died on another machine, its lease ends {STALE_SECONDS:.0f} s after its last sign of life"
        )

    def _content(self, released: bool = False) -> bytes:
        return json.dumps({**self._owner, "heartbeat": time.time(), "released": released}).encode()

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


def _is_free(holder: dict[str, Any]) -> bool:
    if holder.get("released") or time.time() - float(holder["heartbeat"]) > STALE_SECONDS:
        return True
    me = _this_process()
    return holder["machine"] == me["machine"] and _started(holder["pid"]) != holder["started"]


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "machine": _machine(), "pid": pid, "started": _started(pid)}


def _machine() -> str:
    """Equal for two processes that can see each other's process ids, and never for others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()


def _started(pid: int) -> str:
    """When a process of this machine was started (clock ticks), "" when it is dead.

    Tells a process from a later one that got the same id.
    """
    try:
        # The name, second field, is in parentheses and may itself hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:  # not Linux
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "alive"
