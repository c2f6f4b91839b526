"""Places of makers on this machine's disk: each attempt works in a folder of its own, called by its owner's name.

    _scratch/<step>/<key[:16]>.<owner>/             where an artifact is made, or a part before it is uploaded
    _parts/<step>/<key[:16]>/_made/<owner>/         in a local store, the files of a part, finished or not
    _parts/<step>/<key[:16]>/records/<part>.json    in every store, what a finished part consists of

Nobody removes what another one may still be working in: of this machine's makers what is dead is swept, of others'
what their successor, who has seen their lease stand still, finds of the same artifact.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from k2model.artifacts.files import Files, LocalFiles, writing
from k2model.artifacts.identity import artifact_name
from k2model.artifacts.manifest import MANIFEST
from k2model.artifacts.owner import MADE, is_dead, is_here, is_own, owner_name
from k2model.artifacts.transfer import cache_of

PARTS = "_parts"  # beside the artifacts: what is made of unfinished ones
RECORDS = "records"  # in that folder


@dataclass
class Place:
    """A maker's own: `owner`, its name, and an empty folder of this machine. kept: not to be removed any more."""

    owner: str
    folder: Path
    kept: bool = False


def scratch_of(files: Files) -> Path:
    """Where makers for a store work on this machine: on the file system of a local store, so that a folder may be
    renamed into it."""
    home = Path(files.uri) if isinstance(files, LocalFiles) else cache_of(files.uri)
    return home / "_scratch"


@contextlib.contextmanager
def own_scratch(files: Files, artifact: str) -> Iterator[Place]:
    """A place for `artifact` (`<step>/<key[:16]>`) that is removed afterwards."""
    owner = owner_name()
    with _removed_unless_kept(files, Place(owner, scratch_of(files) / f"{artifact}.{owner}")) as place:
        yield place


@contextlib.contextmanager
def own_part(files: Files, artifact: str) -> Iterator[Place]:
    """A place for one part of `artifact`: in a local store where the part's files stay when it is kept, else scratch,
    and what was uploaded from it is removed unless it is kept."""
    if isinstance(files, LocalFiles):
        owner = owner_name()
        folder = files.root / PARTS / artifact / MADE / owner
        with _removed_unless_kept(files, Place(owner, folder)) as place:
            yield place
        return
    with own_scratch(files, artifact) as place, uploaded(files, artifact, place):
        yield place


@contextlib.contextmanager
def uploaded(files: Files, artifact: str, place: Place) -> Iterator[None]:
    """What was uploaded from a place is removed unless that is kept; what the storage does not let go of stays."""
    try:
        yield
    finally:
        if not place.kept:
            with contextlib.suppress(Exception):
                files.at(artifact).remove(f"{MADE}/{place.owner}")


@contextlib.contextmanager
def _removed_unless_kept(files: Files, place: Place) -> Iterator[Place]:
    with writing(files.uri, str(place.folder)):
        place.folder.mkdir(parents=True)
    try:
        yield place
    finally:
        if not (place.kept and isinstance(files, LocalFiles)):
            shutil.rmtree(place.folder, ignore_errors=True)


def sweep_scratch(files: Files, succeeded: str) -> None:
    """Removes what dead makers of any artifact left on this machine's disk, and what makers of `succeeded` left, whose
    lease the caller holds, but for those who live here: they notice by themselves."""
    root = scratch_of(files)
    for folder in root.glob("*/*"):
        key, _, owner = folder.name.partition(".")
        same = artifact_name(folder.parent.name, key) == succeeded
        if is_dead(owner) or (same and not is_here(owner)):
            # By one rename first: who wakes up finds the folder whole or not at all, and publishes no half of it.
            aside = folder.with_name(f"{key}.{owner_name()}")
            with contextlib.suppress(OSError):
                os.rename(folder, aside)
                shutil.rmtree(aside, ignore_errors=True)


def sweep_parts(files: Files, artifact: str, published: Collection[str]) -> None:
    """Removes what was kept of the parts of a finished artifact. published: names of makers whose files it has now."""
    folder = f"{PARTS}/{artifact}"
    if not isinstance(files, LocalFiles):
        files.remove(f"{folder}/{RECORDS}")
        return
    made = files.root / folder / MADE
    for place in made.glob("*"):
        if place.name in published or is_own(place.name) or not _lives_here(place.name):
            shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(files.root / folder / RECORDS, ignore_errors=True)  # last: they tell what was published
    for left in (made, made.parent):
        with contextlib.suppress(OSError):  # somebody is at work there yet
            left.rmdir()


def sweep_uploads(files: Files, artifact: str, published: Collection[str]) -> None:
    """The same of what makers uploaded to the folder of a finished artifact and it does not have."""
    own = files.at(artifact)
    owners = {path.split("/")[1] for path in own.sizes(MADE)}
    for owner in owners - {*published}:
        if not _lives_here(owner):
            own.remove(f"{MADE}/{owner}")


def _lives_here(owner: str) -> bool:
    return is_here(owner) and not is_dead(owner)


def clear_unfinished(folder: Path) -> None:
    """Empties the place of a local artifact that is not finished. Works on the folder as it was when it was opened:
    one that another maker puts in its place meanwhile is another folder. Raises OSError."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink(missing_ok=True)
        return
    with contextlib.suppress(FileNotFoundError):  # another maker clears it as well
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            names = os.listdir(descriptor)
            for name in names if MANIFEST not in names else ():
                if stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                    shutil.rmtree(name, dir_fd=descriptor)
                else:
                    os.unlink(name, dir_fd=descriptor)
        finally:
            os.close(descriptor)
