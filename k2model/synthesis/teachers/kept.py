"""Calls kept in a store while an endpoint is asked, so that a run that was cut short goes on where it was.

A run in another pod goes on as well. Calls are told apart by all that is sent. Several may ask at a time: each reads
what there is and writes files of its own, every ten seconds, which an object store can do that cannot append; that much
is asked again after a kill.
"""

import contextlib
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

from k2model.artifacts.files import Files
from k2model.errors import K2Error

FLUSH_SECONDS = 10.0


@contextlib.contextmanager
def kept_calls(files: Files) -> Iterator[Path]:
    """A record on this machine with all calls that are kept; what is appended to it inside the block is kept as well.

    Raises what the storage does, at the end; while an endpoint is asked, what could not be written is tried again.
    """
    with tempfile.TemporaryDirectory(prefix="k2-calls-") as folder:
        record, ended = Path(folder) / "calls.jsonl", Event()
        record.write_bytes(b"".join(files.read(name) for name in sorted(files.sizes())))
        kept = _Kept(files, record)
        thread = Thread(target=kept.until, args=(ended,), daemon=True)
        thread.start()
        try:
            yield record
        finally:
            ended.set()
            thread.join()
            kept.flush()


class _Kept:
    """Whole lines that are appended to a record, in files whose names nobody else has."""

    def __init__(self, files: Files, record: Path) -> None:
        self._files, self._record = files, record
        self._name, self._written, self._place = uuid.uuid4().hex, 0, record.stat().st_size

    def until(self, ended: Event) -> None:
        while not ended.wait(FLUSH_SECONDS):
            with contextlib.suppress(OSError, K2Error):  # tried again, at last by whoever waits for it
                self.flush()

    def flush(self) -> None:
        with self._record.open("rb") as file:
            file.seek(self._place)
            appended = file.read()
        whole = appended[: appended.rfind(b"\n") + 1]
        if whole:
            self._files.write(f"{self._name}-{self._written:05d}.jsonl", whole)
            self._written += 1
            self._place += len(whole)
