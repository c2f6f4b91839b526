"""Checks a release offline: every file against its manifest, every recorded digest against its files.

Beyond the manifests it asks that the release agrees with itself: each artifact's digest follows from
its list of files, its inputs are artifacts of the same lineage, and the released weights are the files
of the exports they claim to be. Who made it is not covered: compare the manifest's sha256 with the one
that was published.
"""

import json
from pathlib import Path
from typing import Any

from k2model.artifacts import FileEntry, Manifest
from k2model.release.lineage import LINEAGE, MODEL_FOLDER, phase_folder
from k2model.release.manifest import (
    ATTACHED_MANIFEST,
    MANIFEST,
    ReleaseDamaged,
    Verification,
    compare,
    read_entries,
    sha256,
)


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
    artifacts, inconsistent = _check_lineage(folder)
    problems += inconsistent
    if problems:
        raise ReleaseDamaged(folder, problems)
    return Verification(
        str(folder), len(entries), sum(entry.size for entry in entries), artifacts, sha256(folder / MANIFEST)
    )


def _check_lineage(folder: Path) -> tuple[int, list[str]]:
    """(number of artifacts, problems)."""
    try:
        lineage = json.loads((folder / LINEAGE).read_text(encoding="utf-8"))["artifacts"]
        problems = [problem for entry in lineage for problem in _check_entry(entry, lineage)]
        return len(lineage), problems + _check_weights(folder, lineage)
    except FileNotFoundError:
        return 0, []  # named as missing already
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


def _check_weights(folder: Path, lineage: list[dict[str, Any]]) -> list[str]:
    """The model folders hold the files of the exports in the lineage, the top one the last of them."""
    exports = [entry for entry in lineage if entry["name"].endswith("/export")]
    expected = [(phase_folder(entry["name"].removesuffix("/export")), entry) for entry in exports]
    expected += [(MODEL_FOLDER, exports[-1])] if exports else []
    problems = []
    for place, entry in expected:
        for file in entry["files"]:
            placed = FileEntry(f"{place}/{file['path']}", file["size"], file["sha256"])
            path = folder / placed.path
            if path.is_file() and sha256(path) != placed.sha256:
                problems.append(f"{placed.path}: is not the file of {entry['name']} in {LINEAGE}")
    return problems
