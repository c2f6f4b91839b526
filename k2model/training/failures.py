"""Who of a job's workers failed first, and with what: when one dies, the others fail too, for want of it.

A worker writes down its own failure before it leaves the process group, since the others fail as soon as it
has left, and torch elastic tells of one worker only, which need not be the first. The files lie in a folder that the
agent names to its workers. Of workers that were killed outright there is none.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from k2model.errors import disk_full, for_user

FOLDER = "K2_FAILURES"  # set by the agent for its workers
ATTEMPT = "TORCHELASTIC_RESTART_COUNT"  # set by torch elastic for each worker
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote worker crashing", "NCCL")


@dataclass(frozen=True)
class Failure:
    """`time`: seconds since the epoch; `ours`: an error meant for a user, whose message says it all."""

    rank: int
    time: float
    type: str
    message: str
    traceback: str
    ours: bool

    @property
    def lost_another(self) -> bool:
        """Whether it failed for want of another worker."""
        return not self.ours and any(sign in self.message for sign in LOST)


@contextmanager
def reported(rank: int) -> Iterator[None]:
    """Inside, a failure of this worker is written down the moment it happens; it goes on as it is.

    Of several such blocks around each other the inmost tells.
    """
    try:
        yield
    except Exception as error:
        if (folder := os.environ.get(FOLDER)) is not None and not _stopped(error):
            target = Path(folder, os.environ.get(ATTEMPT, "0"), f"{rank}.json")
            if not target.exists():
                _write(_failure(rank, error), target)
        raise


def _stopped(error: Exception) -> bool:
    """Whether it only says that the agent told this worker to end."""
    from torch.distributed.elastic.multiprocessing.api import SignalException

    return isinstance(error, SignalException)


def _failure(rank: int, error: Exception) -> Failure:
    text = "".join(traceback.format_exception(error))
    told = for_user(error)
    return Failure(rank, time.time(), type(told or error).__name__, str(told or error), text, told is not None)


def _write(failure: Failure, target: Path) -> None:
    partial = target.with_suffix(".partial")
    try:
        target.parent.mkdir(exist_ok=True)
        partial.write_text(json.dumps(asdict(failure)))
        partial.rename(target)
    except OSError as error:
        if disk_full(error) is None:  # of which the agent tells by itself
            print(f"{failure.type}: {failure.message}" if failure.ours else failure.traceback, file=sys.stderr)


def read_failures(attempt: Path) -> list[Failure]:
    """Of all workers that wrote one down in the folder of this attempt, in order of time."""
    failures = (Failure(**json.loads(path.read_text())) for path in attempt.glob("*.json"))
    return sorted(failures, key=lambda failure: failure.time)


@contextmanager
def prefixed_stderr(rank: int) -> Iterator[None]:
    """Inside, lines that any rank but 0 writes to `sys.stderr` begin with `[rank n]`."""
    if rank == 0:
        yield
        return
    before = sys.stderr
    sys.stderr = _Prefixed(before, f"[rank {rank}] ")
    try:
        yield
    finally:
        sys.stderr = before


class _Prefixed:
    """A text stream that passes whole lines on, each with a prefix; all else is the stream's below."""

    def __init__(self, stream: TextIO, prefix: str) -> None:
        self._stream, self._prefix, self._begun = stream, prefix, ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        if lines:
            self._stream.write("".join(f"{self._prefix}{line}\n" for line in lines))
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)
