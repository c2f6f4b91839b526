"""The artifact store: asked before work is done, written to when it is done.

Layout below the root, all of it a function of identity:

    store.json                       says that this is a store, and in which layout
    <step>/<key[:16]>/               an artifact: its files, artifact.json, manifest.json; on an object store the files
                                     lie in the places of who made them, _made/<owner>/
    _ledger/<step>/<key>.json        records of all that was ever made; outlives the artifacts
    _leases/<step>/<key[:16]>/       who is making it
    _parts/<step>/<key[:16]>/        what is finished of an artifact that is made part by part
    _listed/<step>/<key[:16]>.json   what parts of an unfinished artifact were listed for; beside it, in a folder of
                                     that name, shares of them (`k2model.artifacts.shares`)
    _scratch/<step>/<key[:16]>.<owner>/   where it is being made (for an object store: on this machine,
                                     see `k2model.artifacts.transfer`)

Nothing is taken as done that has no manifest, and the manifest comes last: a local artifact appears
by one rename of its whole folder, a remote one when its manifest is put where none is. A maker works in a place of its
own until then (`k2model.artifacts.places`), so one that was taken for dead and wakes can change nothing that is
finished: it finds the other's manifest. Garbage collection is not covered: delete the folders of artifacts you do not
want.
"""

import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired, Self, TypedDict

from k2model.artifacts.entry import FileEntry
from k2model.artifacts.files import Files, LocalFiles, RemoteFiles, files_at, writing_scratch
from k2model.artifacts.identity import KEY, STEP_NAME, ArtifactRef, Identity, artifact_name
from k2model.artifacts.lease import STALE_SECONDS, Lease
from k2model.artifacts.links import Links, linked_entries, whole
from k2model.artifacts.manifest import (
    MANIFEST,
    RECORD,
    Manifest,
    check_listing,
    describe_folder,
    files_of,
    read_manifest,
    read_verified,
    remedy,
    verify,
)
from k2model.artifacts.outside import read_typed
from k2model.artifacts.owner import MADE, owner_name
from k2model.artifacts.places import (
    PARTS,
    Place,
    own_part,
    own_scratch,
    sweep_parts,
    sweep_scratch,
    sweep_uploads,
    uploaded,
)
from k2model.artifacts.publish import Publisher, ledger_path, moved_from_places
from k2model.artifacts.record import checked_stats, make_record, read_record
from k2model.artifacts.transfer import fetched, keep, upload
from k2model.errors import ArtifactError, CorruptArtifact, LeaseLost, MissingArtifact, StoreWriteError
from k2model.units import readable_seconds

_STORE_FILE = "store.json"
LAYOUT = 1  # raised when what lies where in a store changes

_log = logging.getLogger(__name__)

Produce = Callable[[Path], dict[str, float]]


class _StoreFile(TypedDict):
    layout: NotRequired[int]


class Store:
    """A folder or object-store prefix of artifacts. Make one with `Store.open`."""

    def __init__(self, files: LocalFiles | RemoteFiles) -> None:
        self._files = files
        self._publisher = Publisher(files)

    @classmethod
    def open(cls, uri: str | os.PathLike[str]) -> Self:
        """Opens a store, making it when it is not there.

        uri: a path, `file://` or `s3://bucket/prefix`.

        Raises:
            StoreWriteError: it is not there and cannot be made.
            ArtifactError: it cannot be reached, is of another layout, or `store.json` is damaged.
        """
        files = files_at(uri)
        assert isinstance(files, (LocalFiles, RemoteFiles))
        damaged = "Delete it and run again: artifacts stay valid"
        try:
            told = read_typed(_StoreFile, files, _STORE_FILE, "a store's file", damaged)
        except FileNotFoundError:
            try:
                files.create(_STORE_FILE, json.dumps({"layout": LAYOUT}).encode())
            except FileNotFoundError as error:  # below /proc, or behind a link to nothing
                raise StoreWriteError(
                    f"cannot make the store {files.uri}: {error}. Choose a place that takes folders with K2_STORE"
                ) from error
            told = read_typed(_StoreFile, files, _STORE_FILE, "a store's file", damaged)
        layout = told.get("layout", LAYOUT)
        if layout != LAYOUT:
            raise ArtifactError(
                f"{files.uri} is a store of layout {layout}, this version of the project reads and writes {LAYOUT}"
            )
        return cls(files)

    @property
    def uri(self) -> str:
        """An absolute path for a local store, else the URI without a trailing slash."""
        return self._files.uri

    def location(self, identity: Identity) -> str:
        """The folder of an artifact, whether it is there or not."""
        return f"{self.uri}/{identity.name}"

    def find(self, identity: Identity) -> ArtifactRef | None:
        """The finished artifact of this identity, or None. Its files are not verified (see `fetch`).

        Raises CorruptArtifact when its manifest or record is damaged.
        """
        return self._publisher.find(identity.step, identity.key)

    def build(
        self,
        identity: Identity,
        produce: Produce,
        wait_seconds: float = 1.5 * STALE_SECONDS,
        started: float | None = None,
        links: Links = dict,
    ) -> ArtifactRef:
        """Finds the artifact of this identity or makes it.

        produce: writes files into the empty folder it is given and returns stats. wait_seconds: how
        long to wait for another process that is making the same artifact; the default outlasts the
        lease of one that died on another machine. started: when the work began, seconds since the epoch, where that
        was before this call. links: files that it has from other artifacts of this store: by the path here, the
        artifact and the path there. Nothing of them is read or copied (`k2model.artifacts.links`).

        Raises:
            LeaseHeld: another live process is still making it after `wait_seconds`.
            LeaseLost: this process was taken for dead while it was making it.
            StoreWriteError: the store is full, read-only or not reachable.
            MissingArtifact, CorruptArtifact: what is to be linked is not there, or is another one.
            Anything that `produce` raises. Nothing is left behind then.
        """
        found = self.find(identity)
        if found is not None:
            return found
        with self.lease(identity, wait_seconds) as lease:
            return self.find(identity) or self._make(identity, produce, lease, started or time.time(), links)

    def fetch(self, ref: ArtifactRef, wanted: Callable[[str], bool] | None = None) -> Path:
        """A local folder with every file of an artifact, verified; read-only for the caller.

        wanted: of a file's path; of an artifact too large for one machine only these are fetched and verified.

        A local store serves its own folder, others a copy below `K2_HOME/cache` whose files are
        fetched once. A store that was moved still serves references into its old place.

        Raises:
            MissingArtifact: there is no finished artifact.
            CorruptArtifact: its files are not those of its manifest, or its manifest is not the one
                the reference was made for. The message names the file.
        """
        files, manifest = self.look_up(ref)
        if wanted is None and isinstance(files, LocalFiles):
            verify(files.uri, manifest)
            return Path(files.uri)
        return fetched(files, [entry for entry in manifest.files if wanted is None or wanted(entry.path)])

    def fetch_entries(self, ref: ArtifactRef, entries: Sequence[FileEntry]) -> Path:
        """The same of files whose entries the caller was told, without reading the manifest: of an artifact of a
        hundred thousand files it is tens of megabytes, which would be read by each of as many tasks.

        Raises CorruptArtifact as `fetch` does, of these files.
        """
        return fetched(files_of(self._place(ref), Manifest(tuple(entries))), entries)

    def read(self, ref: ArtifactRef, path: str) -> bytes:
        """The content of one small file of an artifact, verified; nothing else of it is fetched or looked at.

        Raises:
            MissingArtifact: there is no finished artifact, or it has no such file.
            CorruptArtifact: the file is not the one of the manifest, or the manifest not the one the reference was
                made for. The message names the file.
        """
        return read_verified(*self.look_up(ref), path)

    def record(self, ref: ArtifactRef) -> dict[str, Any]:
        """What is written beside an artifact about how it was made: see `k2model.artifacts.record`.

        Raises MissingArtifact or CorruptArtifact as `fetch` does, but for the files, which are not looked at.
        """
        files, manifest = self.look_up(ref)
        return self._publisher.record(files.uri, manifest)

    def look_up(self, ref: ArtifactRef) -> tuple[Files, Manifest]:
        """Where an artifact's files lie and what they must be, for a caller that reads parts of them and verifies
        what it reads.

        Raises MissingArtifact or CorruptArtifact as `fetch` does, but for the files, which are not looked at.
        """
        location = self._place(ref)
        manifest = read_manifest(location)
        if manifest.digest != ref.digest:
            raise CorruptArtifact(
                f"{location} holds another artifact than the one asked for: digest {manifest.digest}, expected "
                f"{ref.digest}. {remedy(location)}"
            )
        return files_of(location, manifest), manifest

    def adopt(
        self,
        identity: Identity,
        manifest: Manifest,
        stats: dict[str, float],
        started: float | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> ArtifactRef:
        """Finishes an artifact whose files were written to `location(identity)`, or to a maker's place there, directly.

        manifest: of the files that belong to it. In a local store the folders of a maker's place are moved to where
        the artifact has them; where another maker's are already, those count. started: when the work began, seconds
        since the epoch. check: of the lease, which the caller holds; raises LeaseLost.

        Calling it again with the same manifest changes nothing.

        Raises:
            CorruptArtifact: a listed file is not there or of another size, or the artifact is
                finished already and has another digest.
            LeaseLost: another process has finished it meanwhile, with another digest.
            StoreWriteError: record or manifest cannot be written.
        """
        location = self.location(identity)
        found = self.find(identity)
        if found is not None:
            if found.digest != manifest.digest:
                raise CorruptArtifact(
                    f"{location} is finished with digest {found.digest} and cannot be finished again with "
                    f"{manifest.digest}. {remedy(location)}"
                )
            return found
        check()
        if isinstance(self._files, LocalFiles):
            manifest = moved_from_places(self._files.at(identity.name), manifest)
        check_listing(files_of(location, manifest), manifest)
        begun = time.time() if started is None else started
        record = make_record(identity, manifest, checked_stats(stats, identity.step), self.uri, begun)
        check()
        manifest = replace(manifest, maker=manifest.maker or owner_name())
        ref, won = self._publisher.in_place(record, manifest)
        if won:
            places = {entry.place for entry in manifest.files} | {manifest.maker}
            sweep_uploads(self._files, identity.name, places - {""})
        return ref

    def lease(self, identity: Identity, wait_seconds: float = 0.0) -> Lease:
        """A context manager: while it is open, nobody else makes this artifact.

        Raises LeaseHeld on entry when a live process still has it after `wait_seconds`. Its
        `.check()` raises LeaseLost when this process was taken for dead.
        """
        return self._lease(identity.name, wait_seconds)

    def is_being_made(self, name: str) -> bool:
        """Whether a live process is at work on the artifact `<step>/<key[:16]>`."""
        return self._lease(name).held

    def _lease(self, name: str, wait_seconds: float = 0.0) -> Lease:
        return Lease(self._files, f"_leases/{name}", f"{name} in {self.uri}", wait_seconds)

    def records(self, step: str) -> list[dict[str, Any]]:
        """The ledger's records of all artifacts that a step ever made here, oldest first."""
        paths = [path for one, _, path in self._ledger() if one == step]
        records = [self._of_ledger(path) for path in paths]
        return sorted(records, key=lambda record: str(record["provenance"]["ended"]))

    def steps(self) -> list[str]:
        """Names of the steps that ever made an artifact here, sorted."""
        return sorted({step for step, _, _ in self._ledger()})

    def lost(self) -> list[str]:
        """Names (`<step>/<key[:16]>`) of artifacts that were made here and are there no more."""
        names = sorted(artifact_name(step, key) for step, key, _ in self._ledger())
        return [name for name in names if not self._files.exists(f"{name}/{MANIFEST}")]

    def _ledger(self) -> list[tuple[str, str, str]]:
        """Step, key and path of each record in the ledger. Raises CorruptArtifact for a file that is none."""
        found = []
        # A folder without files is in no listing.
        folders = Path(self.uri).glob("_ledger/*/*/") if isinstance(self._files, LocalFiles) else ()
        for path in [*self._files.sizes("_ledger"), *(one.relative_to(self.uri).as_posix() for one in folders)]:
            if not (named := _OF_LEDGER.fullmatch(path)):
                raise CorruptArtifact(
                    f"{self.uri}/{path} is no record of the ledger, expected _ledger/<step>/<64 digits>.json alone. "
                    "Nothing of the project writes it: look at it and take it away"
                )
            found.append((named[1], named[2], path))
        return found

    def _of_ledger(self, path: str) -> dict[str, Any]:
        advice = "Delete this file: the artifact itself is not affected, only its history"
        record = read_record(self._files, path, advice)
        if path != ledger_path(record):
            raise CorruptArtifact(f"{self.uri}/{path} is the record of {ledger_path(record)}. {advice}")
        return record

    def part_place(self, name: str) -> contextlib.AbstractContextManager[Place]:
        """A maker's own place for one part of the artifact `<step>/<key[:16]>`; what is not kept is removed."""
        return own_part(self._files, name)

    def parts_of(self, name: str) -> Files:
        """The storage of what is finished of the parts of the artifact `<step>/<key[:16]>`."""
        return self._files.at(f"{PARTS}/{name}")

    def sweep_parts(self, name: str, published: Collection[str]) -> None:
        """Removes what is kept of the parts of a finished artifact, which has the files of these makers."""
        sweep_parts(self._files, name, published)

    def files_of(self, name: str) -> Files:
        """The storage of the folder of the artifact `<step>/<key[:16]>`, for those who put its files there."""
        return self._files.at(name)

    def _make(
        self, identity: Identity, produce: Produce, lease: Lease, started: float, links: Links = dict
    ) -> ArtifactRef:
        _log.info("%s: making", identity.step)
        return self.finish(identity, produce, linked_entries(links(), self._manifest_here), lease, started)

    def finish(
        self,
        identity: Identity,
        produce: Produce,
        others: Sequence[FileEntry],
        lease: Lease,
        started: float,
        before: float = 0.0,
    ) -> ArtifactRef:
        """Makes an artifact of what `produce` writes and of files that are there already, under its lease.

        others: links, and files of parts in their makers' places. started, before: when the work began, and seconds of
        work on parts until then. Raises as `build` does.
        """
        sweep_scratch(self._files, identity.name)
        with own_scratch(self._files, identity.name) as place, uploaded(self._files, identity.name, place):
            with writing_scratch(self.uri, place.folder):
                stats = produce(place.folder)
            own = describe_folder(place.folder)
            local = isinstance(self._files, LocalFiles)
            if not local:
                own = Manifest(tuple(replace(entry, place=place.owner) for entry in own.files))
            parts = [replace(entry, place="") if local else entry for entry in others]
            manifest = replace(whole(own, parts, identity.name), maker="" if local else place.owner)
            record = make_record(identity, manifest, checked_stats(stats, identity.step), self.uri, started, before)
            took = readable_seconds(before + time.time() - started)
            _log.info("%s: made in %s, %.1f MB", identity.step, took, manifest.size / 1e6)
            lease.check()
            if local:
                self._publisher.bring(others, place.folder, identity.name)
                return self._publisher.folder(record, manifest, place.folder, lease.check)
            files = self._files.at(identity.name)
            upload(place.folder, files, own.files)
            for path in files.sizes():  # what another version of the project left unfinished
                if path not in (MANIFEST, RECORD) and not path.startswith(f"{MADE}/"):
                    files.remove(path)
            check_listing(files_of(files.uri, manifest), manifest)
            lease.check()
            place.kept = True  # whatever becomes of this process once the manifest may be there
            try:
                ref, place.kept = self._publisher.in_place(record, manifest)
            except LeaseLost:
                place.kept = False
                raise
            if place.kept:
                sweep_uploads(self._files, identity.name, {entry.place for entry in manifest.files} | {place.owner})
                if not any(entry.place for entry in others):
                    keep(place.folder, ref.uri)
            return ref

    def _place(self, ref: ArtifactRef) -> str:
        """Where the artifact lies: in this store, where that was moved here, or where the reference says."""
        moved = ref.uri != f"{self.uri}/{ref.name}" and self._files.exists(f"{ref.name}/{MANIFEST}")
        return f"{self.uri}/{ref.name}" if moved else ref.uri

    def _manifest_here(self, ref: ArtifactRef) -> Manifest:
        """Of an artifact that lies in this store. Raises MissingArtifact for one of another."""
        files, manifest = self.look_up(ref)
        if files.uri != f"{self.uri}/{ref.name}":
            raise MissingArtifact(
                f"{files.uri} lies outside of the store {self.uri}, whose artifacts link only each other. Make it here"
            )
        return manifest


_OF_LEDGER = re.compile(rf"_ledger/({STEP_NAME.pattern})/({KEY.pattern})\.json")
