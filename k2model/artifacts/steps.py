"""Artifacts made part by part, by many workers or machines, each part resumable on its own.

A part's files lie in the place of who made them (`k2model.artifacts.places`), and its record
(`_parts/<step>/<key[:16]>/records/<part>.json`) says what and where they are: a part without a record is not there and
is made again. A record is written once, where none is, so of several makers of a part one has made it, and the others
take away what they made. When all parts are there they are gathered: the manifest is written from the records, which
are the artifact's then as well (`attachments/parts/<part>.json`), and from then on it is like any other. What a part
makes is a function of the artifact's identity and the part's name; only attachments may differ.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from k2model.artifacts.confirm import confirmed
from k2model.artifacts.explain import differences
from k2model.artifacts.files import Files, LocalFiles, RemoteFiles, writing, writing_scratch
from k2model.artifacts.identity import ArtifactRef, Identity, artifact_name
from k2model.artifacts.lease import STALE_SECONDS, Lease
from k2model.artifacts.links import Links, link_file
from k2model.artifacts.manifest import (
    ATTACHMENTS,
    MOST,
    FileEntry,
    Manifest,
    describe_folder,
    files_of,
    read_manifest,
    verify_files,
)
from k2model.artifacts.outside import read_typed
from k2model.artifacts.places import RECORDS
from k2model.artifacts.record import described
from k2model.artifacts.store import Produce, Store
from k2model.artifacts.transfer import fetched, upload
from k2model.errors import CorruptArtifact, InputsChanged, MissingArtifact

_log = logging.getLogger(__name__)

KEPT_RECORDS = f"{ATTACHMENTS}/parts"  # in a finished artifact
LISTED = "_listed"  # beside the artifacts: the identities that parts of unfinished ones were listed for
SHOWN = 8  # differences in an error
PATIENCE_SECONDS = 1.5 * STALE_SECONDS  # for another process that makes the same artifact, as `Store.build` has


@dataclass(frozen=True)
class Part:
    """A part to be made: its name, unique in the artifact, and whatever its maker must be told, as text."""

    name: str
    task: str = ""


#: `(part, empty folder to write files into) -> counts`, which are JSON. Files are named as in the artifact.
ProducePart = Callable[[Part, Path], dict[str, Any]]
#: `(records of all parts, empty folder) -> the artifact's stats`: writes what is there once for all parts.
Finish = Callable[[Sequence["PartRecord"], Path], dict[str, float]]


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


@dataclass(frozen=True)
class Step:
    """How an artifact is made as a whole: `produce` writes files into the empty folder it is given, returns stats.

    links: files of other artifacts that are its files as well, without being copied or read.
    """

    identity: Identity
    produce: Produce
    links: Links = dict


@dataclass(frozen=True)
class JobStep:
    """How an artifact is made by all workers of a job together: each calls `run`, all get the same reference."""

    identity: Identity
    run: Callable[[], ArtifactRef]


@dataclass(frozen=True)
class PartedStep:
    """How an artifact is made part by part.

    identify: gives the identity; asked for once and when needed, since it may mean to read all that the step is made
    from. parts: asked for only when the artifact is not there. produce: makes one; it goes to other processes, so it is
    a module's function or a `functools.partial` of one. Of what lies outside the store it reads only what its part
    names with a digest or the like, and raises when that has changed: the identity is not asked for again.
    finish: what is there once for all.
    """

    identify: Callable[[], Identity]
    parts: Callable[[], Sequence[Part]]
    produce: ProducePart
    finish: Finish

    @cached_property
    def identity(self) -> Identity:
        return self.identify()


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
    found = _unfinished_part(store, artifact, name)
    if found is None and (manifest := _manifest(store, artifact)) is not None:
        found = _read_part(files_of(store.files_of(artifact).uri, manifest), f"{KEPT_RECORDS}/{name}.json", name)
    return found


def _unfinished_part(store: Store, artifact: str, name: str) -> PartRecord | None:
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


def make(store: Store, step: Step | PartedStep | JobStep, workers: int = 1) -> ArtifactRef:
    """Finds the artifact of `step` or makes it: whole, in this job's workers, or part by part in `workers` processes.

    Raises what the step raises, LeaseHeld when somebody else is at it, StoreWriteError, or CorruptArtifact for one that
    is there and not what it was (`k2model.artifacts.confirm`). Finished parts are kept.
    """
    if isinstance(step, JobStep):
        return step.run()
    if (found := store.find(step.identity)) is not None:
        return confirmed(store, found)
    if isinstance(step, Step):
        return store.build(step.identity, step.produce, links=step.links)
    return _finish(store, step, workers=workers)


def make_part(store: Store, step: PartedStep, part: Part, artifact: str = "") -> PartRecord:
    """Finds the part or makes it. Raises what `produce` raises, or StoreWriteError; then the part is not there.

    artifact: its name, `<step>/<key[:16]>`, where it is known, so that the identity need not be asked for.
    """
    return _make_part(store, artifact or step.identity.name, part, step.produce)


def _make_part(store: Store, artifact: str, part: Part, produce: ProducePart) -> PartRecord:
    found = _unfinished_part(store, artifact, part.name) or _of_finished(store, artifact, part.name)
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
        kept = place.folder / record.entry.path
        with writing(store.uri, str(kept)):
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(record.to_json())
        if isinstance(parts, LocalFiles):
            parts.flush(entry.stored for entry in (*record.placed, record.entry))
        else:
            upload(place.folder, files, (*record.placed, record.entry))
        path = f"{RECORDS}/{part.name}.json"
        place.kept = True  # from the moment on at which the record may be there, whatever becomes of this process
        if not parts.create(path, record.to_json()):
            made = _unfinished_part(store, artifact, part.name)
            # A put whose answer got lost is repeated by the client and then finds its own file.
            place.kept = made is not None and made.place == place.owner
            if made is not None:
                return made
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


def missing_parts(store: Store, step: PartedStep) -> list[Part]:
    """The parts that are to be made: those without a record, none when the artifact is there. Takes one listing.

    Leaves a note of the identity, so that `gather` can tell what has changed since.
    """
    if store.find(step.identity) is not None:
        return []
    there = recorded_parts(store, step.identity.name)
    lacking = [part for part in step.parts() if part.name not in there]
    store.files_of(LISTED).create(f"{step.identity.name}.json", json.dumps(described(step.identity)).encode())
    return lacking


def gather(store: Store, step: PartedStep, listed: str = "") -> ArtifactRef:
    """Finishes the artifact from its parts, or finds it finished.

    listed: key of the identity for which the parts were listed, where that was done elsewhere.

    Raises InputsChanged when the identity is another one now, MissingArtifact naming the parts that are not there, and
    what `finish` raises.
    """
    if listed and step.identity.key != listed:
        raise _inputs_changed(store, step.identity, listed)
    found = store.find(step.identity)
    return _finish(store, step, step.parts()) if found is None else confirmed(store, found)


def _inputs_changed(store: Store, now: Identity, listed: str) -> InputsChanged:
    artifact = artifact_name(now.step, listed)
    try:
        record = read_typed(dict[str, Any], store.files_of(LISTED), f"{artifact}.json", "a note of what was listed", "")
        changed = [f"{field} from {old} to {new}" for field, old, new in differences(now, record)]
    except (FileNotFoundError, CorruptArtifact, KeyError, TypeError, AttributeError):  # it is finished, or damaged
        changed = []
    shown = "; ".join(changed[:SHOWN]) + (f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else "")
    return InputsChanged(
        f"what {artifact} is made from has changed since its parts were listed{': ' if shown else ''}{shown}. Leave "
        "inputs alone while a run reads them, and run again: an artifact is made of what is there now"
    )


def _finish(store: Store, step: PartedStep, parts: Sequence[Part] | None = None, workers: int = 0) -> ArtifactRef:
    """Under the lease: make the parts in `workers` processes where they are not given, and gather them."""
    with store.lease(step.identity, PATIENCE_SECONDS) as lease:
        if (found := store.find(step.identity)) is not None:
            return found
        if parts is None:
            parts = step.parts()
            map_in_processes(partial(make_part_at, store.uri, step.identity.name, step.produce), parts, workers)
        return _gather(store, step.identity, [part.name for part in parts], step.finish, lease)


def _gather(store: Store, identity: Identity, names: Sequence[str], finish: Finish, lease: Lease) -> ArtifactRef:
    started = time.time()
    records = [_unfinished_part(store, identity.name, name) for name in names]
    lacking = [name for name, record in zip(names, records, strict=True) if record is None]
    if lacking:
        raise MissingArtifact(
            f"{store.location(identity)} lacks {len(lacking)} of its {len(names)} parts, the first of them "
            f"{', '.join(lacking[:3])}. Run the step again: only what is missing is made"
        )
    there = [record for record in records if record is not None]
    entries = [entry for record in there for entry in (*record.placed, record.entry)]
    before = sum(record.seconds for record in there)
    ref = store.finish(identity, partial(finish, there), entries, lease, started, before)
    store.sweep_parts(identity.name, {record.place for record in there})
    for note in (f"{identity.name}.json", identity.name):  # what was listed, and its shares
        store.files_of(LISTED).remove(note)
    return ref


def map_in_processes(function: Callable[[Any], Any], items: Sequence[Any], workers: int) -> list[Any]:
    """`[function(item) for item in items]` in `workers` processes; in this one when one is enough."""
    workers = min(workers, len(items))
    if workers <= 1:
        return [function(item) for item in items]
    # Not forked: the caller may run threads. `spawn` starts from nothing, so functions are named by module.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    with pool:
        try:
            return list(pool.map(function, items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def make_part_at(uri: str, artifact: str, produce: ProducePart, part: Part) -> PartRecord:
    """Finds or makes a part of `artifact` in the store at `uri`; for another process."""
    return _make_part(Store.open(uri), artifact, part, produce)
