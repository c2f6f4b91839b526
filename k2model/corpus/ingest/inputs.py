"""What a source is read from: every input file with a digest of its content, which bears the identity of a step.

A local file is hashed whole (sha256). Of an object the store's own word is taken, its ETag, size and, where the bucket
keeps versions, version: reading terabytes to name them would cost as much as ingesting them. The same object
uploaded anew in other pieces may therefore be ingested again, to equal documents.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

from k2model.corpus.errors import CorpusError
from k2model.corpus.ingest.formats import chosen
from k2model.corpus.ingest.storage import Entry, Place, place_of, reading
from k2model.recipe.schema import SourceConfig
from k2model.recipe.source_files import source_problem


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
    """Part `index` of a source: what one call of `ingest_part` reads."""

    index: int
    slices: tuple[FileSlice, ...]

    def to_json(self) -> str:
        """For the way to whoever ingests it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "InputPart":
        content = json.loads(text)
        return cls(content["index"], tuple(FileSlice(**one) for one in content["slices"]))


def list_inputs(source: SourceConfig) -> tuple[InputFile, ...]:
    """The files of a source by path. A pure function of what lies at the location, wherever that is.

    Raises `CorpusError` when the source's settings cannot work, there is nothing, nothing of a known format, or the
    location cannot be read.
    """
    if problem := source_problem(source):
        raise CorpusError(problem)
    place = place_of(source.location)
    found = chosen(source, place, place.entries())
    digests = _digests(place, [entry for entry, _ in found])
    pairs = zip(found, digests, strict=True)
    return tuple(InputFile(entry.path, entry.size, digest, kind, entry.tag) for (entry, kind), digest in pairs)


def _digests(place: Place, entries: Sequence[Entry]) -> list[str]:
    if place.remote:
        return [f"etag:{entry.tag}" for entry in entries]
    # Hashing lets other threads run.
    with reading(place.root), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return [f"sha256:{found}" for found in pool.map(_sha256, (place.full(entry.path) for entry in entries))]


def _sha256(path: str) -> str:
    """Read anew each time: a file may have been changed within a tick of the clock that dates it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
