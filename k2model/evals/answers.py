"""What a model has said to the questions of one cell, kept as it comes, so that a killed evaluation asks none again.

Beside the artifacts, in `_asked/<step>/<key>/` of the store: a file for each attempt, a line for each answer. On a disk
an answer is there once it was given; on an object store, which cannot append, those of ten seconds go together, and
that much is asked again after a kill. When the cell is finished the folder goes.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from k2model.artifacts import Store
from k2model.artifacts.files import Files, LocalFiles
from k2model.plain import NotPlain, from_plain
from k2model.units import readable_seconds

FLUSH_SECONDS = 10.0  # between writes to an object store

#: Called with (answers there, answers wanted) after each answer.
Watch = Callable[[int, int], None]


class Answers:
    """Answers by key, a JSON object each. A context manager: what is there is read on entry, the last is written on
    exit, whatever happened. Without `files` nothing is kept. store: where a judge of these answers keeps its calls."""

    def __init__(self, files: Files | None = None, watch: Watch | None = None, store: Store | None = None) -> None:
        self._files, self._watch, self.store = files, watch, store
        self._said: dict[str, dict[str, Any]] = {}
        self._waiting: list[bytes] = []
        self._appended: BinaryIO | None = None
        self._attempt = self._written = 0
        self._flushed = time.monotonic()
        self._wanted = 0

    def __enter__(self) -> Self:
        if self._files is None:
            return self
        there = sorted(path for path in self._files.sizes() if path.endswith(".jsonl"))
        for path in there:
            for line in self._files.read(path).splitlines():
                try:
                    key, said = from_plain(tuple[str, dict[str, Any]], json.loads(line))
                except (ValueError, RecursionError, NotPlain):
                    continue  # the line that a killed process was writing; it is asked again
                self._said[key] = said
        attempts = (Path(path).name.partition("-")[0] for path in there)
        self._attempt = 1 + max((int(one) for one in attempts if one.isdecimal()), default=0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._flush()
        if self._appended:
            self._appended.close()

    def __contains__(self, key: str) -> bool:
        return key in self._said

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._said[key]

    def expect(self, wanted: int) -> None:
        """Say how many answers there will be."""
        self._wanted = wanted
        if self._watch:
            self._watch(len(self._said), self._wanted)

    def put(self, key: str, said: dict[str, Any]) -> None:
        """Keep an answer."""
        self._said[key] = said
        if self._files is not None:
            self._waiting.append(json.dumps([key, said]).encode() + b"\n")
            if isinstance(self._files, LocalFiles) or time.monotonic() - self._flushed > FLUSH_SECONDS:
                self._flush()
        if self._watch:
            self._watch(len(self._said), self._wanted)

    def _flush(self) -> None:
        self._flushed = time.monotonic()
        if not self._waiting or self._files is None:
            return
        lines, self._waiting = b"".join(self._waiting), []
        if isinstance(self._files, LocalFiles):
            if self._appended is None:
                self._files.root.mkdir(parents=True, exist_ok=True)
                self._appended = (self._files.root / f"{self._attempt:05d}-0.jsonl").open("ab", buffering=0)
            self._appended.write(lines)
            return
        self._files.write(f"{self._attempt:05d}-{self._written:05d}.jsonl", lines)
        self._written += 1


class Progress:
    """A line on the terminal: what is asked, answers there, answers a second, time left. Where the output is no
    terminal, a line every `SECONDS`."""

    SECONDS = 30.0

    def __init__(self, name: str, out: Any = None) -> None:
        self.name, self.out = name, sys.stderr if out is None else out
        self.began = self.told = time.monotonic()
        self.first: int | None = None

    def __call__(self, done: int, wanted: int) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = done
        terminal = self.out.isatty()
        if now - self.told < (0.2 if terminal else self.SECONDS) and not (terminal and done == wanted):
            return
        self.told = now
        rate = (done - self.first) / max(now - self.began, 1e-9)
        left = f", {readable_seconds((wanted - done) / rate)} left" if rate > 0 else ""
        line = f"{self.name}: {done:,} of {wanted:,} items, {rate:.1f} items/s{left}"
        self.out.write(f"\r{line}\033[K" + ("\n" if done == wanted else "") if terminal else f"{line}\n")
        self.out.flush()
