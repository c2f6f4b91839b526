"""The manifest of a release, and the check of any copy of it against that manifest, offline.

Two manifests: `RELEASE_MANIFEST.json` lists what a second run of the same recipe reproduces byte for byte,
`attachments/RELEASE_MANIFEST.json` the logs, samples and times, which differ from run to run. The name is not
`MANIFEST.json`, since the store keeps a `manifest.json` of its own beside it and some file systems do not tell the two
apart.

Beyond the manifests the check asks that the release agrees with itself: each artifact's digest follows from its list
of files, its inputs are artifacts of the same lineage, and the released weights are the files of the exports they
claim to be. Who made it is not covered: compare the manifest's sha256 with the one that was published.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k2model.artifacts import FileEntry, Manifest, describe_file
from k2model.artifacts.files import files_at
from k2model.errors import K2Error
from k2model.export.architecture import RELEASED, TRAINING_STATE
from k2model.export.source import Released

MANIFEST = "RELEASE_MANIFEST.json"
ATTACHMENTS = "attachments"
ATTACHED_MANIFEST = f"{ATTACHMENTS}/{MANIFEST}"
_OF_THE_STORE = ("manifest.json", "artifact.json")  # present where the folder lies in a store
LINEAGE = "lineage.json"
TURNS = "line/turns.json"  # of a model that went on after its lifecycle
RECIPE = "recipe/recipe.json"
MODEL_FOLDER = RELEASED  # the weights of the last phase


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


def phase_folder(phase: str) -> str:
    """Where a release keeps the weights of a phase."""
    return f"checkpoints/{phase}"


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


def verify_release(folder: Path | str) -> Verification:
    """What was checked. Raises `ReleaseDamaged` naming every file and record that is not as released."""
    folder = Path(folder)
    entries: list[FileEntry] = []
    problems: list[str] = []
    for name in (MANIFEST, ATTACHED_MANIFEST):
        try:
            entries += read_entries(folder / name)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:  # without the lists nothing can be compared
        raise ReleaseDamaged(folder, problems)
    problems = compare(folder, entries)
    artifacts = 0
    with contextlib.suppress(FileNotFoundError):  # named as missing already
        content = (folder / LINEAGE).read_bytes()
        artifacts, inconsistent = _check_lineage(content, lambda path: _sha256_if_there(folder / path))
        problems += inconsistent
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
        manifest = files.read(MANIFEST)
    except FileNotFoundError:
        return None
    try:
        listed = {entry.path: entry.sha256 for entry in parse_entries(manifest)}
        lineage, recipe = files.read(LINEAGE), files.read(RECIPE)
        problems = [
            f"{name}: altered, is not the file of {MANIFEST}"
            for name, content in ((LINEAGE, lineage), (RECIPE, recipe))
            if hashlib.sha256(content).hexdigest() != listed.get(name)
        ]
        problems += _check_lineage(lineage, listed.get)[1]
        said = json.loads(recipe)
        phase, licence = str(said["phases"][-1]["name"]), str(said["licence"])
        sha256_of_all = hashlib.sha256(manifest).hexdigest()
        found = Released(str(said["name"]), phase, licence, sha256_of_all, listed)
    except FileNotFoundError as error:
        raise ReleaseDamaged(location, [f"{LINEAGE} or {RECIPE}: missing ({error})"]) from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ReleaseDamaged(location, [f"{MANIFEST} or {RECIPE}: {type(error).__name__}: {error}"]) from error
    if problems:
        raise ReleaseDamaged(location, problems)
    return found


def _check_lineage(content: bytes, sha256_of: Callable[[str], str | None]) -> tuple[int, list[str]]:
    """(number of artifacts, problems); `sha256_of` a file of the release, None for one that is not there."""
    try:
        lineage = json.loads(content)["artifacts"]
        problems = [problem for entry in lineage for problem in _check_entry(entry, lineage)]
        return len(lineage), problems + _check_weights(lineage, sha256_of)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return 0, [f"{LINEAGE}: not a lineage ({type(error).__name__}: {error})"]


def _check_entry(entry: dict[str, Any], lineage: list[dict[str, Any]]) -> list[str]:
    known = {(other["step"], other["digest"]) for other in lineage}
    problems = []
    digest = Manifest(tuple(FileEntry(**file) for file in entry["files"])).digest
    if digest != entry["digest"]:
        problems.append(f"{LINEAGE}: {entry['name']} states digest {entry['digest']}, its files give {digest}")
    for role, source in entry["inputs"].items():
        if (source["kind"], source["digest"]) not in known:
            problems.append(
                f"{LINEAGE}: {entry['name']} was made of {role} {source['kind']} {source['digest']}, "
                "which is not in the lineage"
            )
    return problems


def _check_weights(lineage: list[dict[str, Any]], sha256_of: Callable[[str], str | None]) -> list[str]:
    """The model folders hold the files of the exports in the lineage, the top one the last of them, beside which a
    training state is that phase's."""
    exports = [entry for entry in lineage if entry["name"].endswith("/export")]
    expected = [(phase_folder(entry["name"].removesuffix("/export")), entry, "") for entry in exports]
    if exports:
        expected.append((MODEL_FOLDER, exports[-1], ""))
        trained = exports[-1]["name"].removesuffix("export") + "checkpoint"
        expected += [(TRAINING_STATE, entry, "final/") for entry in lineage if entry["name"] == trained]
    problems = []
    for place, entry, below in expected:
        for file in entry["files"]:
            if file["path"].startswith(below):
                placed = FileEntry(f"{place}/{file['path'].removeprefix(below)}", file["size"], file["sha256"])
                if sha256_of(placed.path) not in (None, placed.sha256):
                    problems.append(f"{placed.path}: is not the file of {entry['name']} in {LINEAGE}")
    return problems


def read_entries(path: Path) -> list[FileEntry]:
    """The entries of a manifest. Raises `ValueError` saying what is wrong with it."""
    try:
        return parse_entries(path.read_bytes())
    except FileNotFoundError as error:
        raise ValueError("missing") from error


def parse_entries(content: bytes) -> list[FileEntry]:
    """The same of its content."""
    try:
        return [FileEntry(e["path"], int(e["size"]), str(e["sha256"])) for e in json.loads(content)["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not a manifest ({type(error).__name__}: {error})") from error


def compare(folder: Path, entries: list[FileEntry]) -> list[str]:
    """One line for each link, and for each file that is missing, altered or not listed. No link is followed: what it
    leads to is no part of the release."""
    there, links = _contents(folder)
    problems = [f"{path}: a link, expected the file or folder itself" for path in sorted(links)]
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


def _contents(folder: Path) -> tuple[set[str], set[str]]:
    """What a folder holds that is neither folder nor link, and its links, each relative to it."""
    files: set[str] = set()
    links: set[str] = set()
    for parent, folders, names in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *names)):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                links.add(name)
            elif not path.is_dir():
                files.add(name)
    return files, links


def _sha256_if_there(path: Path) -> str | None:
    return sha256(path) if path.is_file() else None


def sha256(path: Path) -> str:
    """Read anew each time: verifying must not believe what was remembered."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
