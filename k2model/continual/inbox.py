"""The inbox of a line: batches of new data, each a folder that counts once its `batch.json` is there.

    <inbox>/<batch>/data/...       files, in any format that a source may have
    <inbox>/<batch>/batch.json     the manifest (`k2model.continual.batches`), written last and never again

An inbox is read and added to, and never cleared: what has arrived lies in the store, so a batch that was judged may be
taken away. Its place is the store's, or any that a source can have; who may write there is its storage's to say.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from k2model.artifacts import FileEntry, Store
from k2model.artifacts.files import PARTIAL, Files, LocalFiles, files_at, writing
from k2model.artifacts.manifest import hash_stored
from k2model.artifacts.outside import inside, read_small
from k2model.continual.batches import BATCH_FILE, DATA, Broken, Manifest, listing_problem, read_batch
from k2model.continual.state import Standing, State
from k2model.errors import CorpusError, CorruptArtifact, K2Error, nearest
from k2model.ingest.storage import SourceFiles, open_source
from k2model.plain import NotPlain, canonical, to_plain
from k2model.recipe import Recipe

FOLDER = "_inbox"
MANIFEST_BYTES = 64_000_000  # that are read of one; some 400,000 files
CHUNK = 4_000_000  # bytes in memory while a file is added
MENDABLE = (Standing.REFUSED, Standing.QUARANTINED, Standing.SET_ASIDE)
_LEAVE = "a batch is not changed once it was added: add what it should be under another name"


class InboxError(K2Error):
    """A batch or an inbox is not what was asked for."""


class BatchChanged(InboxError):
    """Files of a batch are not what its manifest says."""


@dataclass(frozen=True)
class Contents:
    """What lies in an inbox, each by name. unfinished: folders without a manifest: they are being written, or whoever
    did was killed."""

    batches: tuple[Manifest, ...]
    broken: tuple[Broken, ...]
    unfinished: tuple[str, ...]

    @property
    def all(self) -> list[Manifest | Broken]:
        """All that have a manifest, by name."""
        both: list[Manifest | Broken] = [*self.batches, *self.broken]
        return sorted(both, key=lambda one: one.name)

    def new(self, state: State) -> list[Manifest | Broken]:
        """What the ledger does not know, by name: batches it has not seen, and ones that it turned away whose manifest
        is another since, or of which a person has accepted what spoke against them. What was taken in lies in the store
        and stays as it was."""

        def is_new(one: Manifest | Broken) -> bool:
            known = state.batches.get(one.name)
            if known is None or known.standing is Standing.REVIEWED:
                return True
            return known.digest != one.digest and known.standing in MENDABLE

        return [one for one in self.all if is_new(one)]


class Inbox:
    """Make one with `Inbox.open`."""

    def __init__(self, files: Files, recipe: Recipe) -> None:
        self.files, self.recipe = files, recipe

    @classmethod
    def open(cls, store: Store, recipe: Recipe) -> Self:
        """The inbox of a recipe's line, which need not be there yet."""
        return cls(files_at(recipe.continual.inbox or f"{store.uri}/{FOLDER}/{recipe.name}"), recipe)

    def look(self) -> Contents:
        """Everything that lies here: names and sizes of files are compared with manifests, contents are not
        (`check`)."""
        folders: dict[str, dict[str, int]] = {}
        for path, size in self.files.sizes().items():
            name, slash, below = path.partition("/")
            if slash and not name.startswith("."):
                folders.setdefault(name, {})[below] = size
        found = {name: self._batch(name, listed) for name, listed in sorted(folders.items())}
        return Contents(
            tuple(one for one in found.values() if isinstance(one, Manifest)),
            tuple(one for one in found.values() if isinstance(one, Broken)),
            tuple(name for name, one in found.items() if one is None),
        )

    def batches(self) -> list[Manifest]:
        """The batches that can be looked at, by name."""
        return [*self.look().batches]

    def manifest(self, name: str) -> Manifest:
        """Raises InboxError for one that is not there, is being written or is broken."""
        contents = self.look()
        found = next((one for one in contents.all if one.name == name), None)
        if isinstance(found, Manifest):
            return found
        if isinstance(found, Broken):
            raise InboxError(f"batch '{name}' cannot be used: {found.reason}")
        if name in contents.unfinished:
            raise InboxError(f"batch '{name}' is being written: {self.files.uri}/{name} has no {BATCH_FILE} yet")
        raise InboxError(f"there is no batch '{name}' in {self.files.uri}; {nearest(name, [*names(contents)])}")

    def check(self, manifest: Manifest) -> None:
        """Reads every file of a batch, in pieces. Raises BatchChanged where one is not what the manifest says."""
        files = self.files.at(manifest.name)
        try:
            if hashlib.sha256(files.read(BATCH_FILE)).hexdigest() != manifest.digest:
                raise BatchChanged(f"{files.uri}/{BATCH_FILE} was written again since it was read; {_LEAVE}")
            if isinstance(files, LocalFiles):
                for entry in manifest.files:
                    inside(files.uri, entry.path)
            if problem := listing_problem(manifest.files, files.sizes()):
                raise BatchChanged(f"batch '{manifest.name}' is not what it was: {problem}; {_LEAVE}")
            for entry in manifest.files:
                if (found := hash_stored(files, entry.path)) != entry.sha256:
                    raise BatchChanged(
                        f"batch '{manifest.name}' is not what it was: '{entry.path}' has sha256 {found}, its manifest "
                        f"says {entry.sha256}; {_LEAVE}"
                    )
        except (FileNotFoundError, CorruptArtifact) as error:
            raise BatchChanged(f"batch '{manifest.name}' is not what it was: {error}") from error

    def add(self, files: Sequence[str | os.PathLike[str]], name: str = "", **said: Any) -> Manifest:
        """Copies files into a batch and writes its manifest last; a batch that is there is never overwritten.

        files: files, folders or globs, on this machine or an object store. name: "" = after its domain and content.
        said: what else the manifest says, `kind`, `domain` and `licence` at least.

        Raises InboxError where what is said is wrong, there are no such files, or the batch is there.
        """
        found: dict[str, tuple[SourceFiles, str, int]] = {}
        for location in files:
            try:
                source = open_source(os.fspath(location))
                entries = source.entries()
            except CorpusError as error:
                raise InboxError(f"{location} cannot be added: {str(error).partition(';')[0]}") from error
            for entry in entries:
                path = f"{DATA}/{entry.path}"
                if path in found:
                    raise InboxError(f"two of the files would be '{path}' of the batch; rename one, or add two batches")
                found[path] = source, entry.path, entry.size
        unread = [FileEntry(path, size, "0" * 64) for path, (_, _, size) in found.items()]
        self._checked(name or "unnamed", said, unread)
        if not name:
            hashed = [FileEntry(path, size, _hashed(source, of)) for path, (source, of, size) in found.items()]
            unnamed = self._checked("unnamed", said, hashed)
            words = "".join(one if one.isascii() and one.isalnum() else "-" for one in unnamed.source.domain)
            name = f"{words.strip('-') or 'batch'}-{unnamed.content[:12]}"
        self._check_free(name, found)
        target = self.files.at(name)
        copied = [_copied(source, path, target, place) for place, (source, path, _) in found.items()]
        if isinstance(target, LocalFiles):
            target.flush(entry.path for entry in copied)
        manifest = self._checked(name, said, copied)
        if not target.create(BATCH_FILE, _written(said, copied)):
            raise self._taken(name)
        return manifest

    def _checked(self, name: str, said: dict[str, Any], entries: Sequence[FileEntry]) -> Manifest:
        read = read_batch(name, _written(said, entries), f"{self.files.uri}/{name}", self.recipe.continual)
        if isinstance(read, Broken):
            raise InboxError(f"batch '{name}' would be refused: {read.reason}")
        return read

    def _check_free(self, name: str, wanted: dict[str, Any]) -> None:
        there = self.files.at(name).sizes()
        if BATCH_FILE in there:
            raise self._taken(name)
        if extra := sorted(there.keys() - wanted.keys()):
            raise InboxError(
                f"{self.files.uri}/{name} has no {BATCH_FILE} and holds other files ({extra[0]}): somebody is writing "
                "it, or was killed. Choose another name, or delete that folder"
            )

    def _taken(self, name: str) -> InboxError:
        return InboxError(f"there is a batch '{name}' in {self.files.uri}; {_LEAVE}")

    def _batch(self, name: str, listed: dict[str, int]) -> Manifest | Broken | None:
        """None where there is no manifest."""
        if (size := listed.get(BATCH_FILE)) is None:
            return None
        try:
            data = read_small(self.files, f"{name}/{BATCH_FILE}", MANIFEST_BYTES)
        except FileNotFoundError:  # taken away since it was listed
            return None
        except NotPlain as error:
            stand_in = hashlib.sha256(str(size).encode()).hexdigest()  # of what is not read
            return Broken(name, stand_in, f"{BATCH_FILE}: {error}")
        return read_batch(name, data, f"{self.files.uri}/{name}", self.recipe.continual, listed)


def names(contents: Contents) -> Iterator[str]:
    """Of all that lie in an inbox."""
    yield from (one.name for one in contents.all)
    yield from contents.unfinished


def _written(said: dict[str, Any], entries: Sequence[FileEntry]) -> bytes:
    return canonical({**to_plain(said), "files": to_plain([*entries])})


def _hashed(source: SourceFiles, path: str) -> str:
    with source.open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _copied(source: SourceFiles, path: str, target: Files, place: str) -> FileEntry:
    """Brings a file to its place in a batch, in pieces, and says what was copied."""
    digest, size = hashlib.sha256(), 0
    with _scratch(target, place) as scratch:
        with source.open(path) as file, writing(target.uri, place), scratch.open("wb") as copy:
            while data := file.read(CHUNK):
                digest.update(data)
                size += copy.write(data)
        target.put(scratch, place)
    return FileEntry(place, size, digest.hexdigest())


@contextmanager
def _scratch(target: Files, place: str) -> Iterator[Path]:
    """A file to write first, on the disk of its place; for an object store on this machine. Of a local batch always
    the same, so that a killed process leaves one at most, which the next writes over."""
    if isinstance(target, LocalFiles):
        file = Path(target.uri, place)
        file.parent.mkdir(parents=True, exist_ok=True)
        file = file.with_name(f"{PARTIAL}{file.name}")
        try:
            yield file
        finally:
            file.unlink(missing_ok=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder, "file")
