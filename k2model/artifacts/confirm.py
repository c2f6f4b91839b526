"""Whether a finished artifact is still what it was, before a run takes it for done and makes nothing.

Whoever reads an artifact compares its bytes (`Store.fetch`, `Store.read`). A run in which everything is there already
reads none, so it confirms what it goes on from: its manifest, names and sizes of its files, and the bytes of those that
were written after the manifest, which is the last that a maker writes. That takes a listing. `K2_VERIFY=bytes` compares
all bytes; so does `k2 check`, which alone finds what a disk lost without anybody writing.

An artifact whose files are younger than its manifest and are what it says (a store that was copied) is noted beside the
artifacts (`_checked/<step>/<key[:16]>.json`), so that it is read once.
"""

import contextlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

from k2model.artifacts.files import Files, LocalFiles, RemoteFiles, files_at
from k2model.artifacts.identity import ArtifactRef
from k2model.artifacts.manifest import MANIFEST, RECORD, Manifest, check_listing, read_manifest, verify_files
from k2model.artifacts.outside import read_typed
from k2model.artifacts.owner import MADE
from k2model.artifacts.store import Store
from k2model.errors import ArtifactError, CorruptArtifact, K2Error
from k2model.settings import verification

CHECKED = "_checked"  # beside the artifacts
_OWN = (MANIFEST, RECORD)


class Stamp(NamedTuple):
    """Of a file: its size in bytes and when it got its content, in seconds since the epoch by the storage's clock."""

    size: int
    modified: float


def stamps(files: Files, folder: str = "") -> dict[str, Stamp]:
    """Every file below `folder` by its path, from one listing. Raises ArtifactError where the storage fails."""
    found = {}
    if isinstance(files, RemoteFiles):
        root = files.filesystem._strip_protocol(files.uri)
        listed = files.filesystem.find(f"{files.uri}/{folder}" if folder else files.uri, detail=True)
        for name, info in listed.items():
            written = info.get("LastModified") or info["created"]  # of S3, of what else fsspec knows
            found[name.removeprefix(f"{root}/")] = Stamp(info["size"], written.timestamp())
        return found
    assert isinstance(files, LocalFiles)
    for path in files.sizes(folder):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            stat = (files.root / path).lstat()  # of a link itself, as it is listed
            found[path] = Stamp(stat.st_size, stat.st_mtime)
    return found


def changed(listed: Mapping[str, Stamp], known: float = 0.0) -> list[str]:
    """Of the files of a finished artifact, from its own folder on, those written after its manifest.

    known: until when it is known to have been whole, as `noted` tells.
    """
    since = max(listed[MANIFEST].modified, known)
    return sorted(path for path, stamp in listed.items() if stamp.modified > since and path not in _OWN)


def confirmed(store: Store, ref: ArtifactRef) -> ArtifactRef:
    """The reference itself. Raises MissingArtifact, or CorruptArtifact naming the file that is not what it was."""
    try:
        wanted = verification()
    except ValueError as error:
        raise K2Error(str(error)) from error
    files, manifest = store.look_up(ref)
    check_listing(files, manifest)
    if wanted == "bytes":
        verify_files(files, manifest.files)
        return ref
    listed = _of_artifact(stamps(files_at(files.uri)), manifest)
    root = files_at(files.uri.rsplit("/", 2)[0])
    linked = {entry.at: entry.path for entry in manifest.files if entry.at and entry.path not in listed}
    for name in {"/".join(at.split("/")[:2]) for at in linked}:
        there = _of_artifact(stamps(root.at(name)), read_manifest(f"{root.uri}/{name}"))
        listed |= {linked[f"{name}/{path}"]: stamp for path, stamp in there.items() if f"{name}/{path}" in linked}
    if not (late := changed(listed)):
        return ref
    late = changed(listed, noted(root, ref.name, manifest.digest))
    if late:
        verify_files(files, [entry for entry in manifest.files if entry.path in {*late}])
        note(root, ref.name, manifest.digest, max(listed[path].modified for path in late))
    return ref


def _of_artifact(listed: Mapping[str, Stamp], manifest: Manifest) -> dict[str, Stamp]:
    """What lies in a folder, by the paths that the artifact's files have; without the rest of its makers' places."""
    path_of = {entry.stored: entry.path for entry in manifest.files if entry.place}
    own = {path_of.get(path, path): stamp for path, stamp in listed.items()}
    return {path: stamp for path, stamp in own.items() if not path.startswith(f"{MADE}/")}


class _Note(TypedDict):
    digest: str
    youngest: float


def noted(root: Files, name: str, digest: str, **wanted: Any) -> float:
    """When the youngest file of an artifact was written that was found whole; 0.0 where that is not known. `root` is
    the store, `wanted` what else the note has to say."""
    with contextlib.suppress(FileNotFoundError, CorruptArtifact):  # what is no note says nothing: the bytes are read
        found = read_typed(_Note, root, f"{CHECKED}/{name}.json", "a note", "")
        if all(found.get(field) == value for field, value in (wanted | {"digest": digest}).items()):
            return found["youngest"]
    return 0.0


def note(root: Files, name: str, digest: str, youngest: float, **more: Any) -> bool:
    """Leaves the note that an artifact is whole; False where the store does not take it: then it is read again."""
    try:
        content = {"digest": digest, "youngest": youngest, **more}
        root.write(f"{CHECKED}/{name}.json", json.dumps(content).encode())
    except ArtifactError:
        return False
    return True
