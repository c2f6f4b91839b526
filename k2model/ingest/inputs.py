"""What a source is read from: which files of a listing belong to it, how each is read (by the source's `format`, else
by its name), and a digest of each one's content, which bears the identity of a step.

`README`s and the like beside data are left out; a listing in which two kinds of data lie is an error rather than a
guess. What a Hugging Face folder declares is `hub`'s business. A local file is hashed whole (sha256). Of an object the
store's own word is taken, its ETag, size and, where the bucket keeps versions, version: reading terabytes to name them
would cost as much as ingesting them. The same object uploaded anew in other pieces may therefore be ingested again, to
equal documents.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

from k2model.errors import CorpusError
from k2model.ingest import hub, manifest
from k2model.ingest.names import (
    COMPRESSED,
    FOREIGN_ROWS,
    SUFFIXES,
    format_of,
    is_licence,
    language,
    packed,
    suffix_of,
    unfinished,
)
from k2model.ingest.storage import Entry, SourceFiles, open_source, reading
from k2model.recipe.schema import SourceConfig, SourceFormat
from k2model.recipe.source_problems import source_problem

LICENCE = "licence"  # the format of a file that is read for its licence alone
MANIFEST = "manifest"  # the same, for the number of rows that it states; the size of such an input


def chosen(source: SourceConfig, files: SourceFiles, entries: Sequence[Entry]) -> list[tuple[Entry, str]]:
    """The entries that `source` reads, each with its format (`SourceFormat` value or `LICENCE`).

    Raises `CorpusError` when no entry can be read or it is not clear how.
    """
    wanted = source.format
    if wanted is SourceFormat.HUGGING_FACE or (wanted is SourceFormat.AUTO and hub.is_dataset(files, entries)):
        named = [(entry, format_of(entry.path)) for entry in hub.data_files(source, files, entries)]
        if unknown := [entry for entry, kind in named if kind is None]:
            raise _unreadable(source, unknown[:1])
        return [(entry, kind.value) for entry, kind in named if kind]
    if wanted is SourceFormat.CODE:
        kinds = ((entry, LICENCE if is_licence(entry.path) else wanted.value) for entry in entries)
        found = [(e, kind) for e, kind in kinds if kind == LICENCE or files.pattern or language(e.path)]
    else:
        wanted = _only_format(source, entries) if wanted is SourceFormat.AUTO else wanted
        rows = wanted is not SourceFormat.TEXT
        found = [
            (e, wanted.value)
            for e in entries
            if (files.pattern or format_of(e.path) is wanted or (rows and (packed(e.path) or unfinished(e.path))))
            and not manifest.is_index(files, e.path)
        ]
    if all(kind == LICENCE for _, kind in found):
        raise _unreadable(source, entries)
    return found


def _only_format(source: SourceConfig, entries: Sequence[Entry]) -> SourceFormat:
    """The format of rows, or else of text, in which there are files."""
    counts = Counter(kind for entry in entries if (kind := format_of(entry.path)) is not None)
    rows = [kind for kind in counts if kind is not SourceFormat.TEXT]
    foreign = any(suffix_of(entry.path) in FOREIGN_ROWS for entry in entries)
    if len(rows) + foreign > 1:
        raise CorpusError(
            f"corpus.sources.{source.name}: the location holds {_listed(entries)}, which is more than one format. "
            "Set format to one of them, or make the location a glob"
        )
    if not counts or (foreign and not rows):
        raise _unreadable(source, entries)
    return rows[0] if rows else SourceFormat.TEXT


def _unreadable(source: SourceConfig, entries: Sequence[Entry]) -> CorpusError:
    known = "; ".join(f"{kind.value}: {' '.join(suffixes)}" for kind, suffixes in SUFFIXES.items())
    return CorpusError(
        f"corpus.sources.{source.name}: no file can be read as format '{source.format.value}'; the location holds "
        f"{_listed(entries)}. Known are {known} (JSONL also with {' '.join(COMPRESSED)}), and format 'code' for "
        "source trees. Set format, make the location a glob, or convert the files"
    )


def _listed(entries: Sequence[Entry]) -> str:
    counts = Counter(suffix_of(entry.path) or "no suffix" for entry in entries)
    return ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(6))


@dataclass(frozen=True)
class InputFile:
    """One file of a source: `path` relative to the location with `/`, `size` in bytes, `digest` of its content
    (`sha256:<hex>` or `etag:<what the store says>`), `format` it is read in (`SourceFormat`, or `licence`); `tag` tells
    whether it was changed since, see `Entry`."""

    path: str
    size: int
    digest: str
    format: str
    tag: str = field(compare=False, metadata={"identity": False})


@dataclass(frozen=True)
class FileSlice:
    """Some rows of an input. `start` and `end` are bytes of JSONL, row groups of Parquet, record batches of Arrow;
    `end` 0 is the file's. `rows_before` counts the rows in front; `bytes` is about what is read of the file, whose
    whole `size` and `tag` were listed. `licence` is that of a source file by the licence file nearest above it."""

    path: str
    format: str
    size: int
    tag: str
    bytes: int
    start: int = 0
    end: int = 0
    rows_before: int = 0
    licence: str = ""

    @property
    def listed(self) -> Entry:
        """Its file as it was listed."""
        return Entry(self.path, self.size, self.tag)

    @property
    def whole(self) -> bool:
        """Whether it is the whole file."""
        return not self.start and not self.end


@dataclass(frozen=True)
class InputPart:
    """Part `index` of a source: what one call of `ingest_part` reads. The first part has the `stated_rows`, which the
    source is said to hold in all; 0 = nothing is said."""

    index: int
    slices: tuple[FileSlice, ...]
    stated_rows: int = 0

    def to_json(self) -> str:
        """For the way to whoever ingests it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "InputPart":
        content = json.loads(text)
        slices = tuple(FileSlice(**one) for one in content["slices"])
        return cls(content["index"], slices, content["stated_rows"])


def list_inputs(source: SourceConfig) -> tuple[InputFile, ...]:
    """The files of a source by path. A pure function of what lies at the location, wherever that is.

    Raises `CorpusError` when the source's settings cannot work, there is nothing, nothing of a known format, or the
    location cannot be read.
    """
    if problem := source_problem(source):
        raise CorpusError(problem)
    files = open_source(source.location)
    entries = files.entries()
    found = chosen(source, files, entries)
    trees = (SourceFormat.TEXT.value, SourceFormat.CODE.value, LICENCE)
    paths = [entry.path for entry, kind in found if kind not in trees]  # of shards
    manifest.check_numbering(source, files, paths)
    digests = _digests(files, [entry for entry, _ in found])
    pairs = zip(found, digests, strict=True)
    listed = [InputFile(entry.path, entry.size, digest, kind, entry.tag) for (entry, kind), digest in pairs]
    stated = [*manifest.stated_rows(source, files, entries, paths)]
    if hub.is_dataset(files, entries):
        stated += hub.stated_rows(source, files, entries)
    else:
        manifest.check_lists(source, files, entries, {file.path: file.digest for file in listed})
    return (*listed, *(InputFile(path, rows, f"rows:{rows}", MANIFEST, "") for path, rows in stated))


def left_out(source: SourceConfig) -> dict[str, int]:
    """Files at the location that the source does not read, by suffix; for people, who may have expected otherwise."""
    files = open_source(source.location)
    entries = files.entries()
    read = {entry.path for entry, _ in chosen(source, files, entries)}
    return dict(Counter(suffix_of(e.path) or "no suffix" for e in entries if e.path not in read).most_common())


def _digests(files: SourceFiles, entries: Sequence[Entry]) -> list[str]:
    if files.remote:
        return [f"etag:{entry.tag}" for entry in entries]
    # Hashing lets other threads run.
    with reading(files.root), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return [f"sha256:{found}" for found in pool.map(_sha256, (files.full(entry.path) for entry in entries))]


def _sha256(path: str) -> str:
    """Read anew each time: a file may have been changed within a tick of the clock that dates it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
