"""The files of an artifact on an object store that lie elsewhere, in the place of who made them or in another artifact:
each is read where its bytes are.

Whoever reads an artifact by the operations of `Files` need not know of it. Writing is for the artifact's own files.
"""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from k2model.artifacts.files import RemoteFiles
from k2model.artifacts.owner import MADE


class LinkedFiles(RemoteFiles):
    """A prefix of an object store of which some files are read elsewhere in it. They cannot be written or removed.
    Places of makers are not listed. It can be pickled: workers tell each other where an artifact lies."""

    def __init__(
        self, uri: str, elsewhere: Mapping[str, tuple[str, str]], opened: Callable[[str], RemoteFiles]
    ) -> None:
        """elsewhere: by path, the address of the artifact whose folder has the bytes, and their path in it. opened: a
        module's function that gives the files of another artifact by its address; asked when one of them is read,
        since it may have been made anew, by another maker, after it was linked."""
        super().__init__(uri)
        self._elsewhere = elsewhere
        self._opened = opened
        self._known = {uri: RemoteFiles(uri)}

    def at(self, folder: str) -> RemoteFiles:
        below = copy.copy(self)
        below.uri = f"{self.uri}/{folder}"
        below._elsewhere = {path.removeprefix(f"{folder}/"): self._elsewhere[path] for path in self._below(folder)}
        return below

    def read(self, path: str) -> bytes:
        files, there = self._place(path)
        return files.read(there)

    def open(self, path: str) -> BinaryIO:
        files, there = self._place(path)
        return files.open(there)

    def read_range(self, path: str, start: int, length: int) -> bytes:
        files, there = self._place(path)
        return files.read_range(there, start, length)

    def exists(self, path: str) -> bool:
        files, there = self._place(path)
        return files.exists(there)

    def modified(self, path: str) -> float:
        files, there = self._place(path)
        return files.modified(there)

    def download(self, path: str, target: Path) -> None:
        files, there = self._place(path)
        files.download(there, target)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """What lies elsewhere with the size that it has there, without what does not. Lists every artifact that has
        some of it."""
        own = RemoteFiles(self.uri).sizes(folder)
        found = {path: size for path, size in own.items() if not path.startswith(f"{MADE}/")}
        listed = {} if folder else {self.uri: own}
        for path in self._below(folder):
            found.pop(path, None)
            files, there = self._place(path)
            if files.uri not in listed:
                listed[files.uri] = files.sizes()
            if there in listed[files.uri]:
                found[path] = listed[files.uri][there]
        return found

    def _place(self, path: str) -> tuple[RemoteFiles, str]:
        if path not in self._elsewhere:
            return RemoteFiles(self.uri), path
        address, there = self._elsewhere[path]
        if address not in self._known:
            self._known[address] = self._opened(address)
        return self._known[address], there

    def _below(self, folder: str) -> list[str]:
        return [path for path in self._elsewhere if not folder or path.startswith(f"{folder}/")]
