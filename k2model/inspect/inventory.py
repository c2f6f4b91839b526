"""What a store says that it has, and where what it says does not agree: without reading a byte of what is kept.

Three files tell of an artifact: its manifest, its record beside it, and the ledger's entry, which outlives both. They
are written as one and say the same, so whichever is missing, unreadable or of another opinion is a `Fault`; so is an
input that nothing here is or was. Every view of a store begins with an `Inventory`, so that none leaves out in silence
what another file of the store knows. It takes one listing, and three small reads for each artifact.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from k2model.artifacts import Store, artifact_name
from k2model.artifacts.confirm import Stamp, changed, noted, stamps
from k2model.artifacts.files import Files, files_at
from k2model.artifacts.identity import STEP_NAME
from k2model.artifacts.manifest import MANIFEST, RECORD, read_manifest
from k2model.artifacts.places import PARTS
from k2model.artifacts.record import read_record
from k2model.errors import ArtifactError, CorruptArtifact, MissingArtifact

LEDGER = "_ledger"
READERS = 32  # files read at once
HEAD = 256  # bytes of a manifest in which its digest stands
SAME = ("step", "version", "identity", "config", "inputs", "digest", "bytes", "files")  # what it is, not how made
_PLACE = re.compile(rf"{STEP_NAME.pattern}(/[0-9a-f]{{16}})?")
_FOLDER = re.compile(rf"({STEP_NAME.pattern}/[0-9a-f]{{16}})/(.+)")
_PARTS = re.compile(rf"{PARTS}/({STEP_NAME.pattern}/[0-9a-f]{{16}})/.+")
_ENTRY = re.compile(rf"{LEDGER}/({STEP_NAME.pattern})/([0-9a-f]{{64}})\.json")
_DIGEST = re.compile(rb'\A\{\s*"digest": "([0-9a-f]{64})"')


@dataclass(frozen=True)
class Fault:
    """artifact: `<step>/<key[:16]>`, or a folder of the store that is none. kind: which of its relations is broken, see
    docs/operations.md. path: the file, from the store's root on. what: one sentence's worth for a person."""

    artifact: str
    kind: str
    path: str
    what: str


@dataclass
class Known:
    """All that a store has of one artifact. `files`: from its folder on; `parts`: what is kept of the parts of one that
    is not finished, from the store's root on; `digest`: as its manifest states it, of a
    finished one; `entry`: the ledger's, at `entry_path`; each None where it is missing or unreadable."""

    name: str
    files: dict[str, Stamp] = field(default_factory=dict)
    parts: dict[str, Stamp] = field(default_factory=dict)
    entry_path: str = ""
    digest: str | None = None
    record: dict[str, Any] | None = None
    entry: dict[str, Any] | None = None
    faults: list[Fault] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return MANIFEST in self.files

    @property
    def told(self) -> dict[str, Any] | None:
        """What it says of itself: its own record, else the ledger's entry."""
        return self.record or self.entry

    @property
    def bytes(self) -> int:
        return sum(stamp.size for stamp in self.files.values())

    def fault(self, kind: str, path: str, what: str) -> None:
        self.faults.append(Fault(self.name, kind, path, what))


@dataclass(frozen=True)
class Inventory:
    """`known`: every artifact by its name, sorted; `stray`: faults of files that belong to no artifact."""

    store: Store
    known: Mapping[str, Known]
    stray: tuple[Fault, ...]

    @property
    def faults(self) -> list[Fault]:
        """All of them, sorted by artifact."""
        return [fault for one in self.known.values() for fault in one.faults] + list(self.stray)

    def records(self) -> list[dict[str, Any]]:
        """What is known of each artifact that is or was here: the ledger's entry, its own record where that lacks."""
        return [found for one in self.known.values() if (found := one.entry or one.record)]

    @cached_property
    def by_content(self) -> dict[tuple[str, str], list[Known]]:
        """By kind and digest, those that are here first."""
        found: dict[tuple[str, str], list[Known]] = {}
        for one in sorted(self.known.values(), key=lambda one: not one.finished):
            if one.told:
                found.setdefault((one.told["step"], one.digest or one.told["digest"]), []).append(one)
        return found

    def dependents(self, name: str) -> list[str]:
        """Names of the finished artifacts that were made from this one, at any distance, nearest first."""
        found, front = dict[str, None](), [name]
        while front:
            front = [one for at in front for one in self._made_from.get(at, ()) if one not in found and one != name]
            found |= dict.fromkeys(front)
        return [*found]

    @cached_property
    def _made_from(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for one in self.known.values():
            for source in (one.told or {}).get("inputs", {}).values() if one.finished else ():
                for input_ in self.by_content.get((source["kind"], source["digest"]), ()):
                    found.setdefault(input_.name, []).append(one.name)
        return found


def take_inventory(store: Store) -> Inventory:
    """Raises ArtifactError where the store cannot be read; what is wrong in it is told by faults."""
    root = files_at(store.uri)
    known: dict[str, Known] = {}
    stray = []
    for path, stamp in stamps(root).items():
        if found := _ENTRY.fullmatch(path):
            name = artifact_name(found[1], found[2])
            known.setdefault(name, Known(name)).entry_path = path
        elif path.startswith(f"{LEDGER}/"):
            stray.append(Fault(LEDGER, "ledger", path, f"is no entry: expected {LEDGER}/<step>/<64 hex digits>.json"))
        elif found := _PARTS.fullmatch(path):
            known.setdefault(found[1], Known(found[1])).parts[path] = stamp
        elif found := _FOLDER.fullmatch(path):
            known.setdefault(found[1], Known(found[1])).files[found[2]] = stamp
        elif (found := _PLACE.fullmatch(path)) and (found[1] or Path(root.uri, path).is_symlink()):
            fault = Fault(
                path, "place", path, "is a link or a file, expected a folder of its own: nothing vouches for it"
            )
            if found[1]:
                known.setdefault(path, Known(path)).faults.append(fault)
            else:
                stray.append(fault)
    with ThreadPoolExecutor(READERS) as readers:
        [*readers.map(lambda one: _look_at(root, one), known.values())]
    inventory = Inventory(store, dict(sorted(known.items())), tuple(stray))
    for one in known.values():
        if one.finished:
            one.faults += _of_lineage(inventory, one)
    return inventory


def _look_at(root: Files, one: Known) -> None:
    if one.finished:
        one.digest = _stated_digest(root, one)
        one.record = _told(root, one, "record", f"{one.name}/{RECORD}" if RECORD in one.files else "")
    if one.finished or one.entry_path:
        one.entry = _told(root, one, "ledger", one.entry_path)
    if one.finished and one.record and one.entry:
        differ = [name for name in SAME if one.record.get(name) != one.entry.get(name)]
        differ = differ or [name for name in one.record if one.record[name] != one.entry.get(name)]
        if differ and not one.faults:
            said = f"says another thing than the ledger's entry {one.entry_path} of: {', '.join(differ)}"
            one.fault("disagreement", f"{one.name}/{RECORD}", said)
    late = changed(one.files) if one.finished else []
    if late and (late := changed(one.files, noted(root, one.name, one.digest or ""))):
        more = f", and {len(late) - 1} more" if len(late) > 1 else ""
        one.fault("changed", f"{one.name}/{late[0]}", f"was written after the artifact was finished{more}")


def _stated_digest(root: Files, one: Known) -> str | None:
    path = f"{one.name}/{MANIFEST}"
    try:
        if stated := _DIGEST.match(root.read_range(path, 0, HEAD)):
            return stated[1].decode()
        return read_manifest(f"{root.uri}/{one.name}").digest
    except (CorruptArtifact, FileNotFoundError, IsADirectoryError, MissingArtifact) as error:
        one.fault("manifest", path, first_sentence(error))
        return None


def _told(root: Files, one: Known, kind: str, path: str) -> dict[str, Any] | None:
    """The artifact's record or ledger entry, and a fault where it is none, or is of another artifact."""
    if not path:
        where = f"{one.name}/{RECORD}" if kind == "record" else f"{LEDGER}/{one.name}"
        one.fault(kind, where, f"the {'record' if kind == 'record' else 'ledger entry'} of the artifact is missing")
        return None
    try:
        found = read_record(root, path, "")
    except (CorruptArtifact, FileNotFoundError) as error:
        one.fault(kind, path, first_sentence(error))
        return None
    said = [artifact_name(found["step"], found["identity"]), found["digest"]]
    wanted = [one.name, one.digest or found["digest"]]
    whole_name = kind == "record" or path == f"{LEDGER}/{found['step']}/{found['identity']}.json"
    if said == wanted and whole_name:
        return found
    one.fault(kind, path, f"is of {said[0]} with digest {said[1][:12]}, expected {wanted[0]} with {wanted[1][:12]}")
    return None


def _of_lineage(inventory: Inventory, one: Known) -> Iterator[Fault]:
    for role, source in (one.told or {}).get("inputs", {}).items():
        kind, digest, uri = source["kind"], source["digest"], str(source.get("uri", ""))
        if (kind, digest) in inventory.by_content:
            continue
        where = f"{one.name}/{RECORD}"
        there = inventory.known.get(uri)
        if there is not None and there.digest:
            what = f"{uri} has the digest {there.digest[:12]}, and this was made of one with {digest[:12]}"
        elif _lies_elsewhere(inventory.store, uri, digest):
            continue
        else:
            what = f"{uri or kind} with the digest {digest[:12]} is not here, and the ledger does not know it"
        yield Fault(one.name, "lineage", where, f"its input {role}: {what}")


def _lies_elsewhere(store: Store, uri: str, digest: str) -> bool:
    """Whether an input is in another store, which its record names by a whole address."""
    if not (uri.startswith("/") or "://" in uri) or uri.startswith(f"{store.uri}/"):
        return False
    try:
        return read_manifest(uri).digest == digest
    except ArtifactError:
        return False


def first_sentence(error: BaseException) -> str:
    """Without the remedy, which is told of all faults of an artifact together."""
    return re.split(r"\. (?=[A-Z])", str(error) or type(error).__name__, maxsplit=1)[0].rstrip(". ")


def readable(faults: Iterable[Fault]) -> list[str]:
    """One line each."""
    return [f"{fault.path}: {fault.what}" for fault in faults]
