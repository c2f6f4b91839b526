"""The ledger of a line: one file an entry, never rewritten, each bound to the one before it by that one's hash.

    _continual/<line>/ledger/00000001.json      number, hash of the entry before, kind and content; no time of a clock
    _continual/<line>/times/00000001.json       when it was written, by the clock of who wrote it, and the entry's hash;
                                                not part of the chain
    _continual/<line>/snapshots/00000256.json   what the entries so far add up to: reading begins there

An entry is made by an exclusive create of the next number, which is all the locking there is: of several writers one
is first, and the others get `LedgerMoved` and look again. Its order is its number; kickoffs and clocks may jump. A
process that is killed after an entry leaves it without its time, which is told as not known, and maybe without a
snapshot: the next one is made later. Snapshots save reading and may be deleted: one that does not fit is not used.
An entry that was changed does not fit the next one; the last, which has none, does not fit the hash beside its time.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime
from typing import Any, NotRequired, Self, TypedDict

from k2model.artifacts import ArtifactRef, Identity, Lease, Store
from k2model.artifacts.files import Files
from k2model.artifacts.outside import read_small, read_typed
from k2model.continual.entries import Content, Contradiction, TurnBegan, content_of
from k2model.continual.fold import fold
from k2model.continual.state import Began, State
from k2model.errors import ArtifactError, CorruptArtifact, K2Error
from k2model.plain import NotPlain, canonical, from_plain, parsed, to_plain

FOLDER = "_continual"
SNAPSHOT_EVERY = 256  # entries; a read from an object store takes some 6 ms each, many at once included
FOLD = 2  # raised when entries add up to something else, so that older snapshots are not used
READERS = 32  # files read at once: on an object store the wait for each is all that reading takes
_LINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ENTRY = re.compile(r"\d{8}\.json")
_log = logging.getLogger(__name__)


class _Written(TypedDict):
    written: str
    sha256: NotRequired[str]  # of the entry; earlier versions left it out


class LedgerError(K2Error):
    """A ledger cannot be used as asked."""


class LedgerMoved(LedgerError):
    """Another process has appended an entry since the state was read: look again, and decide anew."""


class LedgerDamaged(LedgerError):
    """The files of a ledger are not what its writers left."""


@dataclass(frozen=True)
class Entry:
    """previous: sha256 of the bytes of the entry before, "" of the first. digest: of its own."""

    number: int
    previous: str
    kind: str
    content: Content
    digest: str


@dataclass(frozen=True)
class Verified:
    """entries: how many, all bound to each other. artifacts: how many of those they name are there; lost: names of
    those that are not, and why."""

    entries: int
    head: str
    artifacts: int
    lost: tuple[str, ...]


class Ledger:
    """Make one with `Ledger.open`. What was read is kept: reading again reads what is new."""

    def __init__(self, store: Store, line: str, files: Files) -> None:
        self.store, self.line = store, line
        self._files = files
        self._state = State(line)

    @classmethod
    def open(cls, store: Store, line: str) -> Self:
        """The ledger of a line, which may have no entry yet. Raises LedgerError for what is no name of a line."""
        if not _LINE.fullmatch(line):
            raise LedgerError(
                f"a line is named {line!r}, expected letters, digits, '.', '_' and '-': it names a folder"
            )
        return cls(store, line, store.files_of(f"{FOLDER}/{line}"))

    def state(self) -> State:
        """What all entries add up to. Raises LedgerDamaged."""
        last = self._last()
        if not self._state.entries:
            self._state = self._snapshot(last)
        self._state = self._folded(self._state, last)
        return self._state

    def append(self, kind: str, content: Mapping[str, Any] | Content, after: State | int) -> State:
        """Writes the entry behind `after`, the state (or its number of entries) that it was decided on, and gives the
        state with it.

        content: the fields of the kind's class in `entries`, or one of these.

        Raises LedgerMoved when `after` is not the last entry any more, Contradiction when the content does not fit
        what the ledger says, NotPlain when it lacks a field or has another, StoreWriteError.
        """
        # As it will be read, so that whoever writes an entry and whoever reads it go on from the same.
        said = content_of(kind, parsed(canonical(to_plain(content))), self.store.uri)
        number = (after if isinstance(after, int) else after.entries) + 1
        state = self.state()
        if state.entries != number - 1:
            raise self._moved(number, state.entries)
        folded = fold(state, [said])
        data = canonical({"number": number, "previous": state.head, "kind": kind, **to_plain(said)})
        if not self._files.create(_path("ledger", number), data):
            raise self._moved(number, number)
        self._state = replace(folded, entries=number, head=hashlib.sha256(data).hexdigest())
        self._keep_time(number, self._state.head)
        if number % SNAPSHOT_EVERY == 0:
            self._keep_snapshot()
        return self._state

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """Every entry behind number `after`, in order. Raises LedgerDamaged."""
        previous = hashlib.sha256(self._read(after)).hexdigest() if after else ""
        yield from self._entries(after, self._last(), previous)

    def beginnings(self) -> Iterator[tuple[Began, State]]:
        """Each turn that has begun, ended or not, with what the entries up to that one add up to. Raises
        LedgerDamaged."""
        state, contents = State(self.line), list[Content]()
        for entry in self.entries():
            contents.append(entry.content)
            if isinstance(entry.content, TurnBegan):
                state = replace(fold(state, contents), entries=entry.number, head=entry.digest)
                contents = []
                yield entry.content.began, state

    def lease(self) -> Lease:
        """While it is held, no other process is at a turn of this line: see `Store.lease`."""
        return self.store.lease(Identity("continual_turn", "1", {"line": self.line}))

    def times(self, after: int = 0) -> dict[int, str]:
        """When entries behind number `after` were written, ISO 8601 in UTC; one whose writer was killed lacks."""
        listed = (path for path in self._files.sizes("times") if _ENTRY.fullmatch(_name(path)))
        paths = [path for path in listed if int(_name(path)[:8]) > after]
        with ThreadPoolExecutor(READERS) as readers:
            contents = zip(paths, readers.map(self._written, paths), strict=True)
            return {int(_name(path)[:8]): one["written"] for path, one in contents}

    def _written(self, path: str) -> _Written:
        advice = "Delete it: the entry itself is not affected, only when it was written"
        return read_typed(_Written, self._files, path, "when an entry was written", advice)

    def verify(self) -> Verified:
        """Reads every entry, whatever snapshots say, and looks whether the artifacts that they name are there. Raises
        LedgerDamaged for a chain that is broken or adds up to something else than a snapshot."""
        last = self._last()
        state = self._folded(State(self.line), last)
        if self._folded(self._snapshot(last), last) != state:
            raise LedgerDamaged(
                f"{self._files.uri}: the entries do not add up to what the last snapshot says; delete the folder "
                f"{self._files.uri}/snapshots, it is made anew"
            )
        named = {ref.name: ref for entry in self.entries() for ref in _references(entry.content)}
        with ThreadPoolExecutor(READERS) as readers:
            lost = [why for why in readers.map(self._lost, named.values()) if why]
        return Verified(state.entries, state.head, len(named) - len(lost), tuple(sorted(lost)))

    def _lost(self, ref: ArtifactRef) -> str:
        try:
            self.store.look_up(ref)
        except ArtifactError as error:
            return f"{ref.name}: {error}"
        return ""

    def _last(self) -> int:
        """The number of the last entry. Raises LedgerDamaged for a gap or a file that is no entry.

        What a listing lacks is looked for once more, since others may write while it is made.
        """
        names = {_name(path) for path in self._files.sizes("ledger")}
        if stray := sorted(name for name in names if not _ENTRY.fullmatch(name)):
            raise LedgerDamaged(
                f"{self._files.uri}/ledger/{stray[0]} is no entry, expected files 00000001.json, 00000002.json, ... "
                "alone. Nothing of the project writes it: look at it and take it away"
            )
        last = max((int(name[:8]) for name in names), default=0)
        for number in range(1, last + 1):
            if f"{number:08d}.json" not in names and not self._files.exists(_path("ledger", number)):
                raise self._damaged(number, f"it is missing, and a later one ({last:08d}.json) is there")
        if self._files.exists(_path("times", last + 1)):  # of one written since the listing, or that is no file
            self._read(last + 1)
        if self._state.entries > last:
            raise self._damaged(self._state.entries, "it is gone; it was there before")
        return last

    def _folded(self, state: State, last: int) -> State:
        contents: list[Content] = []
        head, number = state.head, state.entries
        for entry in self._entries(state.entries, last, state.head):
            contents.append(entry.content)
            head, number = entry.digest, entry.number
        if contents:
            self._check_last(number, head)
        try:
            return replace(fold(state, contents), entries=number, head=head)
        except Contradiction as error:
            raise LedgerDamaged(f"{self._files.uri}/ledger, entries {state.entries + 1} to {last}: {error}") from error

    def _check_last(self, number: int, head: str) -> None:
        """Raises LedgerDamaged where an entry is not the one that was written."""
        try:
            stated = self._written(_path("times", number)).get("sha256", head)
        except FileNotFoundError:  # it is being written, or whoever did was killed
            return
        except CorruptArtifact as error:
            _log.warning("%s", error)
            return
        if stated != head:
            raise self._damaged(number, f"it has sha256 {head}, and had {stated} when it was written: it was changed")

    def _entries(self, after: int, last: int, previous: str) -> Iterator[Entry]:
        with ThreadPoolExecutor(min(READERS, max(1, last - after))) as readers:
            for number, data in enumerate(readers.map(self._read, range(after + 1, last + 1)), after + 1):
                entry = self._entry(number, data)
                if entry.previous != previous:
                    raise self._damaged(
                        number, f"it says that the one before it has sha256 {entry.previous or '(none)'}, which has "
                        f"{previous or '(none)'}: one of the two was changed"
                    )  # fmt: skip
                previous = entry.digest
                yield entry

    def _read(self, number: int) -> bytes:
        try:
            return read_small(self._files, _path("ledger", number))
        except FileNotFoundError as error:
            raise self._damaged(number, "it is missing") from error
        except NotPlain as error:
            raise self._damaged(number, str(error)) from error

    def _entry(self, number: int, data: bytes) -> Entry:
        try:
            named = parsed(data)
            if not isinstance(named, dict) or not {"number", "previous", "kind"} <= named.keys():
                raise NotPlain("it has no number, previous and kind")
            said = {name: one for name, one in named.items() if name not in ("number", "previous", "kind")}
            content = content_of(str(named["kind"]), said, self.store.uri)
        except (NotPlain, Contradiction) as error:
            raise self._damaged(number, str(error)) from error
        if named["number"] != number:
            raise self._damaged(number, f"it says that it is number {named['number']}")
        return Entry(number, str(named["previous"]), str(named["kind"]), content, hashlib.sha256(data).hexdigest())

    def _snapshot(self, last: int) -> State:
        """The state at the newest snapshot, if its hash is that of the entry it was made at; else that before all."""
        listed = [_name(path) for path in self._files.sizes("snapshots")]
        numbers = [int(name[:8]) for name in listed if _ENTRY.fullmatch(name)]
        newest = max((number for number in numbers if number <= last), default=0)
        if not newest:
            return State(self.line)
        path = _path("snapshots", newest)
        try:
            first, _, second = read_small(self._files, path).partition(b"\n")
            stated = parsed(first)
            head = hashlib.sha256(self._read(newest)).hexdigest()
            if stated == {"fold": FOLD, "head": head, "sha256": hashlib.sha256(second).hexdigest()}:
                state = from_plain(State, parsed(second), self.store.uri)
                if (state.line, state.entries, state.head) == (self.line, newest, head):
                    return state
            raise NotPlain("it is of another version, or was changed, or the entry was")
        except (NotPlain, FileNotFoundError) as error:
            _log.warning("%s/%s is not used: %s. All entries are read", self._files.uri, path, error)
            return State(self.line)

    def _keep_snapshot(self) -> None:
        # Batches stand in the order of their arrival, so nothing is sorted.
        second = json.dumps(to_plain(self._state), ensure_ascii=False, allow_nan=False).encode()
        first = {"fold": FOLD, "head": self._state.head, "sha256": hashlib.sha256(second).hexdigest()}
        number = self._state.entries
        self._files.write(_path("snapshots", number), json.dumps(first).encode() + b"\n" + second)
        for path in self._files.sizes("snapshots"):
            if int(_name(path)[:8]) < number - SNAPSHOT_EVERY:
                self._files.remove(path)

    def _keep_time(self, number: int, head: str) -> None:
        written = {"written": datetime.now(UTC).isoformat(timespec="seconds"), "sha256": head}
        self._files.create(_path("times", number), canonical(written))

    def _moved(self, number: int, last: int) -> LedgerMoved:
        return LedgerMoved(
            f"entry {number} of the ledger of '{self.line}' was decided on {number - 1} entries, and there are {last}: "
            "another process wrote meanwhile. Nothing was written; run again, which decides on what is there"
        )

    def _damaged(self, number: int, what: str) -> LedgerDamaged:
        return LedgerDamaged(
            f"{self._files.uri}/{_path('ledger', number)}: {what}. The entries of a ledger are never changed: bring "
            "the file back from a copy of the store. Without one, move the line's folder away and begin it anew"
        )


def _path(folder: str, number: int) -> str:
    return f"{folder}/{number:08d}.json"


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _references(value: Any) -> Iterator[ArtifactRef]:
    """Every reference in the content of an entry, at any depth."""
    if isinstance(value, ArtifactRef):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        yield from (ref for one in fields(value) for ref in _references(getattr(value, one.name)))
    elif isinstance(value, Mapping):
        yield from (ref for one in value.values() for ref in _references(one))
    elif isinstance(value, tuple):
        yield from (ref for one in value for ref in _references(one))
