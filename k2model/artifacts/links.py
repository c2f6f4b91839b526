"""Artifacts whose files are links to files of other artifacts of the same store: joined without being copied.

A link says where its bytes lie (`FileEntry.at`), and that is always an artifact which has them itself: a link to a link
is made to what that one leads to. Sizes and hashes are those of the source's manifest, so no byte of a linked file is
read to make one. In a local store it is a hard link, and the folder is whole; where those are impossible it is a copy.
On an object store nothing is written, and `LinkedFiles` reads the file where it is.
"""

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from k2model.artifacts.entry import FileEntry
from k2model.artifacts.identity import ArtifactRef
from k2model.artifacts.manifest import Manifest, missing
from k2model.errors import ArtifactError, MissingArtifact

#: What an artifact links: by the path that a file is to have, the artifact and the path there. Asked for only when the
#: artifact is made.
Links = Callable[[], Mapping[str, tuple[ArtifactRef, str]]]
_NO_LINK = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)


def linked_entries(
    links: Mapping[str, tuple[ArtifactRef, str]], manifest_of: Callable[[ArtifactRef], Manifest]
) -> list[FileEntry]:
    """The entries of links, from the manifests of the artifacts that have the files.

    Raises MissingArtifact for a file that the artifact does not have, and what `manifest_of` raises.
    """
    known: dict[str, dict[str, FileEntry]] = {}
    found = []
    for path, (ref, at) in links.items():
        if ref.name not in known:
            known[ref.name] = {entry.path: entry for entry in manifest_of(ref).files}
        source = known[ref.name].get(at)
        if source is None:
            raise MissingArtifact(f"{ref.uri} has no file {at}, which is to be linked as {path}")
        found.append(replace(source, path=path, at=source.at or f"{ref.name}/{at}", place=""))
    return found


def whole(own: Manifest, linked: list[FileEntry], where: str) -> Manifest:
    """The manifest of an artifact's own files and its links. Raises ArtifactError for a path that both have."""
    if twice := {entry.path for entry in own.files} & {entry.path for entry in linked}:
        raise ArtifactError(f"{where}: {min(twice)} is written and linked as well, expected one of both")
    return Manifest((*own.files, *linked))


def link_locally(root: Path, entries: list[FileEntry], folder: Path, where: str) -> None:
    """Brings the files that entries lead to below `root`, a local store's, into `folder`; `where` is the
    name of the artifact that is made.

    Raises CorruptArtifact for one that is not there, OSError where the storage does not take it.
    """
    for entry in entries:
        try:
            link_file(root / entry.at, folder / entry.path)
        except FileNotFoundError as error:
            raise missing(str(root / where), entry) from error


def link_file(source: Path, target: Path) -> None:
    """Another name for a local file, a copy where those are impossible. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(source, target)
