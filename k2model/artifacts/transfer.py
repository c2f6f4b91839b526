"""The folders of this machine that serve a store on an object store: scratch to upload from, cached
copies to read.

Both are below `K2_HOME/cache/<hash of the store's URI>`. A cached file is used only after its hash
was compared with the manifest, so the cache may be deleted or damaged at any time.
"""

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from k2model import settings
from k2model.artifacts.entry import FileEntry
from k2model.artifacts.files import PARTIAL, Files, RemoteFiles, writing
from k2model.artifacts.manifest import check_hash, hash_file, inside, missing, verify_files

_ABANDONED_SECONDS = 3600.0


def cache_of(store_uri: str) -> Path:
    """The folder of this machine for one store. It need not exist."""
    return settings.home() / "cache" / hashlib.sha256(store_uri.encode()).hexdigest()[:16]


def upload(folder: Path, files: Files, entries: Iterable[FileEntry]) -> None:
    """Copies files from `folder` to where they are to lie in an artifact, but for links. Raises StoreWriteError."""
    for entry in entries:
        if not entry.at:
            files.put(folder / entry.path, entry.stored)


def fetched(files: Files, entries: Sequence[FileEntry]) -> Path:
    """A local folder with these files of an artifact, verified: that of a local store itself, or `download`'s."""
    if isinstance(files, RemoteFiles):
        return download(files, entries)
    verify_files(files, entries)
    return Path(files.uri)


def download(files: RemoteFiles, entries: Iterable[FileEntry]) -> Path:
    """Completes this machine's copy of an artifact, as far as `entries` go, and returns its folder.

    Raises:
        CorruptArtifact: a file of the artifact is missing or has another content, or the copy holds a link.
        StoreWriteError: this machine's disk does not take the copy.
    """
    target = _copy_of(files.uri)
    for entry in entries:
        file = inside(target, entry.path)
        if not _is_there(file, entry) and not (entry.at and _taken_from_source(target.parents[1], entry, file)):
            _download_file(files, entry, file)
    return target


def _is_there(file: Path, entry: FileEntry) -> bool:
    return file.is_file() and file.stat().st_size == entry.size and hash_file(file) == entry.sha256


def _taken_from_source(cache: Path, entry: FileEntry, file: Path) -> bool:
    """Whether this machine has a copy of the file that the link leads to, which then is this one as well."""
    source = inside(cache, entry.at)
    if not _is_there(source, entry):
        return False
    with contextlib.suppress(OSError):  # only a download is saved
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        os.link(source, file)
        return True
    return False


def keep(folder: Path, uri: str) -> None:
    """Makes the files that an artifact was uploaded from its cached copy, to spare the download."""
    target = _copy_of(uri)
    with contextlib.suppress(OSError):  # only a download is lost
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder, target)


def _download_file(files: RemoteFiles, entry: FileEntry, file: Path) -> None:
    partial = file.with_name(f"{PARTIAL}{file.name}-{secrets.token_hex(6)}")
    with writing(str(file.parent), file.name):
        file.parent.mkdir(parents=True, exist_ok=True)
        for left in file.parent.glob(f"{PARTIAL}*"):  # by a download that was killed
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                    left.unlink()
    try:
        with writing(str(file.parent), file.name):
            files.download(entry.path, partial)
        check_hash(files.uri, entry, hash_file(partial))
        os.replace(partial, file)
    except FileNotFoundError as error:
        raise missing(files.uri, entry) from error
    finally:
        partial.unlink(missing_ok=True)


def _copy_of(uri: str) -> Path:
    root, step, key = uri.rsplit("/", 2)
    return cache_of(root) / step / key
