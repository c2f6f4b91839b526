"""Who of a job's workers failed first, and with what: when one dies, the others fail too, for want of it.

A worker writes down its own failure before it leaves the process group, since the others fail as soon as it
has left, and torch elastic tells of one worker only, which need not be the first. The files lie beside torch's
own error files, one folder for each restart of a job. Of workers that were killed outright there is none.
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

from k2model.errors import K2Error

ERROR_FILE = "TORCHELASTIC_ERROR_FILE"  # set by torch elastic for each worker: <job>/<attempt>/<local rank>/...
OWN_FILE = "failure.json"
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
    """Inside, a failure of this worker is written down the moment it happens; it goes on as it is."""
    try:
        yield
    except Exception as error:
        if (path := os.environ.get(ERROR_FILE)) is not None:
            text = "".join(traceback.format_exception(error))
            failure = Failure(rank, time.time(), type(error).__name__, str(error), text, isinstance(error, K2Error))
            target = Path(path).with_name(OWN_FILE)
            partial = target.with_suffix(".partial")
            partial.write_text(json.dumps(asdict(failure)))
            partial.rename(target)
        raise


def read_failures(error_file: str) -> list[Failure]:
    """Of all workers of this machine that failed in the attempt one of whose error files this is, in order of time.

    None where there is no such file: torch elastic then puts a word in its place.
    """
    if not Path(error_file).is_file():
        return []
    paths = Path(error_file).parent.parent.glob(f"*/{OWN_FILE}")
    return sorted((Failure(**json.loads(path.read_text())) for path in paths), key=lambda failure: failure.time)


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
