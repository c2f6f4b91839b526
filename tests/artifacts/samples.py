"""The artifact that the store's tests make, and ways to damage it.

A damage returns the message it must lead to, as a regular expression.
"""

import hashlib
from pathlib import Path

from k2model.artifacts import ArtifactRef, read_manifest

PROSE = "a long time ago\n" * 100


def write_corpus(folder: Path) -> dict[str, float]:
    """Two files that bear the digest and one that does not."""
    (folder / "train").mkdir()
    (folder / "train" / "prose.txt").write_text(PROSE)
    (folder / "funnel.json").write_text('{"documents": 100}')
    (folder / "attachments").mkdir()
    (folder / "attachments" / "timings.txt").write_text("0.1 s")
    return {"documents": 100}


def files_below(folder: Path | str) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())


def stored(ref: ArtifactRef, path: str) -> str:
    """Where the bytes of an artifact's file lie in its folder."""
    return next(entry.stored for entry in read_manifest(ref.uri).files if entry.path == path)


def truncate(folder: Path) -> str:
    (folder / "train/prose.txt").write_text(PROSE[:-1])
    return r"train/prose\.txt has 1599 bytes, expected 1600 bytes"


def flip_a_bit(folder: Path) -> str:
    content = bytearray(PROSE.encode())
    content[800] ^= 1
    (folder / "train/prose.txt").write_bytes(content)
    return rf"train/prose\.txt has sha256 {hashlib.sha256(content).hexdigest()}, expected 1600 bytes with sha256"


def remove(folder: Path) -> str:
    (folder / "funnel.json").unlink()
    return r"funnel\.json is missing, expected 18 bytes"


def add(folder: Path) -> str:
    (folder / "train/extra.txt").write_text("x")
    return r"train/extra\.txt is not in the manifest"


def change_attachment(folder: Path) -> str:
    (folder / "attachments/timings.txt").write_text("0.2 s")
    return r"attachments/timings\.txt has sha256"


DAMAGES = [truncate, flip_a_bit, remove, add, change_attachment]

#: Paths that a manifest from elsewhere may state and nobody may follow.
HOSTILE_PATHS = [
    "attachments/../../x", "../x", "..", "a/..", "/etc/x", "//x", "", ".", "./x", "a/./x", "a//x", "a/", "a\\x",
    "attachments\\..\\..\\x", "C:/x", "c:x", "a\0x", "a\nx", "a\x1b[2Jx", "a\x85x", "a\u2028x", "a\ud800x",
]  # fmt: skip
