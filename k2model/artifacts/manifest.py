"""The manifest: which files a finished artifact consists of, so that damage is found and named.

It is the last file written, so that a folder without one is not an artifact, whatever else it
holds. Files below `attachments/` are listed and verified, but bear no digest: timings and logs
differ between two runs that computed the same thing.

A file may be a link: then its bytes are those of a file of another artifact of the same store (`FileEntry.at`). In a
local folder it lies like any other, as a hard link; on an object store it is read where it is.

On an object store a maker writes to a place of its own below `_made/`, and nothing is moved when the artifact is
finished: the manifest lists by maker what lies in such places (`made`; `FileEntry.place`).

A folder may hold folders that its manifest does not mention at all (checkpoints kept while a phase
trains); in a folder that it does mention every file must be listed.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NotRequired, TypedDict

from k2model.artifacts.entry import FileEntry, path_problem
from k2model.artifacts.files import Files, LocalFiles, RemoteFiles, files_at
from k2model.artifacts.linked_files import LinkedFiles
from k2model.artifacts.outside import inside, read_small, remedy
from k2model.artifacts.owner import is_owner
from k2model.errors import ArtifactError, CorruptArtifact, MissingArtifact
from k2model.plain import NotPlain, read_as
from k2model.units import readable_size

MANIFEST = "manifest.json"
RECORD = "artifact.json"
_OWN_FILES = (MANIFEST, RECORD)
MOST = 64_000_000  # bytes of a manifest: some 400,000 files


class _Listed(TypedDict):
    digest: str
    maker: NotRequired[str]
    files: tuple[FileEntry, ...]
    made: NotRequired[dict[str, tuple[FileEntry, ...]]]


@dataclass(frozen=True)
class Manifest:
    """The files of an artifact; their order does not matter. Raises ValueError for a path that is there twice, or is a
    file and a folder as well.

    maker: the name of whoever finished the artifact by this manifest, in whose place its record lies; "" where the
    record lay in the folder before."""

    files: tuple[FileEntry, ...]
    maker: str = ""

    def __post_init__(self) -> None:
        if self.maker != "" and not is_owner(self.maker):
            raise ValueError(f"the maker {self.maker!r} has no maker's name")
        if problem := path_problem(self.files):
            raise ValueError(problem)

    @cached_property
    def digest(self) -> str:
        """sha256 over path, size and sha256 of the files outside `attachments/`, sorted by path."""
        # `fingerprint([[path, size, sha256], ...])`, written out: there may be hundreds of thousands.
        listed = [f for f in self._sorted() if f.bears_digest]
        told = (f"list 3[str {len(f.path)}:{f.path};int {f.size};str {len(f.sha256)}:{f.sha256};]" for f in listed)
        return hashlib.sha256(f"list {len(listed)}[{''.join(told)}]".encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.files)

    def to_json(self) -> bytes:
        """Raises ArtifactError for more files than a manifest may list: nobody could read it."""
        listed: dict[str, list[dict[str, Any]]] = {"": []}
        for entry in self._sorted():
            said = entry.to_json()
            listed.setdefault(said.pop("place", ""), []).append(said)
        content = {"digest": self.digest, "maker": self.maker, "files": listed.pop(""), "made": listed}
        content = {name: said for name, said in content.items() if said or name == "files"}
        written = (json.dumps(content, indent=1) + "\n").encode()
        if len(written) > MOST:
            raise ArtifactError(
                f"a manifest of {len(self.files):,} files takes {readable_size(len(written))}, at most "
                f"{readable_size(MOST)} are read of one. Let the step write fewer and larger files"
            )
        return written

    @classmethod
    def from_json(cls, data: bytes, where: str) -> "Manifest":
        """Raises CorruptArtifact naming `where` when `data` is not a manifest or was changed."""
        try:
            stated = read_as(_Listed, data, MOST)
            made = [replace(entry, place=name) for name, of in stated.get("made", {}).items() for entry in of]
            if not all(entry.place for entry in made):
                raise ValueError("files are in the place of a maker without a name")
            manifest, expected = cls((*stated["files"], *made), stated.get("maker", "")), stated["digest"]
        except (NotPlain, ValueError) as error:
            raise CorruptArtifact(f"{where}/{MANIFEST} is not a manifest ({error}). {remedy(where)}") from error
        if manifest.digest != expected:
            raise CorruptArtifact(
                f"{where}/{MANIFEST} was changed: it states the digest {expected}, its files give {manifest.digest}. "
                + remedy(where)
            )
        return manifest

    def _sorted(self) -> list[FileEntry]:
        return sorted(self.files, key=lambda f: f.path)


_hashes: dict[tuple[str, int, int, int], str] = {}


def hash_file(path: str | os.PathLike[str]) -> str:
    """The sha256 (64 hex digits) of a local file.

    Remembered within the process by path, inode, modification time and size, so that verifying an
    artifact for the second time reads nothing.
    """
    with open(path, "rb") as file:
        stat = os.fstat(file.fileno())
        memo = (os.path.abspath(path), stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if memo not in _hashes:
            _hashes[memo] = hashlib.file_digest(file, "sha256").hexdigest()
    return _hashes[memo]


def describe_file(folder: Path, path: str) -> FileEntry:
    """The entry of the local file `folder`/`path`."""
    return FileEntry(path, (folder / path).stat().st_size, hash_file(folder / path))


def describe_folder(folder: Path) -> Manifest:
    """The manifest of everything in a local folder, but for the store's own files at its top."""
    paths = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not _is_folder(p))
    return Manifest(tuple(describe_file(folder, path) for path in paths if path not in _OWN_FILES))


def _is_folder(path: Path) -> bool:
    """Raises ArtifactError for what is neither a folder nor a file: an artifact holds nothing else."""
    mode = path.lstat().st_mode
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise ArtifactError(
            f"{path} is a link or no file, and an artifact holds files and folders alone: they are what a manifest can "
            "vouch for. Let the step that writes it write a file"
        )
    return stat.S_ISDIR(mode)


def read_manifest(folder: Files | str | os.PathLike[str]) -> Manifest:
    """Reads the manifest of a folder, given by its files or its URI. Of a folder inside an artifact it takes the files:
    on an object store they know where its bytes lie.

    Raises:
        MissingArtifact: there is none, so nothing in the folder counts.
        CorruptArtifact: it cannot be parsed or does not match its own digest.
    """
    files = files_at(folder) if isinstance(folder, str | os.PathLike) else folder
    try:
        return Manifest.from_json(read_small(files, MANIFEST, MOST), files.uri)
    except NotPlain as error:
        raise CorruptArtifact(f"{files.uri}/{MANIFEST} is not a manifest ({error}). {remedy(files.uri)}") from error
    except FileNotFoundError as error:
        raise MissingArtifact(
            f"{files.uri} is not a finished artifact: it has no {MANIFEST}. Run the pipeline again; the step that "
            "makes it will be done (again)"
        ) from error


def verify(folder_uri: str | os.PathLike[str], manifest: Manifest) -> None:
    """Compares every file of a folder with its manifest.

    Raises:
        CorruptArtifact: a file is missing, of another size, of another content or not listed; the
            message names it.
    """
    files = files_of(folder_uri, manifest)
    check_listing(files, manifest)
    verify_files(files, manifest.files)


def files_of(folder_uri: str | os.PathLike[str], manifest: Manifest) -> Files:
    """The files of an artifact; on an object store each is read where its bytes lie."""
    files = files_at(folder_uri)
    if not isinstance(files, RemoteFiles):
        return files
    elsewhere = {entry.path: (files.uri, entry.stored) for entry in manifest.files if entry.place}
    root = files.uri.rsplit("/", 2)[0]
    for entry in (entry for entry in manifest.files if entry.at):
        source, path = entry.linked
        elsewhere[entry.path] = f"{root}/{source}", path
    return LinkedFiles(files.uri, elsewhere, _source) if elsewhere else files


def _source(uri: str) -> RemoteFiles:
    """The files of an artifact that links lead to; of one without a manifest what lies there."""
    try:
        files = files_of(uri, read_manifest(uri))
    except (MissingArtifact, CorruptArtifact):
        files = RemoteFiles(uri)
    assert isinstance(files, RemoteFiles)
    return files


def verify_files(files: Files, entries: Iterable[FileEntry]) -> None:
    """Compares the content of files with their entries, in pieces.

    Raises CorruptArtifact naming the first that is missing or differs, or when a link leads out of a local folder.
    """
    for entry in entries:
        try:
            found = hash_stored(files, entry.path)
        except FileNotFoundError as error:
            raise missing(files.uri, entry) from error
        check_hash(files.uri, entry, found)


def check_listing(files: Files, manifest: Manifest) -> None:
    """Names and sizes only. Raises CorruptArtifact."""
    sizes = files.sizes()
    for entry in manifest.files:
        if sizes.get(entry.path) != entry.size and isinstance(files, LocalFiles):
            inside(files.uri, entry.path)  # a link has another size, or leads away from what should be there
        if entry.path not in sizes:
            raise missing(files.uri, entry)
        if sizes[entry.path] != entry.size:
            raise CorruptArtifact(
                f"{files.uri}/{entry.path} has {sizes[entry.path]} bytes, {_expected(files.uri, entry)}"
            )
    extra = unlisted(sizes, manifest)
    if extra:
        raise CorruptArtifact(
            f"{files.uri}/{extra[0]} is not in the manifest ({len(extra)} such file(s)), so the folder was written to "
            f"after it was finished. Remove the file if it is yours, or else: {remedy(files.uri)}"
        )


def check_hash(where: str, entry: FileEntry, found: str) -> None:
    """Raises CorruptArtifact when the sha256 `found` is not the one of the manifest."""
    if found != entry.sha256:
        raise CorruptArtifact(f"{where}/{entry.path} has sha256 {found}, {_expected(where, entry)}")


def hash_stored(files: Files, path: str) -> str:
    """The sha256 (64 hex digits) of a file of any storage, read in pieces.

    Raises FileNotFoundError, or CorruptArtifact when a link leads out of a local folder."""
    if "://" not in files.uri:
        return hash_file(inside(files.uri, path))
    with files.open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def read_verified(files: Files, manifest: Manifest, path: str) -> bytes:
    """The content of one file of an artifact, read whole; for small ones.

    Raises:
        MissingArtifact: the manifest does not list the file.
        CorruptArtifact: what is there is not what the manifest lists, or a link is on the way.
    """
    entry = next((entry for entry in manifest.files if entry.path == path), None)
    if entry is None:
        raise MissingArtifact(
            f"{files.uri} has no file {path}: another version of the project made it. {remedy(files.uri)}"
        )
    if "://" not in files.uri:
        inside(files.uri, path)
    try:
        data = read_small(files, path, entry.size)
    except FileNotFoundError as error:
        raise missing(files.uri, entry) from error
    except NotPlain as error:
        raise CorruptArtifact(f"{files.uri}/{path}: {error}, {_expected(files.uri, entry)}") from error
    check_hash(files.uri, entry, hashlib.sha256(data).hexdigest())
    return data


def unlisted(paths: Iterable[str], manifest: Manifest) -> list[str]:
    """Of the files of an artifact's folder those that are not listed and should be, sorted."""
    listed = {PurePosixPath(f.path) for f in manifest.files}
    folders = {PurePosixPath(), *(path.parent for path in listed)}
    others = sorted({PurePosixPath(path) for path in paths} - listed)
    return [str(path) for path in others if path.name not in _OWN_FILES and path.parent in folders]


def missing(where: str, entry: FileEntry) -> CorruptArtifact:
    """The error for a file of the artifact at `where` that is not there."""
    return CorruptArtifact(f"{where}/{entry.path} is missing, {_expected(where, entry)}")


def _expected(where: str, entry: FileEntry) -> str:
    """What should be there, and the remedy: of a link also at the artifact that it leads to."""
    expected = f"expected {entry.size} bytes with sha256 {entry.sha256}"
    if not entry.at:
        return f"{expected}. {remedy(where)}"
    source, path = f"{where.rsplit('/', 2)[0]}/{entry.linked[0]}", entry.linked[1]
    return (
        f"{expected}. It is a link to {source}/{path}: delete the folders {where} and {source} and run again: the "
        "steps that make them will be done again"
    )
