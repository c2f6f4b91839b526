"""The bytes of artifacts, compared with their manifests by several threads, since hashing lets the others run.

What is compared of an artifact: the manifest with its own digest, the files that it lists, the checkpoints that a
training kept beside its last one, each with a manifest of its own, where links lead, and of what nobody has finished
the parts and checkpoints that a run would go on from.
"""

import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO

from k2model.artifacts import CorruptArtifact, FileEntry, Manifest, MissingArtifact, find_part, read_manifest
from k2model.artifacts.confirm import note
from k2model.artifacts.files import Files, LocalFiles, reading
from k2model.artifacts.manifest import MANIFEST, unlisted
from k2model.artifacts.outside import inside
from k2model.artifacts.places import PARTS, RECORDS
from k2model.errors import ArtifactError
from k2model.inspect.inventory import Fault, Inventory, Known, first_sentence

PIECE = 1 << 20  # bytes read at once
CHECKPOINTS = "checkpoints/"
WAITING = 64  # artifacts whose files wait to be read, at most
WORTH_NOTING = 4 << 20  # bytes of an artifact that take longer to read again than a note to write


@dataclass
class Progress:
    """Files and bytes that are read so far, of how many; `resumed` bytes were read by the check that this goes on."""

    all_bytes: int = 0
    bytes: int = 0
    files: int = 0
    artifacts: int = 0
    resumed: int = 0
    started: float = field(default_factory=time.monotonic)
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def add(self, size: int, files: int = 0) -> None:
        """From any thread."""
        with self._lock:
            self.bytes += size
            self.files += files

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.bytes / max(self.seconds, 1e-9)

    @property
    def seconds_left(self) -> float:
        return max(self.all_bytes - self.resumed - self.bytes, 0) / max(self.rate, 1.0)


@dataclass
class Checked:
    """What a check found. `links`: by artifact, those that have files of it; `skipped`: what is being made just now;
    `unfinished`: what nobody has finished; `gone`: artifacts that were made here and are not here."""

    inventory: Inventory
    progress: Progress
    faults: list[Fault] = field(default_factory=list)
    links: dict[str, set[str]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    resumable: bool = True


class Reader:
    """Reads files in a pool, and holds what was found. Faults of an artifact are complete once `finish` returns."""

    def __init__(self, root: Files, found: Checked, pool: ThreadPoolExecutor, tell: Callable[[Progress], None]) -> None:
        self.root, self.found = root, found
        self._pool, self._tell = pool, tell
        self._waiting: list[tuple[Known, str, float, list[Future[Fault | None]]]] = []
        self._sources: dict[str, dict[str, FileEntry]] = {}
        self._stopped = False

    def read_artifact(self, one: Known, run: str, youngest: float) -> None:
        """Compares a finished artifact with its manifest, from the pool's threads; noted as whole when it is."""
        try:
            manifest = read_manifest(f"{self.root.uri}/{one.name}")
        except (CorruptArtifact, MissingArtifact) as error:
            self._add(one, "manifest", f"{one.name}/{MANIFEST}", first_sentence(error))
            return
        if one.digest != manifest.digest:
            path = f"{one.name}/{MANIFEST}"
            self._add(one, "manifest", path, f"states the digest {one.digest}, its files give {manifest.digest}")
        remote = not isinstance(self.root, LocalFiles)
        own = [entry for entry in manifest.files if not (entry.at and remote)]
        self._compare_names(one, own)
        self._compare_links(one, [entry for entry in manifest.files if entry.at])
        there = [_as_stored(entry) for entry in own]
        there = [entry for entry in there if self._has_size(one, one.name, entry, "bytes")]
        self._submit(one, run, youngest, [(one.name, entry, "bytes") for entry in there] + [*self._kept(one)])

    def read_unfinished(self, one: Known) -> None:
        """Of what is not finished, all that a run goes on from: parts that have a record, and checkpoints."""
        parts = []
        beside = f"{PARTS}/{one.name}"
        folder = beside if isinstance(self.root, LocalFiles) else one.name  # in which places of makers lie
        records = sorted(path.removeprefix(f"{beside}/{RECORDS}/") for path in one.parts if path.endswith(".json"))
        for path in records:
            try:
                record = find_part(self.found.inventory.store, one.name, path.removesuffix(".json"))
            except CorruptArtifact as error:
                self._add(one, "part", f"{beside}/{RECORDS}/{path}", first_sentence(error))
                continue
            if record is None:  # made at this moment, or taken away
                continue
            entries = [_as_stored(entry) for entry in record.placed]
            parts += [(folder, entry, "part") for entry in entries if self._has_size(one, folder, entry, "part")]
        self._submit(one, "", 0.0, [*parts, *self._kept(one)])

    def stop(self) -> None:
        """Ends what is being read; nothing is found any more."""
        self._stopped = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def finish(self) -> None:
        """Waits for what is being read."""
        self._settle(0)

    def links_of(self, one: Known) -> None:
        """Notes what an artifact that was read before has of others."""
        with suppress(ArtifactError):
            for entry in read_manifest(f"{self.root.uri}/{one.name}").files:
                if entry.at:
                    self.found.links.setdefault(entry.linked[0], set()).add(one.name)

    def _compare_names(self, one: Known, own: list[FileEntry]) -> None:
        """What lies there and is not listed."""
        links = _links_below(Path(self.root.uri, one.name)) if isinstance(self.root, LocalFiles) else []
        for path in unlisted([*one.files, *links], Manifest(tuple(own))):
            said = "is not in the manifest: it was put there after the artifact was finished"
            self._add(one, "unlisted", f"{one.name}/{path}", said)

    def _has_size(self, one: Known, folder: str, entry: FileEntry, kind: str) -> bool:
        """Whether a file is there with the size it should have; the fault is told otherwise."""
        path = f"{folder}/{entry.path}"
        stamp = one.files.get(entry.path) if folder == one.name else one.parts.get(path)
        if stamp is None:
            self._add(one, kind, path, f"is missing, expected {entry.size:,} bytes")
        elif stamp.size != entry.size:
            self._add(one, kind, path, f"has {stamp.size:,} bytes, expected {entry.size:,}")
        return stamp is not None and stamp.size == entry.size

    def _compare_links(self, one: Known, links: list[FileEntry]) -> None:
        """That the artifacts which links lead to have the files, of the same content. On disk a joined artifact has its
        files itself and may outlive those."""
        local = isinstance(self.root, LocalFiles)
        for entry in links:
            own = f"{one.name}/{entry.path}"
            source, path = entry.linked
            self.found.links.setdefault(source, set()).add(one.name)
            there = self._listed(source)
            has = there.get(path)
            if has is not None and (has.size, has.sha256) != (entry.size, entry.sha256):
                self._add(one, "link", own, f"leads to {entry.at}, which is another file: sha256 {has.sha256}")
            elif has is None and there:
                self._add(one, "link", own, f"leads to {source}, which has no {path}")
            elif has is None and not local:
                self._add(one, "source", own, f"leads to {source}, which is not here, or its manifest is damaged")

    def _listed(self, name: str) -> dict[str, FileEntry]:
        """The files of an artifact by path, as its manifest lists them; none where that cannot be read."""
        if name not in self._sources:
            try:
                files = read_manifest(f"{self.root.uri}/{name}").files
            except ArtifactError:
                files = ()
            self._sources[name] = {entry.path: entry for entry in files}
        return self._sources[name]

    def _kept(self, one: Known) -> Iterator[tuple[str, FileEntry, str]]:
        """The files of checkpoints that lie beside the last one, each folder with a manifest of its own."""
        folders = (path.removesuffix(f"/{MANIFEST}") for path in one.files if path.endswith(f"/{MANIFEST}"))
        for folder in (folder for folder in folders if folder.startswith(CHECKPOINTS)):
            try:
                listed = read_manifest(f"{self.root.uri}/{one.name}/{folder}").files
            except (CorruptArtifact, MissingArtifact) as error:
                self._add(one, "checkpoint", f"{one.name}/{folder}/{MANIFEST}", first_sentence(error))
                continue
            for entry in listed:
                placed = FileEntry(f"{folder}/{entry.path}", entry.size, entry.sha256)
                if self._has_size(one, one.name, placed, "checkpoint"):
                    yield one.name, placed, "checkpoint"

    def _submit(self, one: Known, run: str, youngest: float, work: Iterable[tuple[str, FileEntry, str]]) -> None:
        jobs = [self._pool.submit(self._compare, one.name, folder, entry, kind) for folder, entry, kind in work]
        self._waiting.append((one, run, youngest, jobs))
        self._settle(WAITING)

    def _settle(self, most: int) -> None:
        while len(self._waiting) > most:
            one, run, youngest, jobs = self._waiting.pop(0)
            for job in jobs:
                while True:
                    try:
                        fault = job.result(timeout=0.5)
                        break
                    except TimeoutError:
                        self._tell(self.found.progress)
                if fault is not None:
                    self.found.faults.append(fault)
            self.found.progress.artifacts += 1
            self._tell(self.found.progress)
            whole = one.finished and not any(fault.artifact == one.name for fault in self.found.faults)
            whole = whole and one.bytes >= WORTH_NOTING
            if whole and one.digest and not note(self.root, one.name, one.digest, youngest, check=run):
                self.found.resumable = False

    def _compare(self, name: str, folder: str, entry: FileEntry, kind: str) -> Fault | None:
        path = f"{folder}/{entry.path}"
        try:
            with reading(self.root.uri, path):
                sha256 = self._hash(folder, entry.path)
        except FileNotFoundError:
            return Fault(name, kind, path, "is gone since the check began")
        except CorruptArtifact as error:
            return Fault(name, kind, path, first_sentence(error).removeprefix(f"{self.root.uri}/{path} "))
        if sha256 == entry.sha256:
            return None
        return Fault(name, kind, path, f"has sha256 {sha256[:16]}..., expected {entry.sha256[:16]}...")

    def _hash(self, name: str, path: str) -> str:
        """Of the bytes that lie there at this moment, whatever was read before. Raises FileNotFoundError, or
        CorruptArtifact for what is no file or cannot be read on this disk."""
        digest = hashlib.sha256()
        with _opened(self.root, name, path) as file:
            buffer = memoryview(bytearray(PIECE))
            while size := _read_into(file, buffer, path):
                if self._stopped:
                    break
                digest.update(buffer[:size])
                self.found.progress.add(size)
        self.found.progress.add(0, files=1)
        return digest.hexdigest()

    def _add(self, one: Known, kind: str, path: str, what: str) -> None:
        self.found.faults.append(Fault(one.name, kind, path, what))


def _as_stored(entry: FileEntry) -> FileEntry:
    """Of a file in a maker's place, by where it lies."""
    return replace(entry, path=entry.stored, place="")


def _links_below(folder: Path) -> list[str]:
    """Symbolic links in place of folders, which no listing follows."""
    return [
        Path(parent, name).relative_to(folder).as_posix()
        for parent, names, _ in os.walk(folder) for name in names if Path(parent, name).is_symlink()
    ]  # fmt: skip


def _opened(root: Files, name: str, path: str) -> BinaryIO:
    if not isinstance(root, LocalFiles):
        return root.at(name).open(path)
    place = inside(Path(root.uri, name), path)
    if not S_ISREG(place.stat().st_mode):
        raise CorruptArtifact(f"{place} is no file")
    return place.open("rb", buffering=0)


def _read_into(file: BinaryIO, buffer: memoryview, path: str) -> int:
    try:
        return int(file.readinto(buffer))  # type: ignore[attr-defined]
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise CorruptArtifact(f"cannot be read from the disk: {error}") from error
