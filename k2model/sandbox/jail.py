"""Code that nobody has read, run where it can do no harm: started, watched, and ended with all that it started.

Limits of the kernel's hold for each process; what all of a jail's processes take together, and how many files they
make, is looked at every few milliseconds from outside, for a container has no control group of its own to give away.
"""

import contextlib
import json
import os
import re
import select
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO

from k2model.errors import EvaluationError
from k2model.sandbox.command import SCRATCH, STARTED, Limits, OpenFiles, command

_LOOK = 0.01  # seconds between two looks at a jail
_PAGE = os.sysconf("SC_PAGE_SIZE")
_RESIDENT = re.compile(r"^Rss(?:Anon|Shmem):\s*(\d+) kB", re.MULTILINE)


class Ending(str, Enum):
    EXIT = "exit"  # by itself, or by a signal of its own making or of the kernel's
    TIME = "time"  # the others: what it took more of than it may
    MEMORY = "memory"
    FILES = "files"
    OUTPUT = "output"
    STOPPED = "stopped"  # by whoever had started it


@dataclass(frozen=True)
class Result:
    """What came of a run.

    code: what the program exited with, 128 and the signal's number where one ended it; None where the jail was ended.
    stdout, stderr: what of it was kept, "" where it went elsewhere. memory: the most that was seen of all processes
    together, in bytes; files: in /tmp, itself among them, 0 where nobody looked in time.
    """

    ending: Ending
    code: int | None
    stdout: str
    stderr: str
    seconds: float
    memory: int
    files: int

    @property
    def succeeded(self) -> bool:
        return self.ending is Ending.EXIT and self.code == 0


class Jail:
    """A run that was started; `wait` watches it, so it is called at once, in a thread where there is more to do."""

    def __init__(self, process: "subprocess.Popen[bytes]", status: IO[bytes], limits: Limits) -> None:
        self._process, self._status, self._limits = process, status, limits
        self._start, self._lock = time.monotonic(), threading.Lock()
        self._init = _first_process(status)
        self._end = _handle(self._init, process.pid) if self._init else None
        self._memory = self._files = 0
        self._stopped = False

    def stop(self) -> None:
        """End it and all it started, from whatever thread."""
        self._stopped = True
        self._kill()

    def wait(self) -> Result:
        """Until all of its processes are gone. Raises EvaluationError when the jail itself failed."""
        streams = {"stdout": self._process.stdout, "stderr": self._process.stderr}
        kept = {name: bytearray() for name in streams}
        try:
            try:
                ending = self._watch(streams, kept)
            finally:
                self._kill()
                self._process.wait()
            if self._end is not None:
                select.select([self._end], [], [])  # the first process ends when all others have
            for name, stream in streams.items():
                if stream is not None:
                    kept[name] += stream.read(max(0, self._limits.output + 1 - len(kept[name]))) or b""
        finally:
            self._close()
        if ending is Ending.EXIT and any(len(content) > self._limits.output for content in kept.values()):
            ending = Ending.OUTPUT
        texts = {name: content[: self._limits.output].decode("utf-8", "replace") for name, content in kept.items()}
        if not self._stopped and not texts["stderr"].startswith(f"{STARTED}\n"):
            said = " ".join(texts["stderr"].split()) or ending.value
            raise EvaluationError(f"the sandbox could not be made ({said})")
        texts["stderr"] = texts["stderr"].removeprefix(f"{STARTED}\n")
        if ending is Ending.EXIT and self._stopped:
            ending = Ending.STOPPED
        code = self._process.returncode if ending is Ending.EXIT else None
        seconds = time.monotonic() - self._start
        return Result(ending, code, **texts, seconds=seconds, memory=self._memory, files=self._files)

    def _watch(self, streams: Mapping[str, IO[bytes] | None], kept: Mapping[str, bytearray]) -> Ending:
        """Read what it writes, until it ends or has to be ended."""
        look = 0.0
        with selectors.DefaultSelector() as selector, _open_handle(self._process.pid) as process:
            selector.register(process, selectors.EVENT_READ)
            for name, stream in streams.items():
                if stream is not None:
                    os.set_blocking(stream.fileno(), False)
                    selector.register(stream, selectors.EVENT_READ, name)
            while True:
                ready = [key for key, _ in selector.select(_LOOK)]
                for key in ready:
                    if key.data and (read := os.read(key.fd, 1 << 16)):
                        kept[key.data].extend(read)
                    elif key.data:
                        selector.unregister(key.fileobj)
                if any(len(content) > self._limits.output for content in kept.values()):
                    return Ending.OUTPUT
                if any(key.fileobj == process for key in ready):
                    return Ending.EXIT
                now = time.monotonic()
                if now - self._start > self._limits.seconds:
                    return Ending.TIME
                if now - look >= _LOOK:
                    look = now
                    if excess := self._excess():
                        return excess

    def _excess(self) -> Ending | None:
        if self._init is None:
            return None
        scratch, files = _scratch(self._init, self._limits.scratch)
        self._files = max(self._files, files)
        self._memory = max(self._memory, scratch + sum(map(_memory, _descendants(self._init))))
        if self._files > self._limits.files:
            return Ending.FILES
        return Ending.MEMORY if self._memory > self._limits.memory else None

    def _kill(self) -> None:
        """The first process of a jail takes all others with it."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._end is not None:
                signal.pidfd_send_signal(self._end, signal.SIGKILL)
        self._process.kill()

    def _close(self) -> None:
        self._status.close()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        with self._lock:  # a `stop` at this moment must not meet another file of that number
            if self._end is not None:
                os.close(self._end)
            self._end = None


def launch(argv: Sequence[str], files: Mapping[str, bytes], limits: Limits, stdin: bytes | int, stdout: int) -> Jail:
    """Start a jail, without asking whether this machine can hold one: `run` and `start` do."""
    reading, writing = os.pipe()
    with OpenFiles() as opened:
        status = int(opened.keep(writing))
        words = command(argv, files, limits, status, opened)
        inherited = tuple(opened.numbers)
        process = subprocess.Popen(
            words,
            stdin=int(opened.content(stdin)) if isinstance(stdin, bytes) else stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},  # none of our secrets
            cwd="/",
            pass_fds=inherited,
        )
    return Jail(process, open(reading, "rb"), limits)


def _first_process(status: IO[bytes]) -> int | None:
    """The id of a jail's first process; None where bubblewrap ended before there was one."""
    line = status.readline()
    return int(json.loads(line)["child-pid"]) if line else None


@contextlib.contextmanager
def _open_handle(pid: int) -> Iterator[int]:
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)


def _handle(first: int, above: int) -> int | None:
    """A hold on the first process of a jail, whatever becomes of its number; None when it has ended."""
    try:
        handle = os.pidfd_open(first)
    except ProcessLookupError:
        return None
    if first in _descendants(above):
        return handle
    os.close(handle)  # it has ended, and the number is another's
    return None


def _descendants(first: int) -> list[int]:
    """The processes of a jail: their parents are in it, for an orphan's parent is the first."""
    found = [first]
    for pid in found:
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                found.extend(map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split()))
        except OSError:
            continue  # it has just ended
    return found


def _memory(pid: int) -> int:
    """Resident bytes of a process that are no file's; what it shares with others counts for each of them."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return sum(int(kib) << 10 for kib in _RESIDENT.findall(text))


def _scratch(first: int, size: int) -> tuple[int, int]:
    """Bytes and files in a jail's /tmp; none as long as what stands there is not yet the jail's, of its `size`."""
    try:
        there = os.statvfs(f"/proc/{first}/root{SCRATCH}")
    except OSError:
        return 0, 0
    if there.f_blocks * there.f_frsize != -(-size // _PAGE) * _PAGE:
        return 0, 0
    return (there.f_blocks - there.f_bfree) * there.f_frsize, there.f_files - there.f_ffree
