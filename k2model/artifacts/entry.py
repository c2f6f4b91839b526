"""One file of an artifact, as a manifest lists it, and whether several can be the files of one folder."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from k2model.artifacts.identity import KEY, STEP_NAME
from k2model.artifacts.outside import check_path
from k2model.artifacts.owner import MADE, is_owner

ATTACHMENTS = "attachments"
_OF_ARTIFACT = re.compile(rf"{STEP_NAME.pattern}/[0-9a-f]{{16}}/.")


@dataclass(frozen=True)
class FileEntry:
    """One file: `path` relative to the artifact's folder with `/`, `size` in bytes, `sha256` in hex.

    at: of a link, where in the store the bytes are: `<step>/<key[:16]>/<path>`, of an artifact that has them itself.
    place: on an object store, the name of the maker in whose place below `_made/` the file lies, "" where it lies at
    its path.

    A manifest may come from anywhere, and its paths are read and written, so an entry can only be made for a path that
    stays in its folder, of a size and a hash, and for a link into an artifact. Raises ValueError for any other.
    """

    path: str
    size: int
    sha256: str
    at: str = ""
    place: str = ""

    def __post_init__(self) -> None:
        check_path(self.path)
        if type(self.size) is not int or not 0 <= self.size < 1 << 63:
            raise ValueError(f"{self.path} has the size {self.size!r}, expected a number of bytes")
        if not isinstance(self.sha256, str) or not KEY.fullmatch(self.sha256):
            raise ValueError(f"{self.path} has the sha256 {self.sha256!r}, expected 64 hex digits")
        if self.place != "" and not is_owner(self.place):
            raise ValueError(f"{self.path} lies in the place {self.place!r}, which is of no maker")
        if self.at != "":
            check_path(self.at)
            if not _OF_ARTIFACT.match(self.at):
                raise ValueError(
                    f"the link {self.at!r} leads to no artifact's file: expected <step>/<16 digits>/<path>"
                )

    @classmethod
    def of(cls, path: str, data: bytes | memoryview) -> "FileEntry":
        """The entry of a file with this content."""
        return cls(path, len(data), hashlib.sha256(data).hexdigest())

    @property
    def content(self) -> dict[str, Any]:
        """What the file is, wherever its bytes lie."""
        return {"path": self.path, "size": self.size, "sha256": self.sha256}

    def to_json(self) -> dict[str, Any]:
        """The entry in a manifest."""
        return self.content | ({"at": self.at} if self.at else {}) | ({"place": self.place} if self.place else {})

    @property
    def stored(self) -> str:
        """Where the file lies in the artifact's own folder, unless it is a link."""
        return f"{MADE}/{self.place}/{self.path}" if self.place else self.path

    @property
    def linked(self) -> tuple[str, str]:
        """Of a link, the artifact that it leads to, `<step>/<key[:16]>`, and the path that the file has there."""
        step, key, path = self.at.split("/", 2)
        return f"{step}/{key}", path

    @property
    def bears_digest(self) -> bool:
        return self.path.partition("/")[0] != ATTACHMENTS


def path_problem(entries: Iterable[FileEntry]) -> str | None:
    """Why these are not the files of one folder; None when they can be."""
    listed = sorted(entry.path for entry in entries)
    for path, after in pairwise(listed):
        if path == after:
            return f"'{path}' is listed twice"
    folders = {path.rpartition("/")[0] for path in listed}
    folders |= {folder[:at] for folder in folders for at, one in enumerate(folder) if one == "/"}
    return next(
        (f"'{path}' is listed as a file, and as a folder of others" for path in listed if path in folders), None
    )
