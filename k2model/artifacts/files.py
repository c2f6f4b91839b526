"""The border to storage: the handful of operations a store needs, on a local folder or through fsspec.

Everything above this module is the same for both. What differs is how a write is made all-or-nothing:
locally a temporary file and a rename or hard link, remotely one put (which is atomic on object
stores) or a conditional put. Failures of the storage become the errors of `k2model.errors`
here. Paths given to methods are relative to `uri`, with `/`.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from k2model.errors import (
    ArtifactError,
    CorruptArtifact,
    K2Error,
    StoreWriteError,
    disk_full,
    disk_of,
    full_disks,
    showable,
)
from k2model.settings import holds_secret, masked

_FULL = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space or raise the quota",
}
_FORBIDDEN = {
    errno.ENOTDIR: "remove the file that lies where a folder should be, or choose another store with K2_STORE",
    errno.ENAMETOOLONG: "choose a store with a shorter path by K2_STORE",
    errno.ELOOP: "mend the links that lead to it, or choose another store with K2_STORE",
    errno.EROFS: "mount it writable, or choose another store with K2_STORE",
    errno.EACCES: "give this user the right to write there, or choose another store with K2_STORE",
    errno.EPERM: "give this user the right to write there, or choose another store with K2_STORE",
}
_REMEDIES = _FULL | _FORBIDDEN
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)  # some FUSE and shared folders
_OF_SERVICE = (
    getattr(errno, "EREMOTEIO", errno.EIO),
    errno.EBUSY,
    errno.EIO,
)  # what s3fs makes of 500, 503 and codes that it does not know
_NETWORK_LIBRARIES = {"botocore", "aiobotocore", "aiohttp", "urllib3", "requests"}
# One client per process and protocol. A forked process makes its own but must keep its parent's alive:
# collecting it would close connections that the parent waits on, which then stalls until a time-out.
_clients: dict[tuple[int, str], Any] = {}
PARTIAL = ".partial-"  # prefix of files that are not there yet; never listed


class Files(Protocol):
    """Operations on one folder of a storage."""

    uri: str

    def at(self, folder: str) -> "Files": ...
    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError."""
        ...

    def open(self, path: str) -> BinaryIO:
        """Raises FileNotFoundError."""
        ...

    def read_range(self, path: str, start: int, length: int) -> bytes:
        """`length` bytes from byte `start` on, fewer where the file ends. Raises FileNotFoundError."""
        ...

    def write(self, path: str, data: bytes | memoryview) -> None:
        """Replaces the file as a whole: a reader sees the old or the new content."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Writes the file unless it exists; of several writers exactly one gets True."""
        ...

    def put(self, source: Path, path: str) -> None:
        """Brings a file of this machine to its place, all or nothing; a source on the same disk is moved."""
        ...

    def exists(self, path: str) -> bool: ...
    def modified(self, path: str) -> float:
        """When a file got its content, in seconds since the epoch by the storage's clock. Raises FileNotFoundError."""
        ...

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Path and size in bytes of every file below `folder`; empty when there is none."""
        ...

    def remove(self, path: str) -> None:
        """Removes a file or a whole folder; nothing happens when there is none."""
        ...


def files_at(uri: str | os.PathLike[str]) -> Files:
    """The storage behind a plain path, a `file://` URI or any URI that fsspec knows (`s3://`).

    Raises ArtifactError for a URI that holds credentials, which no client here would take: it goes into references,
    records and tags.
    """
    uri = os.fspath(uri)
    if uri.startswith("file://"):
        uri = uri.removeprefix("file://")
    if "://" in uri:
        if holds_secret(uri):
            raise ArtifactError(
                f"the address {masked(uri)} holds a user, password or key, expected protocol://bucket/prefix alone. "
                "Give credentials by the environment (for s3://: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                "AWS_PROFILE)"
            )
        return RemoteFiles(uri.rstrip("/"))
    return LocalFiles(uri)


class LocalFiles:
    """A folder of this machine. `uri` is its absolute path."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self.uri = str(self.root)

    def at(self, folder: str) -> "LocalFiles":
        return LocalFiles(self.root / folder)

    def read(self, path: str) -> bytes:
        with reading(self.uri, path), _opened(self.root / path) as file:
            return file.read()

    def open(self, path: str) -> BinaryIO:
        with reading(self.uri, path):
            return _opened(self.root / path)

    def read_range(self, path: str, start: int, length: int) -> bytes:
        with reading(self.uri, path), _opened(self.root / path, buffering=0) as file:
            file.seek(start)
            return file.read(length)

    def write(self, path: str, data: bytes | memoryview) -> None:
        with writing(self.uri, path):
            with self._partial(path, data) as partial:
                os.replace(partial, self.root / path)

    def create(self, path: str, data: bytes) -> bool:
        # A hard link either makes the whole file appear or fails since there is one: O_EXCL, but
        # no reader ever sees it empty.
        with writing(self.uri, path):
            with self._partial(path, data) as partial:
                return self._link(partial, path, data)

    def create_from(self, source: Path, path: str, data: bytes) -> bool:
        """The same with a file of this disk that holds `data` and will not change."""
        with writing(self.uri, path):
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            return self._link(source, path, data)

    def put(self, source: Path, path: str) -> None:
        with writing(self.uri, path):
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, self.root / path)

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()

    def modified(self, path: str) -> float:
        with reading(self.uri, path):
            return (self.root / path).stat().st_mtime

    def sizes(self, folder: str = "") -> dict[str, int]:
        found = {}
        with reading(self.uri, folder):
            for parent, folders, names in os.walk(self.root / folder, onerror=_raise_unless_missing):
                # A link is listed as what it is, so that it is told from the file or folder that it leads to.
                for name in (*names, *(one for one in folders if os.path.islink(os.path.join(parent, one)))):
                    file = Path(parent, name)
                    with contextlib.suppress(FileNotFoundError):  # removed by another process meanwhile
                        if not name.startswith(PARTIAL):
                            found[file.relative_to(self.root).as_posix()] = file.lstat().st_size
        return found

    def remove(self, path: str) -> None:
        target = self.root / path
        with writing(self.uri, path):
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    def _link(self, source: Path, path: str, data: bytes) -> bool:
        try:
            os.link(source, self.root / path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            return self._create_directly(path, data)
        return True

    def _create_directly(self, path: str, data: bytes) -> bool:
        try:
            with (self.root / path).open("xb") as file:
                file.write(data)
        except FileExistsError:
            return False
        return True

    def flush(self, paths: Iterable[str]) -> None:
        """Waits until files are on the disk, so that a manifest never outlives them in a power cut."""
        for path in paths:
            with writing(self.uri, path):
                descriptor = os.open(self.root / path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    @contextlib.contextmanager
    def _partial(self, path: str, data: bytes | memoryview) -> Iterator[Path]:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.parent / f"{PARTIAL}{target.name}-{secrets.token_hex(6)}"
        try:
            with partial.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield partial
        finally:
            partial.unlink(missing_ok=True)


def _opened(place: Path, buffering: int = -1) -> BinaryIO:
    """A file to read. Raises CorruptArtifact for a pipe or a device: whoever writes to it might never come."""
    descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return cast(BinaryIO, open(descriptor, "rb", buffering))
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place))
    raise CorruptArtifact(f"{place} is a pipe or a device, expected a file. Take it away and run again")


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


class RemoteFiles:
    """A prefix of an object store, through fsspec. `uri` is the URI that fsspec takes."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @property
    def filesystem(self) -> Any:
        protocol = self.uri.partition("://")[0]
        client = _clients.get((os.getpid(), protocol))
        if client is None:
            import fsspec

            # Listings are not cached, since other processes write to the store as well.
            client = fsspec.filesystem(protocol, use_listings_cache=False, skip_instance_cache=True)
            _clients[os.getpid(), protocol] = client
        return client

    def at(self, folder: str) -> "RemoteFiles":
        return RemoteFiles(f"{self.uri}/{folder}")

    def read(self, path: str) -> bytes:
        with reading(self.uri, path):
            return cast(bytes, self.filesystem.cat_file(self._full(path)))

    def open(self, path: str) -> BinaryIO:
        with reading(self.uri, path):
            return cast(BinaryIO, self.filesystem.open(self._full(path), "rb"))

    def read_range(self, path: str, start: int, length: int) -> bytes:
        with reading(self.uri, path):
            return cast(bytes, self.filesystem.cat_file(self._full(path), start=start, end=start + length))

    def write(self, path: str, data: bytes | memoryview) -> None:
        with writing(self.uri, path):
            self.filesystem.pipe_file(self._full(path), data if isinstance(data, bytes) else _copied(data))

    def create(self, path: str, data: bytes) -> bool:
        with writing(self.uri, path):
            try:
                self.filesystem.pipe_file(self._full(path), data, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                # What s3fs makes of 'precondition failed' depends on the server's wording: some give
                # EINVAL instead. Then the key is there, unlike after a request that was really invalid.
                if error.errno == errno.EINVAL and self.exists(path):
                    return False
                raise
            return True

    def exists(self, path: str) -> bool:
        with reading(self.uri, path):
            return bool(self.filesystem.exists(self._full(path)))

    def modified(self, path: str) -> float:
        with reading(self.uri, path):
            return float(self.filesystem.modified(self._full(path)).timestamp())

    def sizes(self, folder: str = "") -> dict[str, int]:
        with reading(self.uri, folder):
            root = self.filesystem._strip_protocol(self.uri)
            found = self.filesystem.find(self._full(folder) if folder else self.uri, detail=True)
            return {name.removeprefix(f"{root}/"): info["size"] for name, info in found.items()}

    def remove(self, path: str) -> None:
        with writing(self.uri, path):
            with contextlib.suppress(FileNotFoundError):
                self.filesystem.rm(self._full(path), recursive=True)

    def put(self, source: Path, path: str) -> None:
        with writing(self.uri, path):
            self.filesystem.put_file(str(source), self._full(path))

    def download(self, path: str, target: Path) -> None:
        """Raises FileNotFoundError. The caller checks what arrived."""
        with reading(self.uri, path):
            self.filesystem.get_file(self._full(path), str(target))

    def _full(self, path: str) -> str:
        return f"{self.uri}/{path}"


def _copied(data: memoryview) -> bytearray:
    """What the clients take, which are content with no view. numpy lets other threads run while it copies."""
    import numpy as np

    copy = bytearray(len(data))
    np.frombuffer(copy, np.uint8)[:] = np.frombuffer(data, np.uint8)
    return copy


@contextlib.contextmanager
def writing(store: str, path: str) -> Iterator[None]:
    """Turns a failure to write `path` in `store` into a `StoreWriteError` that says what to do."""
    try:
        yield
    except Exception as error:
        remedy = _write_remedy(error)
        if remedy is None:
            raise
        raise _write_error(store, path, error, remedy) from showable(error)


@contextlib.contextmanager
def writing_scratch(store: str, folder: Path) -> Iterator[None]:
    """The same for what a step's own code writes below `folder`; its other errors pass as they are."""
    try:
        yield
    except K2Error:
        raise
    except Exception as error:
        path = error.filename if isinstance(error, OSError) else None
        if path is not None:
            remedy = _write_remedy(error) if str(path).startswith(str(folder)) else None
        else:
            remedy = _FULL[errno.ENOSPC] if _is_full(error, folder) else None
        if remedy is None:
            raise
        raise _write_error(store, str(path or folder), error, remedy) from error


def _is_full(error: Exception, folder: Path) -> bool:
    """Whether it tells, without a path, of a full disk, and that can be the one of `folder`: it may be another."""
    return disk_full(error) is not None and (not (full := full_disks()) or disk_of(folder) in full)


@contextlib.contextmanager
def reading(store: str, path: str) -> Iterator[None]:
    """Turns a storage that cannot be reached or read into an `ArtifactError`."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        remedy = _write_remedy(error)
        if remedy is None and not (isinstance(error, OSError) and error.errno == errno.EIO):
            raise
        raise ArtifactError(
            f"cannot read {path or 'the listing'} of the store {store}: {_describe(error)}. Check that the store is "
            "there, reachable and readable (K2_STORE, AWS_ENDPOINT_URL and credentials), then run again"
        ) from showable(error)


def _write_remedy(error: BaseException) -> str | None:
    """What to do about a failure of the storage; None when the error is of another kind."""
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        return _REMEDIES[error.errno]
    if isinstance(error, PermissionError):  # s3fs raises it without an errno
        return _REMEDIES[errno.EACCES]
    if isinstance(error, FileExistsError):
        return None
    if isinstance(error, FileNotFoundError):
        return "create the bucket, or choose another store with K2_STORE" if "bucket" in str(error).lower() else None
    if isinstance(error, OSError) and error.errno in _OF_SERVICE and _libraries(error.__cause__) & _NETWORK_LIBRARIES:
        return "wait until the service is well again, its own log says why it failed"
    if isinstance(error, (ConnectionError, TimeoutError)) or _libraries(error) & _NETWORK_LIBRARIES:
        return "check that the store can be reached (AWS_ENDPOINT_URL, network) and takes your credentials"
    return None


def _libraries(error: BaseException | None) -> set[str]:
    """Names of the packages that an error's classes are of."""
    return {cls.__module__.partition(".")[0] for cls in type(error).__mro__}


def _write_error(store: str, path: str, error: Exception, remedy: str) -> StoreWriteError:
    return StoreWriteError(
        f"cannot write {path} in the store {store}: {_describe(error)}{_free_space(store)}. To go on: {remedy}, then "
        "run the same command again; what is finished is kept and not made again"
    )


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _free_space(folder: str | os.PathLike[str]) -> str:
    """`, 12 MB free there` for a local folder that exists, else nothing."""
    try:
        return f", {shutil.disk_usage(folder).free // 1_000_000} MB free there"
    except OSError:
        return ""
