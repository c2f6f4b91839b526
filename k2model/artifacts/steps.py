"""Artifacts made part by part, by many workers or machines, each part resumable on its own.

A part's files are put straight to their place in the artifact's folder, and then its record
(`attachments/parts/<part>.json`), which says what they are: a part without a record is not there and is
made again. When all parts are there they are gathered: the manifest is written from the records, and
from then on the artifact is like any other. What a part makes is a function of the artifact's identity
and the part's name, so two workers on one part write the same bytes and neither harms the other; only their
attachments may differ, so a record is written once, and who comes later leaves everything as it is.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from k2model.artifacts.confirm import confirmed
from k2model.artifacts.explain import differences
from k2model.artifacts.files import LocalFiles, writing_scratch
from k2model.artifacts.identity import ArtifactRef, Identity, artifact_name
from k2model.artifacts.lease import STALE_SECONDS
from k2model.artifacts.links import Links
from k2model.artifacts.manifest import ATTACHMENTS, MANIFEST, MOST, FileEntry, Manifest, describe_folder
from k2model.artifacts.outside import read_typed
from k2model.artifacts.record import described
from k2model.artifacts.store import Produce, Store
from k2model.artifacts.transfer import fetched
from k2model.errors import CorruptArtifact, InputsChanged, MissingArtifact
from k2model.units import readable_seconds

_log = logging.getLogger(__name__)

RECORDS = f"{ATTACHMENTS}/parts"
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
    """A finished part: its files, what it counted (JSON), and how long it took."""

    name: str
    files: tuple[FileEntry, ...]
    counts: dict[str, Any]
    seconds: float

    def to_json(self) -> bytes:
        files = [entry.to_json() for entry in self.files]
        content = {"name": self.name, "files": files, "counts": self.counts, "seconds": self.seconds}
        return (json.dumps(content, indent=1) + "\n").encode()

    @property
    def entry(self) -> FileEntry:
        """Of the record's own file."""
        return FileEntry.of(_record_path(self.name), self.to_json())


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


def _record_path(name: str) -> str:
    return f"{RECORDS}/{name}.json"


def totals(records: Iterable[PartRecord]) -> dict[str, float]:
    """The numbers among the counts of all parts, summed by name."""
    summed: dict[str, float] = {}
    for record in records:
        for name, value in record.counts.items():
            if isinstance(value, (int, float)):
                summed[name] = summed.get(name, 0.0) + value
    return summed


def find_part(store: Store, artifact: str, name: str) -> PartRecord | None:
    """The record of a finished part of the artifact `<step>/<key[:16]>`, or None."""
    path, files = _record_path(name), store.files_of(artifact)
    advice = "Delete it: the part is made again"
    try:
        record = read_typed(PartRecord, files, path, "a part's record", advice, MOST)
    except FileNotFoundError:
        return None
    if record.name != name:
        raise CorruptArtifact(f"{files.uri}/{path} is not a part's record (it is of part {record.name!r}). {advice}")
    return record


def local_parts(store: Store, identity: Identity, records: Iterable[PartRecord], wanted: Callable[[str], bool]) -> Path:
    """A local folder with those files of finished parts whose path is wanted, verified; for a step's `finish`."""
    files = store.files_of(identity.name)
    return fetched(files, [entry for record in records for entry in record.files if wanted(entry.path)])


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
    found = _finished_part(store, artifact, part.name)
    if found is not None:
        return found
    _log.info("%s: making %s", artifact.partition("/")[0], part.name)
    started = time.monotonic()
    files = store.files_of(artifact)
    with store.part_scratch(artifact) as folder:
        with writing_scratch(store.uri, folder):
            counts = produce(part, folder)
        manifest = describe_folder(folder)
        record = PartRecord(part.name, manifest.files, counts, time.monotonic() - started)
        found = _finished_part(store, artifact, part.name)
        if found is not None:  # by another worker, since this one was taken for lost
            return found
        for entry in manifest.files:
            files.put(folder / entry.path, entry.path)
    if isinstance(files, LocalFiles):
        files.flush(entry.path for entry in manifest.files)
    if files.create(_record_path(part.name), record.to_json()):
        return record
    return find_part(store, artifact, part.name) or record


def _finished_part(store: Store, artifact: str, name: str) -> PartRecord | None:
    """The record of a part with which nothing may be done any more, or None: it is there, or the artifact is finished
    from parts of another division; then the record has no files."""
    found = find_part(store, artifact, name)
    if found is None and store.files_of(artifact).exists(MANIFEST):
        return PartRecord(name, (), {}, 0.0)
    return found


def missing_parts(store: Store, step: PartedStep) -> list[Part]:
    """The parts that are to be made: those without a record, none when the artifact is there. Takes one listing.

    Leaves a note of the identity, so that `gather` can tell what has changed since.
    """
    if store.find(step.identity) is not None:
        return []
    there = store.files_of(step.identity.name).sizes(RECORDS)
    missing = [part for part in step.parts() if _record_path(part.name) not in there]
    store.files_of(LISTED).create(f"{step.identity.name}.json", json.dumps(described(step.identity)).encode())
    return missing


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
    with store.lease(step.identity, PATIENCE_SECONDS):
        if (found := store.find(step.identity)) is not None:
            return found
        if parts is None:
            parts = step.parts()
            map_in_processes(partial(make_part_at, store.uri, step.identity.name, step.produce), parts, workers)
        return _gather(store, step.identity, [part.name for part in parts], step.finish)


def _gather(store: Store, identity: Identity, names: Sequence[str], finish: Finish) -> ArtifactRef:
    started = time.time()
    records = [find_part(store, identity.name, name) for name in names]
    missing = [name for name, record in zip(names, records, strict=True) if record is None]
    if missing:
        raise MissingArtifact(
            f"{store.location(identity)} lacks {len(missing)} of its {len(names)} parts, the first of them "
            f"{', '.join(missing[:3])}. Run the step again: only what is missing is made"
        )
    there = [record for record in records if record is not None]
    files = store.files_of(identity.name)
    with store.part_scratch(identity.name) as folder:
        with writing_scratch(store.uri, folder):
            stats = finish(there, folder)
        own = describe_folder(folder)
        for entry in own.files:
            files.put(folder / entry.path, entry.path)
    entries = [entry for record in there for entry in (*record.files, record.entry)]
    manifest = Manifest((*entries, *own.files))
    for path in files.sizes().keys() - {entry.path for entry in manifest.files}:
        files.remove(path)  # of an attempt that had cut the work into other parts
    store.sweep_parts(identity.name)
    for note in (f"{identity.name}.json", identity.name):  # what was listed, and its shares
        store.files_of(LISTED).remove(note)
    before = sum(record.seconds for record in there)
    work = readable_seconds(before + time.time() - started)
    _log.info("%s: gathered %d parts, %s of work, %.1f MB", identity.step, len(there), work, manifest.size / 1e6)
    return store.adopt(identity, manifest, stats, started, before)


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
