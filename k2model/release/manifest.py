"""The manifest of a release: every file with size and sha256, and the comparison with what is there.

Two manifests: `RELEASE_MANIFEST.json` lists what a second run of the same recipe reproduces byte for
byte, `attachments/RELEASE_MANIFEST.json` the logs, samples and times, which differ from run to run. The
name is not `MANIFEST.json`, since the store keeps a `manifest.json` of its own beside it and some file
systems do not tell the two apart.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

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
        entries = [FileEntry(str(e["path"]), int(e["size"]), str(e["sha256"])) for e in content["files"]]
    except FileNotFoundError as error:
        raise ValueError("missing") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not a manifest ({type(error).__name__}: {error})") from error
    for entry in entries:
        if PurePosixPath(entry.path).is_absolute() or ".." in PurePosixPath(entry.path).parts:
            raise ValueError(f"lists '{entry.path}', which lies outside the release")
    return entries


def compare(folder: Path, entries: list[FileEntry]) -> list[str]:
    """One line for each file that is missing, altered or not listed."""
    problems = []
    for entry in entries:
        path = folder / entry.path
        if not path.is_file():
            problems.append(f"{entry.path}: missing")
        elif path.stat().st_size != entry.size:
            problems.append(f"{entry.path}: altered, has {path.stat().st_size} bytes, expected {entry.size}")
        elif (found := sha256(path)) != entry.sha256:
            problems.append(f"{entry.path}: altered, has sha256 {found}, expected {entry.sha256}")
    listed = {entry.path for entry in entries} | {MANIFEST, ATTACHED_MANIFEST, *_OF_THE_STORE}
    there = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return problems + [f"{path}: not part of the release" for path in there if path not in listed]


def sha256(path: Path) -> str:
    """Read anew each time: verifying must not believe what was remembered."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
