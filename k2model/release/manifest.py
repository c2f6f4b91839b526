"""The manifest of a release: every file with size and sha256, and the comparison with what is there.

Two manifests: `RELEASE_MANIFEST.json` lists what a second run of the same recipe reproduces byte for
byte, `attachments/RELEASE_MANIFEST.json` the logs, samples and times, which differ from run to run. The
name is not `MANIFEST.json`, since the store keeps a `manifest.json` of its own beside it and some file
systems do not tell the two apart.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from k2model.artifacts import FileEntry, describe_file
from k2model.errors import K2Error

MANIFEST = "RELEASE_MANIFEST.json"
ATTACHMENTS = "attachments"
ATTACHED_MANIFEST = f"{ATTACHMENTS}/{MANIFEST}"
_OF_THE_STORE = ("manifest.json", "artifact.json")  # present where the folder lies in a store


class ReleaseDamaged(K2Error):
    """A release is not what was released. `problems` has one line for each file or record."""

    def __init__(self, folder: Path, problems: list[str]) -> None:
        self.folder = folder
        self.problems = tuple(problems)
        lines = "\n".join(f"- {problem}" for problem in problems)
        super().__init__(
            f"{folder} is not the release it claims to be, {len(problems)} problem(s):\n{lines}\n"
            "Get the named files again from where the release was published, or build the release again"
        )

    def __reduce__(self) -> tuple[type, tuple[Path, list[str]]]:
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
        entries = [asdict(describe_file(folder, path)) for path in listed]
        content = json.dumps({"files": entries}, indent=1) + "\n"
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return sha256(folder / MANIFEST)


def read_entries(path: Path) -> list[FileEntry]:
    """The entries of a manifest. Raises `ValueError` saying what is wrong with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [FileEntry(e["path"], int(e["size"]), str(e["sha256"])) for e in content["files"]]
    except FileNotFoundError as error:
        raise ValueError("missing") from error
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


def sha256(path: Path) -> str:
    """Read anew each time: verifying must not believe what was remembered."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
