"""The manifest of a batch of new data: what it says, and what is wrong with it.

    {"kind": "tuned", "domain": "chat", "licence": "cc0-1.0", "fields": {"messages": "messages"},
     "files": [{"path": "data/part-0.jsonl", "size": 5120, "sha256": "..."}]}

is the least of one. It may say more: how rows are read, as a source of a recipe does (`format`, `fields`, `heldout`,
...), the days it `covers`, the task family that is its `verifier`, scores that it `improves`, a `note`. People and
other tools write manifests, so nothing is taken for granted: one that cannot be used is a batch that is refused for the
first thing that is wrong with it (`Broken`), and none of the others notices.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from typing import Any

from k2model.artifacts import FileEntry, fingerprint
from k2model.artifacts.entry import path_problem
from k2model.continual.state import LIFECYCLE, Batch, Standing
from k2model.documents.families import FAMILIES
from k2model.errors import nearest
from k2model.plain import NotPlain, from_plain, parsed
from k2model.recipe.continual import BatchKind, ContinualConfig
from k2model.recipe.schema import SourceConfig
from k2model.recipe.validate import source_problem
from k2model.units import readable_size

BATCH_FILE = "batch.json"
DATA = "data"  # the folder of a batch's files
HELDOUT = 0.1  # of a batch's documents, where it says nothing else: whether it was learned is tested on them
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
#: What of a source is not a batch's to say: its name and place, what is built, and how much of it may be bad.
_NOT_SAID = ("name", "documents", "context", "location", "max_quarantined")
OF_SOURCE = tuple(one.name for one in fields(SourceConfig) if one.name not in _NOT_SAID)


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What a manifest says beside how its rows are read. files: paths relative to the batch's folder. covers: first and
    last day of the data, ISO 8601; none where not known. verifier: a family whose check knows the right answers.
    improves: scores, or patterns of them, that it is to raise."""

    kind: BatchKind
    files: tuple[FileEntry, ...]
    covers: tuple[str, ...] = ()
    verifier: str = ""
    improves: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Manifest(Stated):
    """A batch that can be looked at. digest: sha256 of `batch.json`. source: named `batch/<name>`, its location the
    folder of the data."""

    name: str
    digest: str
    source: SourceConfig

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)

    @property
    def content(self) -> str:
        """A digest of the data alone, which the same files under other names have, too."""
        return fingerprint(sorted([entry.sha256, entry.size] for entry in self.files if entry.size))


@dataclass(frozen=True)
class Broken:
    """A batch that cannot be used, and why. name: of its folder, escaped where that is no text. digest: of its
    manifest. kind: what it says, `tuned` where that cannot be read."""

    name: str
    digest: str
    reason: str
    kind: BatchKind = BatchKind.TUNED

    @property
    def batch(self) -> Batch:
        """As the ledger has it: refused."""
        return Batch(self.name, self.kind, self.digest, Standing.REFUSED, self.reason)


def read_batch(
    name: str, data: bytes, folder: str, config: ContinualConfig, listed: Mapping[str, int] | None = None
) -> Manifest | Broken:
    """What the bytes of a manifest say of the batch `name`, whose folder has that URI. listed: sizes of the files that
    lie there, by path; None where they are not looked at."""
    digest, kind = hashlib.sha256(data).hexdigest(), BatchKind.TUNED
    name = name.encode("utf-8", "backslashreplace").decode()
    try:
        said = parsed(data)
        if isinstance(said, dict) and said.get("kind") == BatchKind.BASE.value:
            kind = BatchKind.BASE
        manifest = _read(name, digest, said, folder)
    except NotPlain as error:
        return Broken(name, digest, f"{BATCH_FILE}: {error}", kind)
    problem = _problem(manifest, config) or (listed is not None and listing_problem(manifest.files, listed))
    return Broken(name, digest, problem, kind) if problem else manifest


def _read(name: str, digest: str, said: Any, folder: str) -> Manifest:
    if not isinstance(said, dict):
        raise NotPlain("the whole is no object of named values")
    known = [one.name for one in fields(Stated)]
    for one in said:
        if one not in (*known, *OF_SOURCE):
            raise NotPlain(f"'{one}' is no field of a batch; {nearest(one, [*known, *OF_SOURCE])}")
    stated = from_plain(Stated, {one: value for one, value in said.items() if one in known})
    of_source = {one: value for one, value in said.items() if one in OF_SOURCE}
    source = from_plain(
        SourceConfig, {"heldout": HELDOUT, **of_source, "name": f"batch/{name}", "location": f"{folder}/{DATA}"}
    )
    return Manifest(name=name, digest=digest, source=source, **vars(stated))


def _problem(manifest: Manifest, config: ContinualConfig) -> str | None:
    """The first thing that is wrong with what a manifest says; None when nothing is."""
    if not _NAME.fullmatch(manifest.name) or manifest.name == LIFECYCLE:
        return (
            f"a batch is named {manifest.name!r}, expected letters, digits, '.', '_' and '-', at most 100, and not "
            f"'{LIFECYCLE}'; rename its folder"
        )
    if problem := source_problem(manifest.source):
        return problem.replace(f"corpus.sources.{manifest.source.name}", BATCH_FILE)
    if manifest.kind is BatchKind.BASE and not config.base:
        return "kind is 'base', and the line continues no base phase (continual.base of the recipe is empty)"
    if manifest.kind is BatchKind.TUNED and not manifest.source.fields.messages:
        return "kind is 'tuned', which takes dialogues, and fields.messages names no column that holds them"
    if manifest.verifier and manifest.verifier not in FAMILIES:
        return f"verifier is '{manifest.verifier}', which is no task family; {nearest(manifest.verifier, [*FAMILIES])}"
    return _days_problem(manifest.covers) or _files_problem(manifest, config.arrival.max_bytes)


def _days_problem(covers: tuple[str, ...]) -> str | None:
    try:
        days = [date.fromisoformat(day) for day in covers]
    except ValueError:
        days = []
    if covers and (len(days) != 2 or days[0] > days[1]):
        return f"covers is {[*covers]}, expected the first and the last day, such as ['2026-11-01', '2026-11-30']"
    return None


def _files_problem(manifest: Manifest, max_bytes: int) -> str | None:
    for entry in manifest.files:
        parts = entry.path.split("/")
        if parts[0] != DATA or len(parts) < 2:
            return f"files: '{entry.path}' does not lie in '{DATA}/', where the files of a batch are"
        if any(part.startswith(".") for part in parts):
            return f"files: '{entry.path}' is hidden, which would not be read; rename it"
    if problem := path_problem(manifest.files):
        return f"files: {problem}"
    if not manifest.size:
        return "it is empty: " + ("all its files are" if manifest.files else "it lists no files")
    if manifest.size > max_bytes:
        return (
            f"it has {readable_size(manifest.size)}, at most {readable_size(max_bytes)} are taken "
            "(continual.arrival.max_bytes); split it"
        )
    return None


def listing_problem(entries: tuple[FileEntry, ...], listed: Mapping[str, int]) -> str | None:
    """What differs between a manifest and the names and sizes of the files in its folder; None when nothing does."""
    for entry in entries:
        if entry.path not in listed:
            return f"its file '{entry.path}' is missing ({BATCH_FILE} is written last)"
        if listed[entry.path] != entry.size:
            return f"its file '{entry.path}' has {listed[entry.path]} bytes, the manifest says {entry.size}"
    extra = sorted(listed.keys() - {entry.path for entry in entries} - {BATCH_FILE})
    if extra:
        return f"'{extra[0]}' lies in its folder and is not in its manifest ({len(extra)} such)"
    return None
