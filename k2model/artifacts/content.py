"""JSON inside of artifacts: compared with the manifest, and held against the type that its step writes.

A digest tells damage, and not what a file is: a store may be a stranger's or another version's, whose manifest fits its
files. So what a view, a report or a later step reads of an artifact is read here, in bounds (`k2model.plain`), and what
is of another form is named with its field and what to do.
"""

from pathlib import Path
from typing import TypeVar

from k2model.artifacts.files import files_at
from k2model.artifacts.identity import ArtifactRef
from k2model.artifacts.outside import read_typed, remedy
from k2model.artifacts.store import Store
from k2model.errors import CorruptArtifact, MissingArtifact
from k2model.plain import NotPlain, read_as
from k2model.units import readable_size

T = TypeVar("T")
MOST = 64_000_000  # bytes of a JSON file of an artifact


def read_json(kind: type[T], store: Store, ref: ArtifactRef, path: str) -> T:
    """What a JSON file of an artifact says, as a `kind` (`k2model.plain.read_as`).

    Raises MissingArtifact as `Store.read` does, and CorruptArtifact naming the file for one that is not the manifest's,
    is larger than `MOST` or says something else than a `kind`.
    """
    files, manifest = store.look_up(ref)
    if any(entry.path == path and entry.size > MOST for entry in manifest.files):
        raise CorruptArtifact(
            f"{files.uri}/{path} has more than {readable_size(MOST)}, which is the most that is read of such a file. "
            + remedy(files.uri)
        )
    return json_as(kind, store.read(ref, path), files.uri, path)


def read_json_file(kind: type[T], folder: Path, path: str) -> T:
    """The same of a file in a local folder of an artifact, such as `Store.fetch` gives.

    Raises MissingArtifact where there is none, CorruptArtifact as `read_json` does.
    """
    try:
        return read_typed(kind, files_at(folder), path, "what its step writes", remedy(str(folder)), MOST)
    except FileNotFoundError as error:
        raise MissingArtifact(f"{folder} has no {path}, which its step writes. {remedy(str(folder))}") from error


def json_as(kind: type[T], data: bytes, folder: str, path: str) -> T:
    """What the content of a file of the artifact at `folder` says. Raises CorruptArtifact."""
    try:
        return read_as(kind, data, MOST)
    except NotPlain as error:
        raise CorruptArtifact(f"{folder}/{path} is not what its step writes ({error}). {remedy(folder)}") from error
