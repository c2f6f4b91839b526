"""How artifacts are made: as a whole, by all workers of a job together, or part by part by many workers or machines.

Parts are made on their own and resumable (`k2model.artifacts.parts`). When all are there they are gathered: the
manifest is written from their records, which are the artifact's then as well (`attachments/parts/<part>.json`), and
from then on it is like any other.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from k2model.artifacts.confirm import confirmed
from k2model.artifacts.explain import differences
from k2model.artifacts.files import LocalFiles
from k2model.artifacts.identity import ArtifactRef, Identity, artifact_name
from k2model.artifacts.lease import STALE_SECONDS, Lease
from k2model.artifacts.links import Links
from k2model.artifacts.outside import read_typed
from k2model.artifacts.parts import Part, PartRecord, ProducePart, make_part_of, recorded_parts, unfinished_part
from k2model.artifacts.record import described
from k2model.artifacts.store import Produce, Store
from k2model.errors import CorruptArtifact, InputsChanged, MissingArtifact

_log = logging.getLogger(__name__)

LISTED = "_listed"  # beside the artifacts: the identities that parts of unfinished ones were listed for
SHOWN = 8  # differences in an error
PATIENCE_SECONDS = 1.5 * STALE_SECONDS  # for another process that makes the same artifact, as `Store.build` has


#: `(records of all parts, empty folder) -> the artifact's stats`: writes what is there once for all parts.
Finish = Callable[[Sequence["PartRecord"], Path], dict[str, float]]


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


def make(store: Store, step: Step | PartedStep | JobStep, workers: int = 1) -> ArtifactRef:
    """Finds the artifact of `step` or makes it: whole, in this job's workers, or part by part in `workers` processes.

    Raises what the step raises, LeaseHeld when somebody else is at it, StoreWriteError, or CorruptArtifact for one that
    is there and not what it was (`k2model.artifacts.confirm`). Finished parts are kept.
    """
    if isinstance(step, JobStep):
        return step.run()
    if (found := store.find(step.identity)) is not None:
        if isinstance(step, PartedStep):
            _forget_parts(store, step.identity.name)
        return confirmed(store, found)
    if isinstance(step, Step):
        return store.build(step.identity, step.produce, links=step.links)
    return _finish(store, step, workers=workers)


def make_part(store: Store, step: PartedStep, part: Part, artifact: str = "") -> PartRecord:
    """Finds the part or makes it. Raises what `produce` raises, or StoreWriteError; then the part is not there.

    artifact: its name, `<step>/<key[:16]>`, where it is known, so that the identity need not be asked for.
    """
    return make_part_of(store, artifact or step.identity.name, part, step.produce)


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
    if (found := store.find(step.identity)) is None:
        return _finish(store, step, step.parts())
    _forget_parts(store, step.identity.name)
    return confirmed(store, found)


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
    records = [unfinished_part(store, identity.name, name) for name in names]
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
    _forget_parts(store, identity.name, there)
    return ref


def _forget_parts(store: Store, artifact: str, records: Sequence[PartRecord] = ()) -> None:
    """Removes what is kept of the parts of a finished artifact, where who finished it did not live to do so as well.
    records: of the parts, where they are known; only a local store needs them."""
    if not records and isinstance(store.parts_of(artifact), LocalFiles):
        found = (unfinished_part(store, artifact, name) for name in recorded_parts(store, artifact))
        records = [record for record in found if record is not None]
    store.sweep_parts(artifact, {record.place for record in records})
    for note in (f"{artifact}.json", artifact):  # what was listed, and its shares
        store.files_of(LISTED).remove(note)


def map_in_processes(function: Callable[[Any], Any], items: Sequence[Any], workers: int) -> list[Any]:
    """`[function(item) for item in items]` in `workers` processes; in this one when one is enough."""
    workers = min(workers, len(items))
    if workers <= 1:
        return [function(item) for item in items]
    # Not forked: the caller may run threads. `spawn` starts from nothing, so functions are named by module.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)
    with pool:
        try:
            return list(pool.map(function, items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """Let this process end when its parent is gone: a worker waits for work on a pipe that it holds open itself."""

    def wait() -> None:
        parent = parent_process()
        assert parent is not None, "a pool's workers are nobody else's children"
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="end with parent", daemon=True).start()


def make_part_at(uri: str, artifact: str, produce: ProducePart, part: Part) -> PartRecord:
    """Finds or makes a part of `artifact` in the store at `uri`; for another process."""
    return make_part_of(Store.open(uri), artifact, part, produce)
