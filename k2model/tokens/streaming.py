"""Rows from an object store: blocks fetched before they are needed, into a cache of bounded size.

All processes of a machine share the cache: a block is downloaded by one of them while the others wait for its
lock, and appears by one rename. Every block is compared with its hash whenever a process opens it; its hash
stands in its part's table, the table's in the artifact's manifest. What was used longest ago is removed first;
what is about to be used counts as used. A cache may be deleted or damaged at any time.

A store that does not answer is asked again for a while, a disk that is full is done without, both with a
warning; bytes that are wrong twice, or not there, are an error that names the part and its place.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from k2model.artifacts.files import Files
from k2model.artifacts.manifest import Manifest, read_verified, remedy
from k2model.artifacts.transfer import cache_of
from k2model.errors import ArtifactError, CorruptArtifact, MissingArtifact
from k2model.tokens.rows import BlockRange, RowsIndex, part_path, read_table, table_path

IN_FLIGHT = 4  # downloads at a time in one process
LOCKS = 64  # over all blocks
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0  # seconds between two questions to a store that does not answer
SCAN_FRACTION = 1 / 32  # of the cache: what a process downloads between two looks at the cache's size
KEPT_FRACTION = 3 / 4  # of the cache: what such a look leaves, room for what other processes download meanwhile

_log = logging.getLogger(__name__)


class StreamedBlocks:
    """The blocks of one artifact. `files` may be any storage; `close` before the process ends."""

    def __init__(
        self, files: Files, manifest: Manifest, index: RowsIndex, cache_bytes: int, wait_seconds: float, ahead: int
    ) -> None:
        self.files, self.manifest, self.index = files, manifest, index
        self.cache_bytes, self.wait_seconds = cache_bytes, wait_seconds
        root, _, self._name = files.uri.rsplit("/", 2)
        self.folder = cache_of(root) / "blocks"
        self._ahead = ahead
        self._table = lru_cache(maxsize=16)(self._read_table)
        self._pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="rows")
        self._coming: dict[int, Future[pa.Buffer]] = {}
        self._mutex = threading.Lock()
        self._closed = threading.Event()
        self._since_scan = cache_bytes  # so that the first download looks

    def read(self, block: int) -> pa.Buffer:
        """The bytes of `block`. Raises CorruptArtifact, or ArtifactError when the store stays away too long."""
        with self._mutex:
            coming = self._coming.pop(block, None)
        if coming is not None and not coming.cancel():  # nobody works at it when it can be cancelled
            with contextlib.suppress(ArtifactError):  # it may be old news
                return coming.result()
        return self._load(block)

    def expect(self, blocks: Sequence[int]) -> None:
        """Begin to load `blocks`, as many as fit half of the cache, and forget what was expected before."""
        table = self._table(blocks[0] // self.index.blocks_per_part)[0].size if blocks else 0
        wanted = list(blocks[: max(1, min(self._ahead, self.cache_bytes // (2 * max(table, 1))))])
        with self._mutex:
            for block in [block for block in self._coming if block not in wanted]:
                self._coming.pop(block).cancel()
            for block in wanted:
                if block not in self._coming:
                    self._coming[block] = self._pool.submit(self._load, block)
        for block in wanted:
            with contextlib.suppress(OSError):
                os.utime(self._path(block))

    def close(self) -> None:
        self._closed.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _load(self, block: int) -> pa.Buffer:
        part, number = divmod(block, self.index.blocks_per_part)
        entry = self._table(part)[number]
        found = self._cached(block, entry)
        if found is not None:
            return found
        with self._locked(f"{block % LOCKS:02d}"):
            found = self._cached(block, entry)  # another process may have brought it
            if found is not None:
                return found
            data = self._fetch(part, entry)
            return self._keep(block, data)

    def _cached(self, block: int, entry: BlockRange) -> pa.Buffer | None:
        path = self._path(block)
        try:
            with pa.memory_map(str(path)) as file:
                data = file.read_buffer()
            os.utime(path)
        except OSError:
            return None
        return data if data.size == entry.size and _sha256(data) == entry.sha256 else None

    def _fetch(self, part: int, entry: BlockRange) -> bytes:
        path = part_path(part)
        where = f"bytes {entry.offset}..{entry.offset + entry.size} of {self.files.uri}/{path}"
        for attempt in ("first", "second"):
            data = self._patiently(lambda: self.files.read_range(path, entry.offset, entry.size), path, where)
            found = f"{len(data)} bytes with sha256 {_sha256(data)}"
            if found == f"{entry.size} bytes with sha256 {entry.sha256}":
                return data
            _log.warning("%s are not what they should be (%s attempt): %s", where, attempt, found)
        raise CorruptArtifact(
            f"{where} are {found}, expected {entry.size} bytes with sha256 {entry.sha256}. {remedy(self.files.uri)}"
        )

    def _patiently(self, read: Callable[[], bytes], path: str, what: str) -> bytes:
        """What `read` gives of a store that may be away for a while."""
        deadline, pause = time.monotonic() + self.wait_seconds, FIRST_PAUSE
        while True:
            try:
                return read()
            except FileNotFoundError as error:
                raise CorruptArtifact(f"{self.files.uri}/{path} is missing. {remedy(self.files.uri)}") from error
            except ArtifactError as error:
                left = deadline - time.monotonic()
                hopeless = isinstance(error, CorruptArtifact | MissingArtifact) or isinstance(
                    error.__cause__, PermissionError
                )
                if hopeless or self._closed.is_set():
                    raise
                if left <= 0:
                    raise ArtifactError(
                        f"{what} did not come within parallelism.loader_wait_seconds={self.wait_seconds:g}. {error}"
                    ) from error
                _log.warning("%s do not come; asking again for %.0f s: %s", what, left, error)
                self._closed.wait(min(pause, left))
                pause = min(2 * pause, LONGEST_PAUSE)

    def _keep(self, block: int, data: bytes) -> pa.Buffer:
        """Put a block into the cache, if there is room for it on the disk."""
        path = self._path(block)
        partial = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
        try:
            with self._locked("room"):
                self._make_room(len(data))
                partial.write_bytes(data)
                os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            _log.warning(
                "%s takes no more rows (%s): every worker fetches its own. Free some space, or lower "
                "parallelism.loader_cache_gb", self.folder, error,
            )  # fmt: skip
        return pa.py_buffer(data)

    def _make_room(self, size: int) -> None:
        """Remove what was used longest ago, if enough was downloaded since the last look."""
        self._since_scan += size
        if self._since_scan < self.cache_bytes * SCAN_FRACTION:
            return
        self._since_scan = 0
        found = []
        for entry in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):  # removed by another process
                if entry.is_file():
                    found.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
        used = size + sum(file[1] for file in found)
        for _, bytes_, path in sorted(found):
            if used <= self.cache_bytes * KEPT_FRACTION:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            used -= bytes_

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """While it is open no other thread or process of this machine holds the same lock. Dies with its holder."""
        locks = self.folder / "locks"
        try:
            locks.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(locks / name, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise ArtifactError(
                f"cannot use {locks} for rows of {self.files.uri}: {error}. Free some space there, or set K2_HOME"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _path(self, block: int) -> Path:
        return self.folder / f"{self._name}-{block:08d}"

    def _read_table(self, part: int) -> list[BlockRange]:
        path = table_path(part)
        where = f"{self.files.uri}/{path}"
        return read_table(self._patiently(lambda: read_verified(self.files, self.manifest, path), path, where), where)


def _sha256(data: bytes | pa.Buffer) -> str:
    return hashlib.sha256(data).hexdigest()
