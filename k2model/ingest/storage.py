"""Where a source lies: a folder, file or glob on this machine or on an object store, listed and opened alike.

Everything above this module names files relative to the `root` found here, so that no path or host of one
machine gets into a document. Hidden files and folders (`.git`, `.cache`) are never part of a source.
Nothing is written here.
"""

import contextlib
import glob
import io
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from k2model.errors import CorpusError, K2Error, showable

READ_AHEAD_BYTES = 8_000_000  # of one request to an object store
JUMPING_BYTES = 1_000_000  # the same, for a file that is not read from front to end
_MAGIC = re.compile(r"[*?\[]")


class Entry(NamedTuple):
    """A file that was found: `path` relative to the root with `/`. `tag` changes with its content: what an object
    store says of it (ETag, and version where it keeps them); on a disk the time of the last change (ctime, in
    nanoseconds), which nobody can set back."""

    path: str
    size: int
    tag: str


@dataclass(frozen=True)
class SourceFiles:
    """The files of a source: `root` is a folder or prefix without a slash at its end, `pattern` a glob below it
    ("" = all there is)."""

    root: str
    pattern: str

    @property
    def remote(self) -> bool:
        return "://" in self.root

    def full(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def entries(self) -> list[Entry]:
        """Every file that the pattern takes in, by path. Raises `CorpusError` when there is none."""
        takes = self.taking()
        with reading(self.root):
            if self.remote:
                found = sorted(entry for entry in _list_remote(self.root) if takes(entry.path))
            else:
                below = self.pattern.count("/") if self.pattern and "**" not in self.pattern else None
                found = sorted(_list_local(self.root, takes, below))
        if not found:
            raise CorpusError(
                f"there is no file at {self.full(self.pattern)}; expected a file, a folder or a glob such as "
                "data/**/*.jsonl.zst. Set the source's location"
            )
        return found

    def taking(self) -> Callable[[str], bool]:
        """Tells of a path whether the pattern takes it in."""
        from fsspec.utils import glob_translate

        matches = re.compile(glob_translate(self.pattern or "**")).match
        return lambda path: bool(matches(path)) and "/." not in f"/{path}"

    def open(self, path: str, ahead: int = READ_AHEAD_BYTES) -> BinaryIO:
        """The file, to read and seek; `ahead` bytes are requested at once of an object store.

        Whatever the storage does wrong becomes a `CorpusError`, so that no failure of the network can be taken for the
        end of a file.
        """
        with reading(self.full(path)):
            if not self.remote:
                return Path(self.full(path)).open("rb")
            opened = filesystem(self.root).open(self.full(path), "rb", block_size=ahead, cache_type="readahead")
            return io.BufferedReader(_Guarded(opened, self.full(path)))

    def entry(self, path: str) -> Entry:
        """A file as it is now. Raises `CorpusError` when it is not there."""
        with reading(self.full(path)):
            if not self.remote:
                return _entry(path, Path(self.full(path)).stat())
            return _remote_entry(path, filesystem(self.root).info(self.full(path)), self.full(path))

    def check(self, listed: Entry) -> None:
        """Raises `CorpusError` when a file is not there, or not what it was when it was listed."""
        found = self.entry(listed.path)
        if found == listed:
            return
        resized = f"{found.size} bytes, {listed.size} when" if found.size != listed.size else "been written to since"
        raise CorpusError(
            f"{self.full(listed.path)} has {resized} the source was listed. Leave the inputs alone while a run reads "
            "them, and run again"
        )

    def read(self, path: str, limit: int = -1) -> bytes:
        """The first `limit` bytes of a file; all of it when negative."""
        with self.open(path) as file:
            return file.read(limit)


def open_source(location: str) -> SourceFiles:
    """The files at a location, a path or URI; all in front of the first component with `*`, `?` or `[` is the root."""
    location = location.removeprefix("file://").rstrip("/") or "/"
    if "://" not in location:
        path = Path(location).absolute()
        if path.is_dir():
            return SourceFiles(str(path), "")
        if path.exists():
            return SourceFiles(str(path.parent), glob.escape(path.name))
        location = str(path)
    parts = location.split("/")
    first = next((i for i, part in enumerate(parts) if _MAGIC.search(part)), None)
    if first is not None:
        return SourceFiles("/".join(parts[:first]), "/".join(parts[first:]))
    if "://" in location:
        with reading(location):
            if filesystem(location).isfile(location):
                return SourceFiles("/".join(parts[:-1]), glob.escape(parts[-1]))
    return SourceFiles(location, "")


def filesystem(uri: str) -> Any:
    """The client of an object store, one for each process and protocol: the one that artifacts go through."""
    from k2model.artifacts.files import RemoteFiles

    return RemoteFiles(uri).filesystem


@contextlib.contextmanager
def reading(where: str) -> Iterator[None]:
    """Turns what a storage raises into a `CorpusError` that names `where` and says what to do."""
    try:
        yield
    except K2Error:
        raise
    except FileNotFoundError as error:
        raise CorpusError(f"{where} is not there; set the source's location to what is, or put it back") from error
    except Exception as error:
        raise CorpusError(
            f"cannot read {where}: {type(error).__name__}: {error}. Check that it can be reached and read "
            "(for s3://: AWS_ENDPOINT_URL and credentials), then run again"
        ) from showable(error)


class _Guarded(io.RawIOBase):
    """A remote file whose failures name it."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file, self._where = file, where

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with reading(self._where):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with reading(self._where):
            return self._file.seek(offset, whence)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _list_local(root: str, takes: Callable[[str], bool], below: int | None) -> Iterator[Entry]:
    """The files that are taken, at most `below` folders deep. Links to folders are followed, but for those that lead
    back to a folder they lie in: these hold nothing more."""
    for parent, folders, names in os.walk(root, onerror=_raise, followlinks=True):
        own = os.path.realpath(parent)
        if below is not None and len(Path(parent).relative_to(root).parts) >= below:
            folders.clear()
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and not (os.path.islink(there := os.path.join(parent, name)) and _is_within(own, os.path.realpath(there)))
        ]
        for file in (Path(parent, name) for name in names):
            if takes(path := file.relative_to(root).as_posix()):
                yield _entry(path, _stat(file))


def _is_within(folder: str, above: str) -> bool:
    return folder == above or folder.startswith(above.rstrip("/") + "/")


def _stat(file: Path) -> os.stat_result:
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            raise CorpusError(f"{file} is a pipe, a socket or a device, expected a file. Take it away")
        return found
    except OSError as error:
        if not file.is_symlink():
            raise
        target = os.readlink(file)
        annex = "annex/objects/" in target
        said = (
            "a file that git-annex has not fetched; run `git annex get .`" if annex else f"no file ({error.strerror})"
        )
        raise CorpusError(
            f"{file} is a link to {said}" + ("" if annex else f": {target}. Put the file there, or remove the link")
        ) from error


def _list_remote(root: str) -> Iterator[Entry]:
    client = filesystem(root)
    prefix = client._strip_protocol(root) + "/"
    for name, info in client.find(root, detail=True).items():
        if name.startswith(prefix) and not name.endswith("/"):
            yield _remote_entry(name.removeprefix(prefix), info, name)


def _entry(path: str, found: os.stat_result) -> Entry:
    return Entry(path, found.st_size, str(found.st_ctime_ns))


def _remote_entry(path: str, info: Mapping[str, Any], where: str) -> Entry:
    tag = str(info.get("ETag") or "").strip('"')
    if not tag:
        raise CorpusError(
            f"the store of {where} tells no ETag, so that nobody could know whether its content is still the same; "
            "keep sources on S3 or on a disk"
        )
    version = info.get("VersionId")
    return Entry(path, int(info["size"]), f"{tag}:{version}" if version else tag)


def _raise(error: OSError) -> None:
    raise error
