"""The temporary folder of a command: all that it and its processes put into TMPDIR lies in one place and goes with it.

flytekit makes folders when it is imported and one a task, torch elastic one a job, libraries below them others, and
none removes all of its own; a process that is killed removes nothing. So a command takes a folder for itself, holds a
lock on it for as long as a process that was forked from it lives, and removes it when it ends. What nobody holds any
more is removed by the next command that has the same TMPDIR.
"""

import atexit
import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flytekit.configuration import Config
from flytekit.core.data_persistence import flyte_tmp_dir

PREFIX = "k2-run-"  # of a folder in TMPDIR; short, since paths of sockets below it may have 107 bytes


def own_temporary_folder() -> Path:
    """From here on TMPDIR of this process and its children is a folder of its own, which is removed when this process
    ends. What dead ones left beside it is removed now."""
    below = Path(tempfile.gettempdir())
    for left in below.glob(f"{PREFIX}*"):
        _remove_unless_held(left)
    folder = _locked(below)
    for made in {flyte_tmp_dir, Config.local_sandbox_path}:  # before there was a folder to make them in
        if Path(made).parent == below:
            (folder / Path(made).name).symlink_to(made)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    atexit.register(_remove_own, folder, os.getpid())
    return folder


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Inside, TMPDIR is a folder that is removed afterwards."""
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        try:
            yield Path(folder)
        finally:
            tempfile.tempdir = before
            if variable is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = variable


def _locked(below: Path) -> Path:
    """A new folder whose lock is held by this process and those that are forked from it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=below))
        try:
            fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (FileNotFoundError, BlockingIOError):
            continue  # another command took it for one that was left
        except OSError:  # a file system without such locks: there nobody removes what another has left
            return folder
        if folder.exists():
            return folder


def _remove_unless_held(folder: Path) -> None:
    """Removes a folder of this user that no process holds, and what it points to beside itself."""
    with contextlib.suppress(OSError):  # held, gone meanwhile, or somebody else's
        descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(descriptor)
            if found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == 0o700:
                _remove(folder)
        finally:
            os.close(descriptor)


def _remove_own(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # and not in a process that was forked from it
        _remove(folder)


def _remove(folder: Path) -> None:
    for link in folder.glob("flyte*"):
        if link.is_symlink():
            shutil.rmtree(folder.with_name(link.name), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
