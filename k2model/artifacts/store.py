"""The artifact store: asked before work is done, written to when it is done.

Layout below the root, all of it a function of identity:

    store.json                       a random generation, made once
    <step>/<key[:16]>/               an artifact: its files, artifact.json, manifest.json
    _ledger/<step>/<key>.json        records of all that was ever made; outlives the artifacts
    _leases/<step>/<key[:16]>/       who is making it
    _scratch/<step>/<key[:16]>/      where it is being made (a store on an object store uses the
                                     scratch and cache folders of this machine's `K2_HOME` instead)

Nothing is taken as done that has no manifest, and the manifest comes last: a local artifact appears
by one rename of its whole folder, a remote one when its manifest is put. Garbage collection is not
covered: delete the folders of artifacts you do not want.
"""

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from k2model import settings
from k2model.artifacts.errors import ArtifactError, CorruptArtifact, LeaseHeld, MissingArtifact, StoreWriteError
from k2model.artifacts.files import LocalFiles, RemoteFiles, describe, files_at, free_space, write_remedy, writing
from k2model.artifacts.identity import ArtifactRef, Identity
from k2model.artifacts.lease import STALE_SECONDS, Lease
from k2model.artifacts.manifest import (
    MANIFEST,
    RECORD,
    Manifest,
    check_hash,
    check_listing,
    describe_folder,
    hash_file,
    read_manifest,
    verify,
    write_manifest,
)
from k2model.artifacts.record import checked_stats, make_record, record_from_json, record_to_json, ref_of

_log = logging.getLogger(__name__)
_STORE_FILE = "store.json"
_POLL_SECONDS = 1.0

Produce = Callable[[Path], dict[str, float]]


class Store:
    """A folder or object-store prefix of artifacts. Make one with `Store.open`."""

    def __init__(self, files: LocalFiles | RemoteFiles, generation: str) -> None:
        self._files = files
        self.generation = generation

    @classmethod
    def open(cls, uri: str | os.PathLike[str]) -> "Store":
        """Opens a store, making it when it is not there.

        uri: a path, `file://` or `s3://bucket/prefix`.

        Raises:
            StoreWriteError: it is not there and cannot be made.
            ArtifactError: it cannot be reached, or `store.json` is damaged.
        """
        files = files_at(uri)
        assert isinstance(files, (LocalFiles, RemoteFiles))
        try:
            content = files.read(_STORE_FILE)
        except FileNotFoundError:
            files.create(_STORE_FILE, json.dumps({"generation": secrets.token_hex(16)}).encode())
            content = files.read(_STORE_FILE)
        try:
            generation = json.loads(content)["generation"]
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{files.uri}/{_STORE_FILE} is damaged ({error}). Delete it and run again: artifacts stay valid, only "
                "the orchestrator's cache is bypassed once"
            ) from error
        return cls(files, generation)

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
        location = self.location(identity)
        try:
            manifest = read_manifest(location)
        except MissingArtifact:
            return None
        record = self._record(location)
        if (record["identity"], record["digest"]) != (identity.key, manifest.digest):
            raise CorruptArtifact(
                f"{location}/{RECORD} is of another one: identity {record['identity']}, digest {record['digest']}, "
                f"expected {identity.key} and {manifest.digest}. Delete the folder {location} and run again: the step "
                "that makes it will be done again"
            )
        return ref_of(record, location)

    def build(self, identity: Identity, produce: Produce, wait_seconds: float = 1.5 * STALE_SECONDS) -> ArtifactRef:
        """Finds the artifact of this identity or makes it.

        produce: writes files into the empty folder it is given and returns stats. wait_seconds: how
        long to wait for another process that is making the same artifact; the default outlasts the
        lease of one that died on another machine.

        Raises:
            LeaseHeld: another live process is still making it after `wait_seconds`.
            LeaseLost: this process was taken for dead while it was making it.
            StoreWriteError: the store is full, read-only or not reachable.
            Anything that `produce` raises. Nothing is left behind then.
        """
        deadline = time.monotonic() + wait_seconds
        while True:
            found = self.find(identity)
            if found is not None:
                return found
            try:
                with self.lease(identity) as lease:
                    return self.find(identity) or self._make(identity, produce, lease)
            except LeaseHeld as held:
                if time.monotonic() >= deadline:
                    raise
                _log.info("waiting for %s: %s", identity.name, held)
            time.sleep(_POLL_SECONDS)

    def fetch(self, ref: ArtifactRef) -> Path:
        """A local folder with every file of an artifact, verified; read-only for the caller.

        A local store serves its own folder, others a copy below `K2_HOME/cache` whose files are
        fetched once. A store that was moved still serves references into its old place.

        Raises:
            MissingArtifact: there is no finished artifact.
            CorruptArtifact: its files are not those of its manifest, or its manifest is not the one
                the reference was made for. The message names the file.
        """
        location = self._whereabouts(ref)
        manifest = read_manifest(location)
        if manifest.digest != ref.digest:
            raise CorruptArtifact(
                f"{location} holds another artifact than the one asked for: digest {manifest.digest}, expected "
                f"{ref.digest}. Delete the folder {location} and run again: the step that makes it will be done again"
            )
        files = files_at(location)
        if isinstance(files, RemoteFiles):
            return _download(files, manifest)
        verify(location, manifest)
        return Path(files.uri)

    def adopt(
        self, identity: Identity, manifest: Manifest, stats: dict[str, float], started: float | None = None
    ) -> ArtifactRef:
        """Finishes an artifact whose files were written to `location(identity)` directly.

        manifest: of the files that belong to it. started: when the work began, seconds since the
        epoch. The caller holds the lease. Calling it again with the same manifest changes nothing.

        Raises:
            CorruptArtifact: a listed file is not there or of another size, or the artifact is
                finished already and has another digest.
            StoreWriteError: record or manifest cannot be written.
        """
        location = self.location(identity)
        found = self.find(identity)
        if found is None:
            check_listing(files_at(location), manifest)
            return self._publish(identity, manifest, stats, time.time() if started is None else started)
        if found.digest != manifest.digest:
            raise CorruptArtifact(
                f"{location} is finished with digest {found.digest} and cannot be finished again with "
                f"{manifest.digest}. Delete the folder and run again"
            )
        return found

    def lease(self, identity: Identity) -> Lease:
        """A context manager: while it is open, nobody else makes this artifact.

        Raises LeaseHeld on entry when a live process has it. Its `.check()` raises LeaseLost when
        this process was taken for dead.
        """
        return Lease(self._files, f"_leases/{identity.name}", f"{identity.name} in {self.uri}")

    def records(self, step: str) -> list[dict[str, Any]]:
        """The ledger's records of all artifacts that a step ever made here, oldest first."""
        paths = sorted(path for path in self._files.sizes(f"_ledger/{step}") if path.endswith(".json"))
        records = [record_from_json(self._files.read(path), f"{self.uri}/{path}") for path in paths]
        return sorted(records, key=lambda record: str(record["provenance"]["ended"]))

    def lost(self) -> list[str]:
        """Names (`<step>/<key[:16]>`) of artifacts that were made here and are there no more."""
        names = []
        for path in sorted(self._files.sizes("_ledger")):
            _, step, key = path.removesuffix(".json").split("/")
            name = f"{step}/{key[:16]}"
            if not self._files.exists(f"{name}/{MANIFEST}"):
                names.append(name)
        return names

    def _make(self, identity: Identity, produce: Produce, lease: Lease) -> ArtifactRef:
        started = time.time()
        self._files.remove(identity.name)  # files without a manifest
        with self._scratch(identity) as folder:
            with _writing_scratch(self.uri, folder):
                stats = produce(folder)
            manifest = describe_folder(folder)
            lease.check()
            if isinstance(self._files, RemoteFiles):
                self._upload(identity, manifest, folder)
                lease.check()
                ref = self._publish(identity, manifest, stats, started)
                _keep(folder, ref.uri)
                return ref
            return self._publish(identity, manifest, stats, started, folder)

    def _upload(self, identity: Identity, manifest: Manifest, folder: Path) -> None:
        assert isinstance(self._files, RemoteFiles)
        for entry in manifest.files:
            self._files.upload(folder / entry.path, f"{identity.name}/{entry.path}")
        check_listing(self._files.at(identity.name), manifest)

    def _publish(
        self,
        identity: Identity,
        manifest: Manifest,
        stats: dict[str, float],
        started: float,
        folder: Path | None = None,
    ) -> ArtifactRef:
        """Writes ledger, record and manifest, in this order, and moves `folder` into place.

        A crash after the ledger leaves an entry without an artifact, which is the safe side: it is
        made again.
        """
        location = self.location(identity)
        record = make_record(identity, manifest, checked_stats(stats, identity.step), started, self.uri)
        data = record_to_json(record)
        self._files.write(f"_ledger/{identity.step}/{identity.key}.json", data)
        target = str(folder or location)
        files_at(target).write(RECORD, data)
        write_manifest(target, manifest)
        if folder is not None:
            with writing(self.uri, identity.name):
                Path(location).parent.mkdir(parents=True, exist_ok=True)
                os.rename(folder, location)
        return ref_of(record, location)

    @contextlib.contextmanager
    def _scratch(self, identity: Identity) -> Iterator[Path]:
        """An empty folder on the file system it will be renamed on, removed afterwards.

        Its name is a function of identity, so that the leftovers of a killed attempt are removed by
        the next one, which holds the lease.
        """
        local = isinstance(self._files, LocalFiles)
        root = Path(self.uri) if local else settings.home() / "cache" / _name_of(self.uri)
        folder = root / "_scratch" / identity.name
        with writing(self.uri, str(folder)):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _record(self, location: str) -> dict[str, Any]:
        try:
            return record_from_json(files_at(location).read(RECORD), f"{location}/{RECORD}")
        except FileNotFoundError as error:
            raise CorruptArtifact(
                f"{location}/{RECORD} is missing. Delete the folder {location} and run again: the step that makes it "
                "will be done again"
            ) from error

    def _whereabouts(self, ref: ArtifactRef) -> str:
        here = f"{self.uri}/{ref.name}"
        if ref.uri != here and self._files.exists(f"{ref.name}/{MANIFEST}"):
            return here
        return ref.uri


@contextlib.contextmanager
def _writing_scratch(store: str, folder: Path) -> Iterator[None]:
    """Explains a full or read-only disk met by `produce`; its other errors pass as they are."""
    try:
        yield
    except OSError as error:
        remedy = write_remedy(error)
        outside = error.filename is not None and not str(error.filename).startswith(str(folder))
        if remedy is None or error.errno is None or outside:
            raise
        raise StoreWriteError(
            f"cannot write {error.filename or folder} for the store {store}: {describe(error)}{free_space(folder)}. "
            f"To go on: {remedy}, then run the same command again; what is finished is kept and not made again"
        ) from error


def _download(files: RemoteFiles, manifest: Manifest) -> Path:
    """Completes the copy of an artifact in the cache and returns its folder."""
    target = _cache_folder(files.uri)
    for entry in manifest.files:
        file = target / entry.path
        if file.is_file() and file.stat().st_size == entry.size and hash_file(file) == entry.sha256:
            continue
        partial = file.with_name(f".partial-{file.name}-{secrets.token_hex(6)}")
        with writing(str(target), entry.path):
            file.parent.mkdir(parents=True, exist_ok=True)
        try:
            _download_file(files, entry.path, partial)
            check_hash(files.uri, entry, hash_file(partial))
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)
    return target


def _download_file(files: RemoteFiles, path: str, target: Path) -> None:
    try:
        files.download(path, target)
    except FileNotFoundError as error:
        raise CorruptArtifact(
            f"{files.uri}/{path} is missing. Delete the folder {files.uri} and run again: the step that makes it will "
            "be done again"
        ) from error


def _keep(folder: Path, uri: str) -> None:
    """Makes the files of a finished remote artifact the cached copy, so they need no download."""
    target = _cache_folder(uri)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(folder, target)


def _cache_folder(uri: str) -> Path:
    root, step, key = uri.rsplit("/", 2)
    return settings.home() / "cache" / _name_of(root) / step / key


def _name_of(uri: str) -> str:
    return hashlib.sha256(uri.encode()).hexdigest()[:16]
