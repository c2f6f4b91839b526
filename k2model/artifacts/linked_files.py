"""The files of an artifact on an object store that lie elsewhere, in the place of who made them or in another artifact:
each is read where its bytes lie.

Whoever reads an artifact by the operations of `Files` need not know of it. Writing is for the artifact's own files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from k2model.artifacts.files import RemoteFiles
from k2model.artifacts.owner import MADE


class LinkedFiles(RemoteFiles):
    """A prefix of an object store of which some files are read elsewhere in it. They cannot be written or removed.
    Places of makers are not listed."""

    def __init__(self, uri: str, links: Mapping[str, tuple[RemoteFiles, str]]) -> None:
        """links: by path, the folder that has the file, and its path there."""
        super().__init__(uri)
        self._links = links

    def at(self, folder: str) -> RemoteFiles:
        below = {path.removeprefix(f"{folder}/"): link for path, link in self._below(folder).items()}
        return LinkedFiles(f"{self.uri}/{folder}", below)

    def read(self, path: str) -> bytes:
        return RemoteFiles.read(*self._place(path))

    def open(self, path: str) -> BinaryIO:
        return RemoteFiles.open(*self._place(path))

    def read_range(self, path: str, start: int, length: int) -> bytes:
        return RemoteFiles.read_range(*self._place(path), start, length)

    def exists(self, path: str) -> bool:
        return RemoteFiles.exists(*self._place(path))

    def modified(self, path: str) -> float:
        return RemoteFiles.modified(*self._place(path))

    def download(self, path: str, target: Path) -> None:
        RemoteFiles.download(*self._place(path), target)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Links with the size of what they lead to, without those that lead to nothing. Lists every linked artifact."""
        links = self._below(folder)
        listed = {files.uri: files.sizes() for files in {files.uri: files for files, _ in links.values()}.values()}
        below = listed[self.uri] if not folder and self.uri in listed else super().sizes(folder)
        own = {path: size for path, size in below.items() if path not in links and not path.startswith(f"{MADE}/")}
        return own | {path: listed[files.uri][at] for path, (files, at) in links.items() if at in listed[files.uri]}

    def _place(self, path: str) -> tuple[RemoteFiles, str]:
        return self._links.get(path, (self, path))

    def _below(self, folder: str) -> dict[str, tuple[RemoteFiles, str]]:
        return {path: link for path, link in self._links.items() if not folder or path.startswith(f"{folder}/")}


def with_links(uri: str, links: Mapping[str, str]) -> RemoteFiles:
    """The files of the artifact at `uri`; links: by path, where in its store the bytes are, as
    `<step>/<key[:16]>/<path>`."""
    root = uri.rsplit("/", 2)[0]
    found: dict[str, tuple[RemoteFiles, str]] = {}
    folders: dict[str, RemoteFiles] = {}
    for path, at in links.items():
        step, key, there = at.split("/", 2)
        name = f"{step}/{key}"
        found[path] = folders.setdefault(name, RemoteFiles(f"{root}/{name}")), there
    return LinkedFiles(uri, found)
