"""How an artifact becomes finished, once, whoever is at it: by one step that overwrites nothing.

Before it, everything lies in the maker's own place; who comes second finds what the first has finished. After it, what
is still to be written (the ledger, and on an object store the record beside the manifest) is decided by the manifest,
so whoever finds it missing writes it, and two that do write the same.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from k2model.artifacts.entry import FileEntry
from k2model.artifacts.files import LocalFiles, RemoteFiles, files_at, writing
from k2model.artifacts.identity import ArtifactRef, artifact_name
from k2model.artifacts.links import link_file, link_locally
from k2model.artifacts.manifest import MANIFEST, RECORD, Manifest, describe_file, missing, read_manifest, remedy
from k2model.artifacts.owner import MADE
from k2model.artifacts.places import PARTS, clear_unfinished
from k2model.artifacts.record import read_record, record_to_json, ref_of
from k2model.errors import ArtifactError, CorruptArtifact, LeaseLost, MissingArtifact, StoreWriteError


class Publisher:
    """Of a store at `files`."""

    def __init__(self, files: LocalFiles | RemoteFiles) -> None:
        self._files = files
        self._uri = files.uri

    def find(self, step: str, key: str) -> ArtifactRef | None:
        """The finished artifact. Raises CorruptArtifact when its manifest or record is damaged."""
        location = f"{self._uri}/{artifact_name(step, key)}"
        try:
            manifest = read_manifest(location)
        except MissingArtifact:
            return None
        record = self.record(location, manifest)
        found = [record["step"], record["identity"], record["digest"]]
        wanted = [step, key, manifest.digest]
        if found != wanted:
            raise CorruptArtifact(
                f"{location}/{RECORD} is of another artifact (step, identity, digest): {' '.join(found)}, expected "
                f"{' '.join(wanted)}. {remedy(location)}"
            )
        if isinstance(self._files, LocalFiles):
            self._agree(record)
        return ref_of(record, self._uri)

    def _agree(self, record: dict[str, Any]) -> None:
        """Brings the ledger to what a finished artifact's record says, which its maker did not live to do. What lies
        there and is no record at all, readers name."""
        path = ledger_path(record)
        with contextlib.suppress(ArtifactError, OSError):
            try:
                agrees = read_record(self._files, path, "") == record
            except FileNotFoundError:
                agrees = False
            if not agrees:
                self._files.write(path, record_to_json(record))

    def bring(self, others: Sequence[FileEntry], folder: Path, name: str) -> None:
        """Gives files that lie elsewhere in a local store a name in `folder` as well."""
        root = Path(self._uri)
        with writing(self._uri, name):
            link_locally(root, [entry for entry in others if entry.at], folder, name)
            for entry in others:
                if entry.place:
                    try:
                        link_file(root / PARTS / name / entry.stored, folder / entry.path)
                    except FileNotFoundError as error:
                        raise missing(f"{root}/{PARTS}/{name}", entry) from error

    def folder(
        self, record: dict[str, Any], manifest: Manifest, folder: Path, check: Callable[[], None]
    ) -> ArtifactRef:
        """By one rename of a local folder, to where nothing is."""
        ref = ref_of(record, self._uri)
        try:
            LocalFiles(folder).flush(entry.path for entry in manifest.files)
            with writing(self._uri, ref.name):
                _write_new(folder / RECORD, record_to_json(record))
                _write_new(folder / MANIFEST, manifest.to_json())
            known = self._files.create(ledger_path(record), record_to_json(record))
            check()
            with writing(self._uri, ref.name):
                Path(ref.uri).parent.mkdir(parents=True, exist_ok=True)
                while not _renamed(folder, Path(ref.uri)):
                    if (winner := self.find(ref.kind, ref.identity)) is not None:
                        return self._of_winner(winner, manifest)
                    clear_unfinished(Path(ref.uri))
        except FileNotFoundError as error:
            if not folder.is_dir():  # it was taken away by a successor
                raise _lost(ref.uri) from error
            raise
        if not known:
            self._enter(record)
        return ref

    def in_place(self, record: dict[str, Any], manifest: Manifest) -> tuple[ArtifactRef, bool]:
        """By putting the manifest where none is; with whether it is this one, or another maker's of the same digest.

        The record lies in the maker's own place before; from there whoever finds the artifact without its record
        completes it, so nobody writes another one's.
        """
        ref = ref_of(record, self._uri)
        files = self._files.at(ref.name)
        if isinstance(files, LocalFiles):
            files.flush(entry.path for entry in manifest.files)
        files.write(f"{MADE}/{manifest.maker}/{RECORD}", record_to_json(record))
        known = self._files.create(ledger_path(record), record_to_json(record))
        if not files.create(MANIFEST, manifest.to_json()) and read_manifest(ref.uri).maker != manifest.maker:
            winner = self.find(ref.kind, ref.identity)
            if winner is None:
                raise _lost(ref.uri)
            return self._of_winner(winner, manifest), False
        if not known:
            self._enter(record)
        files.write(RECORD, record_to_json(record))
        if isinstance(files, LocalFiles):
            files.remove(f"{MADE}/{manifest.maker}")
        return ref, True

    def _of_winner(self, winner: ArtifactRef, manifest: Manifest) -> ArtifactRef:
        """What another process has finished meanwhile. Raises LeaseLost when it is not the same."""
        if winner.digest != manifest.digest:
            raise _lost(winner.uri, f", of digest {winner.digest} where this one made {manifest.digest}")
        return winner

    def _enter(self, record: dict[str, Any]) -> None:
        """Writes a finished artifact's record to the ledger, in place of an attempt's that came to nothing.

        The first attempt at an artifact enters it before it is finished. After a crash in between, the ledger names an
        artifact that is not there, which is the safe side: it counts as lost and is made again.
        """
        self._files.write(ledger_path(record), record_to_json(record))

    def record(self, location: str, manifest: Manifest) -> dict[str, Any]:
        """The record of a finished artifact; one that its maker did not live to bring to its place is brought there.

        Raises CorruptArtifact when it is damaged or missing.
        """
        files, advice = files_at(location), remedy(location)
        try:
            return read_record(files, RECORD, advice)
        except FileNotFoundError as error:
            missing_record = CorruptArtifact(f"{location}/{RECORD} is missing. {advice}")
            if not manifest.maker:
                raise missing_record from error
        try:  # its maker died before it had brought the record to its place, or is about to
            record = read_record(files, f"{MADE}/{manifest.maker}/{RECORD}", advice)
        except FileNotFoundError:
            try:  # brought just now
                return read_record(files, RECORD, advice)
            except FileNotFoundError as error:
                raise missing_record from error
        if location.startswith(f"{self._uri}/"):
            with contextlib.suppress(StoreWriteError):
                self._enter(record)
                files.write(RECORD, record_to_json(record))
        return record


def ledger_path(record: dict[str, Any]) -> str:
    return f"_ledger/{record['step']}/{record['identity']}.json"


def _lost(location: str, how: str = "") -> LeaseLost:
    return LeaseLost(
        f"{location} was made by another process meanwhile{how}: this one was taken for dead, and has changed nothing "
        "there. Run again to use it"
    )


def _write_new(path: Path, data: bytes) -> None:
    """Into a folder that is there: unlike `Files.write` it makes none."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _renamed(folder: Path, target: Path) -> bool:
    """Whether a folder got a name that no folder with anything in it had."""
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        return False
    return True


def moved_from_places(files: LocalFiles, manifest: Manifest) -> Manifest:
    """Brings folders of makers' places to where the artifact has them, each by one rename to where none is."""
    found: list[FileEntry] = []
    for place, top in dict.fromkeys((e.place, e.path.partition("/")[0]) for e in manifest.files):
        entries = [entry for entry in manifest.files if (entry.place, entry.path.partition("/")[0]) == (place, top)]
        if place:
            source, target = files.root / MADE / place / top, files.root / top
            with writing(files.uri, top):
                if not (source.exists() and _renamed(source, target)) and target.is_dir():
                    entries = [describe_file(files.root, path) for path in sorted(files.sizes(top))]
        found += [replace(entry, place="") for entry in entries]
    return replace(manifest, files=tuple(found))
