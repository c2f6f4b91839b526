"""Errors that are meant for the person who runs the pipeline, and what other errors mean to that person.

A message says what was wrong, where (file, field, row), what was expected and what to do about it.
Bugs are not `K2Error`s: they keep Python's own types, and their traceback.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from k2model.settings import home, store_uri, tracking_uri

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SAY_FULL = (*(os.strerror(number) for number in _FULL), "database or disk is full")
# What is said of a write that failed, without the reason: it was that one if a disk is full.
_MAY_MEAN_FULL = (
    "disk I/O error", "unable to open database file", " requested and ", "No usable temporary directory",
)  # fmt: skip
_LEFT = 1_000_000  # bytes; on a full disk some may be left that are too few for what was to be written


class K2Error(Exception):
    """Something a user can act on."""


class DiskFull(K2Error):
    """Nothing more can be written where the run writes; the message names the disk and what lies on it."""


def for_user(error: BaseException) -> K2Error | None:
    """What an error says to the person at the terminal: the `K2Error` that it is or was made from, or that a disk is
    full, in whatever words a library told it. None for a bug."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, K2Error):
            return cause
        cause = cause.__cause__
    return disk_full(error)


def disk_full(error: BaseException) -> DiskFull | None:
    """The error that names the full disk, when `error` was raised since one is full or while that was handled."""
    return next((_disk_full(one) for one in _causes(error) if _says_full(one)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _says_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    text = str(error)
    if any(sign in text for sign in _SAY_FULL):
        return True
    return any(sign in text for sign in _MAY_MEAN_FULL) and bool(full_disks())


def full_disks() -> dict[Path, list[str]]:
    """The disks this run writes to on which nothing is left, by mount point, each with what of the run lies there."""
    return {mount: names for mount, names in _disks().items() if _is_full(mount)}


def _disk_full(error: BaseException) -> DiskFull:
    path = error.filename if isinstance(error, OSError) else None
    # What was half written may have been removed by now, so that no disk is full any more.
    disks = {disk_of(path): [path]} if isinstance(path, str) else full_disks() or _disks()
    where = "; ".join(f"{mount} ({_left(mount)}), for {', '.join(names)}" for mount, names in disks.items())
    return DiskFull(
        f"{type(error).__name__}: {error}. Nothing more can be written on {where}. To go on: free some space there, or "
        "choose a larger disk (K2_HOME, K2_STORE, TMPDIR), then run the same command again; what is finished is kept "
        "and not made again"
    )


def _disks() -> dict[Path, list[str]]:
    places = {"K2_HOME": str(home()), "K2_STORE": store_uri().removeprefix("file://")}
    places["MLFLOW_TRACKING_URI"] = tracking_uri().removeprefix("sqlite:///")
    with contextlib.suppress(FileNotFoundError):  # where no folder takes a file
        places["TMPDIR"] = tempfile.gettempdir()
    disks: dict[Path, list[str]] = {}
    for name, place in places.items():
        if "://" not in place:
            names = disks.setdefault(disk_of(place), [])
            if not names or not Path(place).is_relative_to(home()):
                names.append(f"{name} ({place})")
    return disks


def disk_of(path: str | Path) -> Path:
    """The mount point of the file system on which a path, or where it would be made, lies."""
    above = [Path(path).absolute(), *Path(path).absolute().parents]
    return next(folder for folder in above if os.path.ismount(folder))


def _is_full(mount: Path) -> bool:
    filled = os.statvfs(mount)
    return filled.f_bavail * filled.f_frsize < _LEFT or (filled.f_files > 0 and filled.f_favail == 0)


def _left(mount: Path) -> str:
    usage, files = shutil.disk_usage(mount), os.statvfs(mount)
    if files.f_files > 0 and files.f_favail == 0:
        return f"all its {files.f_files} files (inodes) are used"
    return f"{usage.free / 1e6:.1f} of {usage.total / 1e6:,.0f} MB free"
