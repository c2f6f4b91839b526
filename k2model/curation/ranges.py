"""Rows shuffled between tasks: who makes them cuts them by who reads them, and a reader fetches its own alone.

    <kind>/<source>.ranges            what a source wrote, one range of bytes behind the other, a range for each reader
    cuts/<kind>/<source>.parquet      where each reader's range lies in it, of how many rows and with which digest
    index/<kind>/<reader>.parquet     the same by reader, of all sources: made once all have written

So there are as many objects as there are sources and readers, and not one for each pair of them; what a reader fetches
is its index and a range of each source, every one compared with its digest, which the artifact's manifest covers
through the index. A range is zstd over the bytes of one array after the other.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from k2model.artifacts import ArtifactRef, CorruptArtifact, Store
from k2model.artifacts.files import Files
from k2model.artifacts.manifest import inside, read_verified, remedy
from k2model.curation.texts import Hashes, Ints
from k2model.documents.tables import read_table, required, write_table

CUTS, INDEX = "cuts", "index"
_PLACE = {"offset": pa.int64(), "size": pa.int64(), "rows": pa.int64(), "sha256": pa.binary(32)}
CUT_SCHEMA = required(**_PLACE)  # a row for each reader
INDEX_SCHEMA = required(source=pa.string(), **_PLACE)  # a row for each source that has any for the reader
FETCHES = 8  # at a time: a range is some hundred kilobytes at most, so that one waits for the store and not for bytes
#: The name of the column of ascending numbers of documents, of which differences are stored.
DOCUMENT = "document"


def range_of(keys: Hashes, count: int) -> Ints:
    """Which of `count` equal ranges of all 64-bit keys each of them, evenly spread as hashes are, lies in."""
    return ((keys >> np.uint64(32)) * np.uint64(count) >> np.uint64(32)).astype(np.int64)


class Columns(NamedTuple):
    """What a range holds: a name, a type and, of bytes, a width for each column; one of them is `DOCUMENT`."""

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    widths: tuple[int, ...]

    @classmethod
    def of(cls, **columns: str) -> "Columns":
        """By numpy's names of types, `u1*128` being 128 bytes a row."""
        kinds = [kind.partition("*") for kind in columns.values()]
        return cls(tuple(columns), tuple(kind for kind, _, _ in kinds), tuple(int(width or 0) for *_, width in kinds))


class RangeWriter:
    """Collects rows by reader, in memory, until all are there. Rows come in the order of documents."""

    def __init__(self, columns: Columns, readers: int) -> None:
        self._columns, self._readers = columns, readers
        self._held: list[list[tuple[np.ndarray, ...]]] = [[] for _ in range(readers)]

    def add(self, reader: Ints, *arrays: np.ndarray) -> None:
        """Rows for the `reader` [rows] of each, a column each."""
        order = np.argsort(reader, kind="stable")
        bounds = np.searchsorted(reader[order], np.arange(self._readers + 1))
        ordered = [array[order] for array in arrays]
        for index in np.flatnonzero(np.diff(bounds)).tolist():
            self._held[index].append(tuple(array[bounds[index] : bounds[index + 1]] for array in ordered))

    def write(self, folder: Path, kind: str, source: str) -> None:
        """The files of a source below `folder`; afterwards there are no rows."""
        columns = [np.zeros(0, dtype) for dtype in self._columns.dtypes]
        held = (self._taken(index) for index in range(self._readers))
        joined = ([np.concatenate(parts) for parts in zip(*own, strict=True)] if own else columns for own in held)
        write_ranges(folder, kind, source, self._columns, joined)

    def _taken(self, index: int) -> list[tuple[np.ndarray, ...]]:
        own, self._held[index] = self._held[index], []
        return own


def write_ranges(
    folder: Path, kind: str, source: str, columns: Columns, ranges: Iterable[Sequence[np.ndarray]]
) -> None:
    """Both files of a source below `folder`, from what it has for each reader in turn: a column each, [rows] or [rows,
    width]."""
    path, offset, cuts = folder / kind / f"{source}.ranges", 0, list[tuple[int, int, int, bytes]]()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for arrays in ranges:
            rows = len(arrays[0])
            data = _encoded(columns, arrays) if rows else b""
            file.write(data)
            cuts.append((offset, len(data), rows, hashlib.sha256(data).digest()))
            offset += len(data)
    table = pa.table([pa.array(column) for column in zip(*cuts, strict=True)], schema=CUT_SCHEMA)
    write_table(folder / CUTS / kind / f"{source}.parquet", table)


def _encoded(columns: Columns, arrays: Sequence[np.ndarray]) -> bytes:
    raw = []
    for name, dtype, array in zip(columns.names, columns.dtypes, arrays, strict=True):
        array = array.astype(dtype, copy=False)
        raw.append((np.diff(array, prepend=0) if name == DOCUMENT else array).tobytes())
    return bytes(pa.compress(b"".join(raw), codec="zstd", asbytes=True))


def write_index(found: Path, folder: Path, kind: str, sources: Sequence[str]) -> None:
    """What each reader has to fetch, from the cuts that all sources wrote below `found`, in their order."""
    tables = [read_table(found / CUTS / kind / f"{source}.parquet", CUT_SCHEMA) for source in sources]
    readers = tables[0].num_rows if tables else 0
    together = pa.concat_tables(tables) if tables else CUT_SCHEMA.empty_table()
    names = pa.array(sources, pa.string()).take(pa.array(np.repeat(np.arange(len(tables)), readers)))
    together = together.add_column(0, INDEX_SCHEMA.field(0), names).combine_chunks()
    order = np.arange(together.num_rows).reshape(len(tables), readers).T
    rows = together["rows"].to_numpy()
    for reader, own in enumerate(order):
        write_table(folder / INDEX / kind / f"{reader:05d}.parquet", together.take(pa.array(own[rows[own] > 0])))


class Ranges:
    """What was shuffled in an artifact, for one reader of it at a time.

    Raises CorruptArtifact naming a range that is not what its source wrote.
    """

    def __init__(self, store: Store, ref: ArtifactRef) -> None:
        self._files, self._manifest = store.look_up(ref)

    def read(self, kind: str, reader: int, columns: Columns) -> list[np.ndarray]:
        """All rows of the reader, a column each, in the order of the sources."""
        arrays = list(self._arrays(kind, reader, columns))
        return [
            np.concatenate([np.zeros((0, width) if width else 0, dtype), *(own[index] for own in arrays)])
            for index, (dtype, width) in enumerate(zip(columns.dtypes, columns.widths, strict=True))
        ]

    def _arrays(self, kind: str, reader: int, columns: Columns) -> Iterator[list[np.ndarray]]:
        path = f"{INDEX}/{kind}/{reader:05d}.parquet"
        data = read_verified(self._files, self._manifest, path)
        places = read_table(data, INDEX_SCHEMA, f"{self._files.uri}/{path}").to_pylist()
        with ThreadPoolExecutor(FETCHES) as pool:
            fetched = pool.map(lambda place: _fetch(self._files, f"{kind}/{place['source']}.ranges", place), places)
            for place, piece in zip(places, fetched, strict=True):
                yield _decoded(piece, place["rows"], columns)


def _fetch(files: Files, path: str, place: dict) -> bytes:
    where = f"bytes {place['offset']}..{place['offset'] + place['size']} of {files.uri}/{path}"
    if "://" not in files.uri:
        inside(files.uri, path)
    try:
        data = files.read_range(path, place["offset"], place["size"])
    except FileNotFoundError as error:
        raise CorruptArtifact(f"{files.uri}/{path} is missing. {remedy(files.uri)}") from error
    found = hashlib.sha256(data).digest()
    if found != place["sha256"]:
        raise CorruptArtifact(
            f"{where} are {len(data)} bytes with sha256 {found.hex()}, expected {place['size']} with "
            f"{place['sha256'].hex()}. {remedy(files.uri)}"
        )
    return data


def _decoded(data: bytes, rows: int, columns: Columns) -> list[np.ndarray]:
    sizes = [
        rows * np.dtype(dtype).itemsize * (width or 1)
        for dtype, width in zip(columns.dtypes, columns.widths, strict=True)
    ]
    raw = memoryview(pa.decompress(data, decompressed_size=sum(sizes), codec="zstd"))
    arrays = list[np.ndarray]()
    bounds = pairwise([0, *np.cumsum(sizes).tolist()])
    for (begin, end), name, dtype, width in zip(bounds, *columns, strict=True):
        array = np.frombuffer(raw[begin:end], dtype)
        array = np.cumsum(array) if name == DOCUMENT else array
        arrays.append(array.reshape(rows, width) if width else array)
    return arrays
