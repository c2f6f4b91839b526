"""Where an adopted model lies: its files, each with a digest, and read such that what is used is what was listed.

A local file is hashed whole, an object's store is taken at its word (ETag), as with sources of data. Of a release of
this project nothing is read that its manifest does not list, and what is read has the manifest's sha256.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from k2model.errors import CorpusError
from k2model.export.architecture import AdoptionError
from k2model.ingest.storage import Entry, open_source

PIECE = 8_000_000  # bytes read at once, where a file is only passed on


@dataclass(frozen=True)
class Released:
    """What a release says of the model in it. `manifest` is the sha256 of the file that lists all others, `files` is
    theirs by path; nothing of them has been read."""

    recipe: str
    phase: str
    licence: str
    manifest: str
    files: Mapping[str, str]


class HashedFile:
    """A file that is read once, front to back, and hashed on the way."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file, self._where, self._hash = file, where, hashlib.sha256()

    def read(self, size: int) -> bytearray:
        """The next `size` bytes. Raises AdoptionError when the file ends within them."""
        data = bytearray(size)
        view, done = memoryview(data), 0
        while done < size:
            got = self._file.readinto(view[done:])  # type: ignore[attr-defined]
            if not got:
                raise AdoptionError(f"{self._where} ends within what its header tells of; get it again")
            done += got
        self._hash.update(data)
        return data

    def rest(self) -> Iterator[bytes]:
        """What is left of the file, in pieces."""
        while data := self._file.read(PIECE):
            self._hash.update(data)
            yield data

    @property
    def sha256(self) -> str:
        """Of all that was read, in hex."""
        return self._hash.hexdigest()


class Source:
    """The files below a location, by path relative to it.

    Raises AdoptionError when there are none, and for a file that is not there or not what was listed.
    """

    def __init__(self, where: str, location: str, released: Released | None) -> None:
        self.where, self.released = where, released
        try:
            self._files = open_source(location)
            entries = {entry.path: entry for entry in self._files.entries()}
        except CorpusError as error:
            raise AdoptionError(f"{where}: {error}") from error
        self.entries: dict[str, Entry] = {p: e for p, e in entries.items() if released is None or p in released.files}
        self._sha256 = {} if released is None else dict(released.files)

    def digest(self, path: str) -> str:
        """What a file is, for an identity."""
        if self.released is None and self._files.remote:
            return f"etag:{self._entry(path).tag}"
        if path not in self._sha256:
            with self._files.open(path) as file:
                hashed = HashedFile(file, path)
                for _ in hashed.rest():
                    pass
            self._sha256[path] = hashed.sha256
        return f"sha256:{self._sha256[path]}"

    def open(self, path: str) -> BinaryIO:
        self._entry(path)
        return self._files.open(path)

    @contextlib.contextmanager
    def checked(self, path: str) -> Iterator[HashedFile]:
        """The file, of which everything is read inside the block. Raises AdoptionError behind it when that was not
        what is listed."""
        entry = self._entry(path)
        with self._files.open(path) as file:
            hashed = HashedFile(file, f"{self.where}: {path}")
            yield hashed
        known = self._sha256.get(path)
        if known is None:
            self._files.check(entry)
        elif known != hashed.sha256 and self.released is not None:
            raise AdoptionError(
                f"{self.where}: {path} has sha256 {hashed.sha256}, the release's manifest says {known}; `k2 verify` "
                "names all that is damaged. Get the release again"
            )
        elif known != hashed.sha256:
            raise AdoptionError(f"{self.where}: {path} was written to while it was read; leave it alone, and run again")

    def read(self, path: str) -> bytes:
        """A small file as a whole."""
        with self.checked(path) as file:
            return b"".join(file.rest())

    def _entry(self, path: str) -> Entry:
        if path not in self.entries:
            listed = " though the release's manifest lists it" if path in self._sha256 else ""
            raise AdoptionError(f"{self.where}: there is no {path}{listed}; get it as well")
        return self.entries[path]
