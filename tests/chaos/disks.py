"""Disks that are full, read-only, out of inodes or gone, as real file systems (tmpfs) that one command alone sees."""

import ctypes
import os
from functools import partial
from pathlib import Path

from tests.chaos.bench import Bench, Expected, Fault, Seen
from tests.chaos.processes import place

_NEW_NAMESPACE, _READ_ONLY, _PRIVATE, _REMOUNT, _BIND = 0x20000, 1, 1 << 18 | 1 << 14, 32, 4096
_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    if _libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {target}: {os.strerror(number)}")


def _alone() -> None:
    if _libc.unshare(_NEW_NAMESPACE):
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")
    _mount("none", "/", "none", _PRIVATE)


def small(folder: str, options: str) -> None:
    """From here on `folder` is a disk of its own."""
    _alone()
    os.makedirs(folder, exist_ok=True)
    _mount("tmpfs", folder, "tmpfs", 0, options)


def read_only(folder: str) -> None:
    _alone()
    os.makedirs(folder, exist_ok=True)
    _mount(folder, folder, "none", _BIND)
    _mount(folder, folder, "none", _BIND | _REMOUNT | _READ_ONLY)


def possible() -> bool:
    """Whether this user may mount; elsewhere these faults are left out, and the table says so."""
    child = os.fork()
    if child == 0:
        try:
            _alone()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def full_store(options: str, words: tuple[str, ...], bench: Bench) -> Seen:
    store = bench.empty()
    met = bench.line(store, prepare=partial(small, store, options))
    return Seen([met], bench.line(store), bench.calm, (*words, store))


def full_home_of_s3(bench: Bench) -> Seen:
    """What is made for an object store is made on this machine first."""
    store, home = place(bench, "s3"), str(bench.folder / "home")
    met = bench.line(store, prepare=partial(small, home, "size=300k"))
    return Seen([met], bench.line(store), bench.calm, ("No space left|more can be written",))


def read_only_store(there: bool, bench: Bench) -> Seen:
    """A store that may be read alone: what is there is served, and nothing is made."""
    store = str(bench.store() if there else Path(bench.empty()))
    met = bench.line(store, prepare=partial(read_only, store))
    return Seen([met], bench.line(store), bench.calm, () if there else ("Read-only file system", store))


def a_file_in_its_place(bench: Bench) -> Seen:
    store = Path(bench.empty())
    store.write_text("not a store")
    met = bench.line(store)
    store.unlink()
    return Seen([met], bench.line(store), bench.calm, (str(store), "K2_STORE"))


FAULTS = [
    Fault(
        "disk/full: the store, of 400 kB", Expected.ERROR,
        partial(full_store, "size=400k", ("No space left|more can be written",)),
    ),
    Fault(
        "disk/full: the store, of 1.4 MB", Expected.ERROR,
        partial(full_store, "size=1430k", ("No space left|more can be written",)),
    ),
    Fault("disk/full: no inode left", Expected.ERROR, partial(full_store, "nr_inodes=14", ("No space left|inodes",))),
    Fault("disk/full: the home of a store on S3", Expected.ERROR, full_home_of_s3),
    Fault("disk/read-only: a store with all in it", Expected.EQUAL, partial(read_only_store, True)),
    Fault("disk/read-only: an empty store", Expected.ERROR, partial(read_only_store, False)),
    Fault("disk/a file in the place of the store", Expected.ERROR, a_file_in_its_place),
]  # fmt: skip
NEEDS_MOUNT = [fault.name for fault in FAULTS[:-1]]
