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
from typing import IO, Any

from k2model.errors import RecordError
from k2model.synthesis.conversation import Usage

SYNC_SECONDS = 1.0


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
        row = self.row(fingerprint)
        return row["reply"], Usage(**row["usage"])

    def row(self, fingerprint: str) -> dict[str, Any]:
        """The whole line of a recorded answer. Raises `KeyError` when there is none."""
        self._file.seek(self._places[fingerprint])
        found: dict[str, Any] = json.loads(self._file.readline())
        return found

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
                row = json.loads(line)
                name = row["fingerprint"]
                self.spent.append(Usage(**row["usage" if "reply" in row else "charged"]))
            except (ValueError, KeyError, TypeError) as error:
                if isinstance(error, ValueError) and not ended:
                    self.torn_bytes = len(line)
                    self._file.truncate(place)
                    return
                raise RecordError(
                    f"record {path}, line {number}: not a recorded call ({type(error).__name__}: {error}); "
                    "restore the file, or move it away to ask everything again"
                ) from error
            if "reply" in row:
                self._places.setdefault(name, place)
            place += len(line)
            if not ended:
                self._file.write(b"\n")
