"""The manifest of a release, and the check of any copy of it against that manifest, offline.

Two manifests: `RELEASE_MANIFEST.json` lists what a second run of the same recipe reproduces byte for byte,
`attachments/RELEASE_MANIFEST.json` the logs, samples and times, which differ from run to run. The name is not
`MANIFEST.json`, since the store keeps a `manifest.json` of its own beside it and some file systems do not tell the two
apart.

Beyond the manifests the check asks that the release holds what every release has to and nothing else, and that it
agrees with itself (`k2model.release.contents`): each artifact's digest follows from its list of files, its inputs are
artifacts of the same lineage, and the released weights are the files of the exports they claim to be. Who made it is
not covered: compare the manifest's sha256 with the one that was published.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from k2model.artifacts import CorruptArtifact, FileEntry, Manifest, describe_file
from k2model.artifacts.entry import path_problem
from k2model.artifacts.files import Files, LocalFiles, files_at
from k2model.artifacts.manifest import MOST
from k2model.artifacts.outside import read_small
from k2model.artifacts.record import read_record
from k2model.errors import K2Error
from k2model.export.source import Released
from k2model.plain import NotPlain, read_as
from k2model.release.contents import (
    ATTACHMENTS,
    LINEAGE,
    MODEL_FOLDER,
    RECIPE,
    TURNS,
    Lineage,
    Stated,
    phase_folder,
    problems_of,
)

MANIFEST = "RELEASE_MANIFEST.json"
ATTACHED_MANIFEST = f"{ATTACHMENTS}/{MANIFEST}"
_OF_THE_STORE = ("manifest.json", "artifact.json")  # present where the folder lies in a store

__all__ = ["ATTACHMENTS", "LINEAGE", "MODEL_FOLDER", "RECIPE", "TURNS", "phase_folder"]


class ReleaseDamaged(K2Error):
    """A release is not what was released. `problems` has one line for each file or record."""

    def __init__(self, folder: Path | str, problems: list[str]) -> None:
        self.folder = folder
        self.problems = tuple(problems)
        lines = "\n".join(f"- {problem}" for problem in problems)
        super().__init__(
            f"{folder} is not the release it claims to be, {len(problems)} problem(s):\n{lines}\n"
            "Get the named files again from where the release was published, or build the release again"
        )

    def __reduce__(self) -> tuple[type, tuple[Path | str, list[str]]]:
        return (type(self), (self.folder, list(self.problems)))


@dataclass(frozen=True)
class Verification:
    """A release in which everything is as it was released.

    `manifest_sha256` identifies the release as a whole: compare it with the published one.
    """

    folder: str
    files: int
    size: int
    artifacts: int
    manifest_sha256: str

    def rows(self) -> list[tuple[str, str]]:
        """(what was checked, value) for a table."""
        return [
            ("folder", self.folder),
            ("files, all as released", str(self.files)),
            ("bytes", f"{self.size:,}"),
            ("artifacts of the lineage, all consistent", str(self.artifacts)),
            (f"sha256 of {MANIFEST}", self.manifest_sha256),
        ]


def write_manifests(folder: Path) -> str:
    """Write both manifests of a complete release, the last of its files; returns the sha256 of the first."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for name in (ATTACHED_MANIFEST, MANIFEST):
        inside = name == ATTACHED_MANIFEST
        listed = [path for path in paths if path.startswith(f"{ATTACHMENTS}/") is inside]
        entries = [describe_file(folder, path).content for path in listed]
        content = json.dumps({"files": entries}, indent=1) + "\n"
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return sha256(folder / MANIFEST)


class _Listed(TypedDict):
    files: tuple[FileEntry, ...]


def verify_release(folder: Path | str) -> Verification:
    """What was checked. Raises `ReleaseDamaged` naming every file and record that is not as released."""
    folder = Path(folder)
    files = LocalFiles(folder)
    entries: list[FileEntry] = []
    problems: list[str] = []
    for name in (MANIFEST, ATTACHED_MANIFEST):
        try:
            found = _entries(_read(files, name), name)
            entries += found
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if not problems and (problem := path_problem(entries)):
        problems.append(f"{MANIFEST}, {ATTACHED_MANIFEST}: {problem}")
    if problems:  # without the lists nothing can be compared
        raise ReleaseDamaged(folder, problems)
    problems = compare(folder, entries)
    artifacts = 0
    try:
        listed = {entry.path: entry.sha256 for entry in entries}
        stated, lineage = _recipe(_read(files, RECIPE)), _lineage(_read(files, LINEAGE))
        artifacts = len(lineage["artifacts"])
        named = {problem.partition(":")[0] for problem in problems}
        problems += [one for one in problems_of(stated, lineage, listed) if one.partition(":")[0] not in named]
        problems += _of_store(files, entries)
    except ValueError as error:
        if not any(problem.startswith(str(error).partition(":")[0]) for problem in problems):
            problems.append(str(error))
    if problems:
        raise ReleaseDamaged(folder, problems)
    return Verification(
        str(folder), len(entries), sum(entry.size for entry in entries), artifacts, sha256(folder / MANIFEST)
    )


def released(location: str) -> Released | None:
    """What the release at a location, a path or `s3://`, says of the model in it; None where there is none.

    Of its files only the small ones that say it are read: they are those of its manifest and agree with it. Whoever
    reads another compares it with `Released.files`. Raises ReleaseDamaged.
    """
    files = files_at(location)
    try:
        manifest = read_small(files, MANIFEST, MOST)
    except FileNotFoundError:
        return None
    except NotPlain as error:
        raise ReleaseDamaged(location, [f"{MANIFEST}: {error}"]) from error
    try:
        listed = {entry.path: entry.sha256 for entry in parse_entries(manifest)}
        lineage, recipe = _read(files, LINEAGE), _read(files, RECIPE)
        problems = [
            f"{name}: altered, is not the file of {MANIFEST}"
            for name, content in ((LINEAGE, lineage), (RECIPE, recipe))
            if hashlib.sha256(content).hexdigest() != listed.get(name)
        ]
        if problems:  # what was altered need not even be of its form
            raise ReleaseDamaged(location, problems)
        said = _recipe(recipe)
        problems = problems_of(said, _lineage(lineage), listed, attached=False)
    except ValueError as error:
        raise ReleaseDamaged(location, [str(error)]) from error
    if problems:
        raise ReleaseDamaged(location, problems)
    sha256_of_all = hashlib.sha256(manifest).hexdigest()
    return Released(said["name"], said["phases"][-1]["name"], said["licence"], sha256_of_all, listed)


def _read(files: Files, name: str) -> bytes:
    """A small file of a release. Raises ValueError that begins with its name."""
    try:
        return read_small(files, name, MOST)
    except FileNotFoundError:
        raise ValueError(f"{name}: missing" if name in (LINEAGE, RECIPE) else "missing") from None
    except NotPlain as error:
        raise ValueError(f"{name}: {error}" if name in (LINEAGE, RECIPE) else str(error)) from error


def _recipe(content: bytes) -> Stated:
    try:
        return read_as(Stated, content)
    except NotPlain as error:
        raise ValueError(f"{RECIPE}: not a recipe ({error})") from error


def _lineage(content: bytes) -> Lineage:
    try:
        found = read_as(Lineage, content, MOST)
        for entry in found["artifacts"]:
            if problem := path_problem(entry["files"]):
                raise NotPlain(f"{entry['name']}: {problem}")
            FileEntry.of(f"{entry['name']}/x", b"")  # names become folders
        return found
    except (NotPlain, ValueError) as error:
        raise ValueError(f"{LINEAGE}: not a lineage ({error})") from error


def _entries(content: bytes, name: str) -> list[FileEntry]:
    entries = parse_entries(content)
    attached = name == ATTACHED_MANIFEST
    for entry in entries:
        if entry.path.startswith(f"{ATTACHMENTS}/") is not attached:
            raise ValueError(f"not a manifest ({entry.path} belongs into the other one)")
        if entry.path in (MANIFEST, ATTACHED_MANIFEST, *_OF_THE_STORE):
            raise ValueError(f"not a manifest ({entry.path} is listed in none)")
    return entries


def _of_store(files: LocalFiles, entries: list[FileEntry]) -> list[str]:
    """What the store wrote beside a release says the same as the release."""
    if not files.exists(_OF_THE_STORE[0]):
        there = [name for name in _OF_THE_STORE if files.exists(name)]
        return [f"{name}: not part of the release without {_OF_THE_STORE[0]}" for name in there]
    try:
        manifest = Manifest.from_json(read_small(files, _OF_THE_STORE[0], MOST), files.uri)
        record = read_record(files, _OF_THE_STORE[1], "") if files.exists(_OF_THE_STORE[1]) else None
    except (CorruptArtifact, NotPlain) as error:
        return [f"{' and '.join(_OF_THE_STORE)}: {error}"]
    own = {entry for entry in manifest.files if entry.path not in (MANIFEST, ATTACHED_MANIFEST)}
    if own != set(entries):
        return [f"{_OF_THE_STORE[0]}: does not list the files of {MANIFEST} and {ATTACHED_MANIFEST}"]
    if record is None or (record["step"], record["digest"]) != ("release", manifest.digest):
        return [f"{_OF_THE_STORE[1]}: is not the record of this release"]
    return []


def parse_entries(content: bytes) -> list[FileEntry]:
    """The entries of a manifest. Raises `ValueError` saying what is wrong with it."""
    try:
        return [*read_as(_Listed, content, MOST)["files"]]
    except NotPlain as error:
        raise ValueError(f"not a manifest ({error})") from error


def compare(folder: Path, entries: list[FileEntry]) -> list[str]:
    """One line for each link, and for each file that is missing, altered or not listed. No link is followed: what it
    leads to is no part of the release."""
    there, links, folders = _contents(folder)
    problems = [f"{path}: a link, expected the file or folder itself" for path in sorted(links)]
    held = {name for entry in entries for name in _on_the_way(entry.path)} | {ATTACHMENTS}
    problems += [
        f"{path}: an empty folder, not part of the release"
        for path in sorted(folders - held)
        if not any(one.startswith(f"{path}/") for one in there | links)
    ]
    for entry in entries:
        path = folder / entry.path
        if links and not links.isdisjoint(_on_the_way(entry.path)):
            continue
        if not path.is_file():
            problems.append(f"{entry.path}: missing")
        elif path.stat().st_size != entry.size:
            problems.append(f"{entry.path}: altered, has {path.stat().st_size} bytes, expected {entry.size}")
        elif (found := sha256(path)) != entry.sha256:
            problems.append(f"{entry.path}: altered, has sha256 {found}, expected {entry.sha256}")
    listed = {entry.path for entry in entries} | {MANIFEST, ATTACHED_MANIFEST, *_OF_THE_STORE}
    return problems + [f"{path}: not part of the release" for path in sorted(there - listed)]


def _on_the_way(path: str) -> list[str]:
    """`a`, `a/b` and `a/b/c` of `a/b/c`."""
    names = path.split("/")
    return ["/".join(names[: end + 1]) for end in range(len(names))]


def _contents(folder: Path) -> tuple[set[str], set[str], set[str]]:
    """What a folder holds that is neither folder nor link, its links, and its folders, each relative to it."""
    files: set[str] = set()
    links: set[str] = set()
    below: set[str] = set()
    for parent, folders, names in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *names)):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                links.add(name)
            else:
                (below if path.is_dir() else files).add(name)
    return files, links, below


def sha256(path: Path) -> str:
    """Read anew each time: verifying must not believe what was remembered."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
