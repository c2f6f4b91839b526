"""Parts of an artifact: how one is made, found and read, by whichever of many workers comes first.

A part's files lie in the place of who made them (`k2model.artifacts.places`), and its record
(`_parts/<step>/<key[:16]>/records/<part>.json`) says what and where they are: a part without a record is not there and
is made again. A record is written once, where none is, so of several makers of a part one has made it, and the others
take away what they made. What a part makes is a function of the artifact's identity and the part's name; only
attachments may differ.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from k2model.artifacts.entry import ATTACHMENTS, FileEntry
from k2model.artifacts.files import Files, LocalFiles, RemoteFiles, writing, writing_scratch
from k2model.artifacts.identity import Identity
from k2model.artifacts.links import link_file
from k2model.artifacts.manifest import MOST, Manifest, describe_folder, files_of, read_manifest, verify_files
from k2model.artifacts.outside import read_typed
from k2model.artifacts.places import RECORDS
from k2model.artifacts.store import Store
from k2model.artifacts.transfer import fetched, upload
from k2model.errors import CorruptArtifact, MissingArtifact

_log = logging.getLogger(__name__)

KEPT_RECORDS = f"{ATTACHMENTS}/parts"  # in a finished artifact


@dataclass(frozen=True)
class Part:
    """A part to be made: its name, unique in the artifact, and whatever its maker must be told, as text."""

    name: str
    task: str = ""


#: `(part, empty folder to write files into) -> counts`, which are JSON. Files are named as in the artifact.
ProducePart = Callable[[Part, Path], dict[str, Any]]


@dataclass(frozen=True)
class PartRecord:
    """A finished part: its files, what it counted (JSON), how long it took, and the name of its maker, in whose place
    the files lie until the artifact is finished; on an object store, ever after."""

    name: str
    files: tuple[FileEntry, ...]
    counts: dict[str, Any]
    seconds: float
    place: str = ""

    def to_json(self) -> bytes:
        content = {
            "name": self.name,
            "files": [entry.to_json() for entry in self.files],
            "counts": self.counts,
            "seconds": self.seconds,
            "place": self.place,
        }
        return (json.dumps(content, indent=1) + "\n").encode()

    @property
    def placed(self) -> tuple[FileEntry, ...]:
        """The files, with the place where each lies."""
        return tuple(replace(entry, place=self.place) for entry in self.files)

    @property
    def entry(self) -> FileEntry:
        """Of the record's own file in a finished artifact."""
        return replace(FileEntry.of(f"{KEPT_RECORDS}/{self.name}.json", self.to_json()), place=self.place)


def totals(records: Iterable[PartRecord]) -> dict[str, float]:
    """The numbers among the counts of all parts, summed by name."""
    summed: dict[str, float] = {}
    for record in records:
        for name, value in record.counts.items():
            if isinstance(value, (int, float)):
                summed[name] = summed.get(name, 0.0) + value
    return summed


def find_part(store: Store, artifact: str, name: str) -> PartRecord | None:
    """The record of a finished part of the artifact `<step>/<key[:16]>`, finished or not, or None."""
    found = unfinished_part(store, artifact, name)
    if found is None and (manifest := _manifest(store, artifact)) is not None:
        found = _read_part(files_of(store.files_of(artifact).uri, manifest), f"{KEPT_RECORDS}/{name}.json", name)
    return found


def unfinished_part(store: Store, artifact: str, name: str) -> PartRecord | None:
    return _read_part(store.parts_of(artifact), f"{RECORDS}/{name}.json", name)


def _read_part(files: Files, path: str, name: str) -> PartRecord | None:
    advice = "Delete it: the part is made again"
    try:
        record = read_typed(PartRecord, files, path, "a part's record", advice, MOST)
        if record.name != name:
            raise ValueError(f"it is of part {record.name!r}")
        _ = record.placed
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CorruptArtifact(f"{files.uri}/{path} is not a part's record ({error}). {advice}") from error
    return record


def _manifest(store: Store, artifact: str) -> Manifest | None:
    try:
        return read_manifest(store.files_of(artifact).uri)
    except MissingArtifact:
        return None


def local_parts(store: Store, identity: Identity, records: Iterable[PartRecord], wanted: Callable[[str], bool]) -> Path:
    """A local folder with those files of finished parts whose path is wanted, verified; for a step's `finish`."""
    files = store.files_of(identity.name)
    entries = [entry for record in records for entry in record.placed if wanted(entry.path)]
    if isinstance(files, RemoteFiles):
        return fetched(files_of(files.uri, Manifest(tuple(entries))), entries)
    if _manifest(store, identity.name) is not None:
        return fetched(files, entries)
    parts = store.parts_of(identity.name)
    verify_files(parts, [replace(entry, path=entry.stored) for entry in entries])
    with store.part_place(identity.name) as place:
        for entry in entries:
            link_file(Path(parts.uri, entry.stored), place.folder / entry.path)
        place.kept = True  # until the artifact is gathered
    return place.folder


def make_part_of(store: Store, artifact: str, part: Part, produce: ProducePart) -> PartRecord:
    found = unfinished_part(store, artifact, part.name) or _of_finished(store, artifact, part.name)
    if found is not None:
        return found
    _log.info("%s: making %s", artifact.partition("/")[0], part.name)
    started = time.monotonic()
    files, parts = store.files_of(artifact), store.parts_of(artifact)
    with store.part_place(artifact) as place:
        with writing_scratch(store.uri, place.folder):
            counts = produce(part, place.folder)
        own = describe_folder(place.folder)
        record = PartRecord(part.name, own.files, counts, time.monotonic() - started, place.owner)
        path, data = f"{RECORDS}/{part.name}.json", record.to_json()
        kept = place.folder / record.entry.path
        with writing(store.uri, str(kept)):
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(data)
        if isinstance(parts, LocalFiles):
            parts.flush(entry.stored for entry in (*record.placed, record.entry))
            publish = partial(parts.create_from, kept, path, data)
        else:
            upload(place.folder, files, (*record.placed, record.entry))
            publish = partial(parts.create, path, data)
        place.kept = True  # from the moment on at which the record may be there, whatever becomes of this process
        try:
            first = publish()
        except FileNotFoundError:  # the folder was taken away with the records of a finished artifact
            first = False
        if not first:
            made = unfinished_part(store, artifact, part.name)
            # A put whose answer got lost is repeated by the client and then finds its own file.
            place.kept = made is not None and made.place == place.owner
            if made is not None or (made := _of_finished(store, artifact, part.name)) is not None:
                return made
            raise MissingArtifact(
                f"{parts.uri}/{path} could not be written: somebody took away what is finished of {artifact}. Run again"
            )
        # It may have been gathered without this part meanwhile: by another worker's, or in another division.
        manifest = _manifest(store, artifact)
        if manifest is not None and place.owner not in {entry.place for entry in manifest.files}:
            parts.remove(path)
            place.kept = False
            return _of_finished(store, artifact, part.name) or record
    return record


def _of_finished(store: Store, artifact: str, name: str) -> PartRecord | None:
    """Where the artifact is finished, the record of one of its parts, with which nothing may be done any more; one
    without files, where it was finished from parts of another division."""
    if _manifest(store, artifact) is None:
        return None
    return find_part(store, artifact, name) or PartRecord(name, (), {}, 0.0)


def recorded_parts(store: Store, artifact: str) -> set[str]:
    """Names of the parts of an unfinished artifact that are there. Takes one listing."""
    paths = store.parts_of(artifact).sizes(RECORDS)
    return {path.removeprefix(f"{RECORDS}/").removesuffix(".json") for path in paths}
