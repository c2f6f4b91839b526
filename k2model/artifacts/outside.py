"""What comes from outside: the one check of paths that a file states, and the one reader of small files.

A store, a release or an inbox may be a stranger's, or damaged. A path in a manifest, a record, a list or a link becomes
the name of a file that is read and written, and a manifest, a lease or a record is read before anything is known of it.
So a path is checked before it can be used at all (`check_path`, in `FileEntry`), no link is followed (`inside`), and a
small file is opened without waiting for it, read up to a bound and held against its type (`read_small`, `read_typed`).
"""

import os
import re
import stat
from pathlib import Path
from typing import TypeVar

from k2model.artifacts.files import Files, LocalFiles, reading
from k2model.errors import CorruptArtifact, used_up
from k2model.plain import SMALL, NotPlain, read_as
from k2model.units import readable_size

T = TypeVar("T")
# Bytes in UTF-8. File systems take names of 255, of which a file that is being written needs some for its own, and
# object stores keys of 1024 with the prefix of the store.
LONGEST_NAME, LONGEST_PATH = 220, 900
# Control characters, line separators, halves of surrogate pairs, what turns the direction of text; drives of Windows.
_NO_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\\]|\A[A-Za-z]:")


def check_path(path: object) -> None:
    """Raises ValueError for what is not the path of a file inside its folder, in the one form that it has."""
    if not isinstance(path, str) or _NO_NAME.search(path) or {"", ".", ".."} & {*path.split("/")}:
        shown = path if not isinstance(path, str) or len(path) <= LONGEST_PATH else f"{path[:60]}..."
        raise ValueError(
            f"the path {shown!r} is not one of a file inside the folder: expected names joined by '/', none of them "
            "empty, '.' or '..', without backslashes, control characters or a drive"
        )
    # A character takes four bytes at most, so a short path need not be looked at any further.
    if 4 * len(path) > LONGEST_NAME and (
        len(path.encode()) > LONGEST_PATH or any(len(name.encode()) > LONGEST_NAME for name in path.split("/"))
    ):
        raise ValueError(
            f"the path {path[:60]!r}... is too long: expected names of at most {LONGEST_NAME} bytes, and "
            f"{LONGEST_PATH} in all"
        )


def inside(folder: str | os.PathLike[str], path: str) -> Path:
    """The place of an artifact's file below a local folder. Raises CorruptArtifact when a link is on the way: what is
    read or written through it would lie outside."""
    place = Path(folder)
    for name in path.split("/"):
        place /= name
        if place.is_symlink():
            raise CorruptArtifact(f"{place} is a link, expected a folder or file of {folder}. {remedy(str(folder))}")
    return place


def read_small(files: Files, path: str, most: int = SMALL) -> bytes:
    """The content of a file that ought to be small, whoever wrote it.

    Raises FileNotFoundError where there is nothing, NotPlain for more than `most` bytes and for anything but a file (a
    folder, a link, a pipe that nobody writes to), ArtifactError when the storage cannot be read.
    """
    data = _local(files, path, most) if isinstance(files, LocalFiles) else _remote(files, path, most)
    if len(data) > most:
        raise NotPlain(f"it has more than {readable_size(most)}, which is the most that is read of such a file")
    return data


def read_typed(kind: type[T], files: Files, path: str, what: str, remedy: str, most: int = SMALL) -> T:
    """What a small JSON file says, as `k2model.plain` reads it; `what` it ought to be, for the message.

    Raises FileNotFoundError where there is none, CorruptArtifact naming file, field and what to do.
    """
    try:
        return read_as(kind, read_small(files, path, most), most)
    except NotPlain as error:
        raise CorruptArtifact(f"{files.uri}/{path} is not {what} ({error}). {remedy}") from error


def _local(files: LocalFiles, path: str, most: int) -> bytes:
    place = files.root
    for name in path.split("/"):
        place /= name
        if os.path.islink(place):  # False, where a name is too long for one: opening tells
            raise NotPlain("it is a link, expected a file" if place == files.root / path else f"{place} is a link")
    try:
        with reading(files.uri, path):
            descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # waits for no writer of a pipe
    except FileNotFoundError:
        raise
    except OSError as error:
        if used_up(error):  # which says nothing of the file
            raise
        raise NotPlain(f"it cannot be opened ({error.strerror})") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotPlain("it is a folder, a pipe or a device, expected a file")
        with reading(files.uri, path), open(descriptor, "rb", closefd=False) as file:
            return file.read(most + 1)
    finally:
        os.close(descriptor)


def _remote(files: Files, path: str, most: int) -> bytes:
    try:
        return files.read_range(path, 0, most + 1)
    except (ValueError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        return files.read(path)  # a range of an empty file is refused by some stores


def remedy(folder: str) -> str:
    """What to do about a damaged artifact."""
    return (
        f"Delete the folder {folder} (or have `k2 check --repair` move aside what is damaged) and run again: the step "
        "that makes it will be done again"
    )
