"""The record of calls: one JSON line for every answer and every failed attempt, appended before it is used.

An answer is found again by the fingerprint of its request, so that a job that is run again asks only for what is
missing, and so that the documents of an endpoint are a function of its record. A line that a killed run left half
written is cut off and counted (`torn_bytes`); anything else that cannot be read is an error. One run writes at a time.
The file is never rewritten, and holds no secret.
"""

import contextlib
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NotRequired, TypedDict

from k2model.errors import RecordError
from k2model.plain import NotPlain, from_plain
from k2model.synthesis.conversation import Usage

SYNC_SECONDS = 1.0


class _Usage(TypedDict):
    prompt_tokens: int
    completion_tokens: int


class _Call(TypedDict):
    """What is read of a line, which has more."""

    fingerprint: str
    reply: NotRequired[dict[str, Any]]
    usage: NotRequired[_Usage]
    charged: NotRequired[_Usage]


def read_call(line: bytes) -> tuple[dict[str, Any], Usage]:
    """A line of a record, and what the call took. Raises ValueError for what is no JSON, NotPlain for another form."""
    try:
        row: Any = from_plain(_Call, json.loads(line))  # half of a character is written as it was sent
    except RecursionError as error:
        raise NotPlain("it is nested without end") from error
    if (taken := row.get("usage" if "reply" in row else "charged")) is None:
        raise NotPlain("it says neither what an answer took nor what a failure may have cost")
    return row, Usage(taken["prompt_tokens"], taken["completion_tokens"])


class Record:
    """An open record. Only the places of answers (the first bytes of their lines) are kept in memory, not the answers.

    Raises `RecordError` for a line that is no recorded call.
    """

    def __init__(self, path: Path, file: IO[bytes]):
        self.torn_bytes = 0
        self.spent: list[Usage] = []
        self._places: dict[str, int] = {}
        self._file = file
        self._synced = 0.0
        self._read(path)

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: Path | None) -> Iterator["Record"]:
        """Read what is there, which may be nothing, and hold the file; None = one that nobody sees and that ends with
        the run. Raises `RecordError` when another run does."""
        if path is None:
            with tempfile.TemporaryFile() as file:
                yield cls(Path(), file)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RecordError(f"another run is writing the record {path}; wait for it to end") from error
            try:
                yield cls(path, file)
            finally:
                file.flush()
                os.fsync(file.fileno())

    def __contains__(self, fingerprint: str) -> bool:
        return fingerprint in self._places

    def __len__(self) -> int:
        return len(self._places)

    def answer(self, fingerprint: str) -> tuple[dict[str, Any], Usage]:
        """The recorded reply to a request, and what it took. Raises `KeyError` when there is none."""
        row, usage = read_call(self._line(fingerprint))
        return row["reply"], usage

    def row(self, fingerprint: str) -> dict[str, Any]:
        """The whole line of a recorded answer. Raises `KeyError` when there is none."""
        return read_call(self._line(fingerprint))[0]

    def _line(self, fingerprint: str) -> bytes:
        self._file.seek(self._places[fingerprint])
        return self._file.readline()

    def add_answer(self, fingerprint: str, reply: Mapping[str, Any], usage: Usage, details: Mapping[str, Any]) -> None:
        row = {"fingerprint": fingerprint, "reply": reply, "usage": usage._asdict(), **details}
        self._places[fingerprint] = self._append(row)

    def add_failure(self, fingerprint: str, charged: Usage, details: Mapping[str, Any]) -> None:
        """A call that gave no answer; `charged` is what it may have cost all the same."""
        self._append({"fingerprint": fingerprint, "charged": charged._asdict(), **details})

    def _append(self, row: Mapping[str, Any]) -> int:
        """The row's place, once the system has it. It is forced to the disk once in `SYNC_SECONDS` and at the end, so
        that a killed process loses nothing, and a machine that loses its power a second's worth."""
        place = self._file.seek(0, os.SEEK_END)
        line = json.dumps(row, ensure_ascii=False, sort_keys=True).encode("utf-8", "backslashreplace")
        self._file.write(line + b"\n")
        self._file.flush()
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()
        return place

    def _read(self, path: Path) -> None:
        """A last line without its end is closed when it is whole, else cut off."""
        self._file.seek(0)
        place = 0
        for number, line in enumerate(self._file, 1):
            ended = line.endswith(b"\n")
            try:
                row, usage = read_call(line)
                self.spent.append(usage)
            except (ValueError, NotPlain) as error:
                if isinstance(error, ValueError) and not ended:
                    self.torn_bytes = len(line)
                    self._file.truncate(place)
                    return
                raise RecordError(
                    f"record {path}, line {number}: not a recorded call ({type(error).__name__}: {error}); "
                    "restore the file, or move it away to ask everything again"
                ) from error
            if "reply" in row:
                self._places.setdefault(row["fingerprint"], place)
            place += len(line)
            if not ended:
                self._file.write(b"\n")
