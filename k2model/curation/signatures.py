"""The small tables by which copies of documents are found: an exact hash, and for natural text bands and a sketch.

They have a row for each document of a cleaned part, in its order. What follows reads these tables and no text. What is
read by different readers is in files of its own, because a store hands out whole files, verified:

    signatures/   17 bytes a document: whoever compares hashes, and the part itself
    bands/        8 bytes a band (of natural text): whoever looks for look-alikes
    sketches/     a byte a permutation (of natural text): of those parts alone that hold a look-alike

Bands are one file a part: 14 of them for 16,000 documents are 1.8 MB, and whoever reads one of them reads all.

Bands and sketches are MinHash of word shingles. Each of `permutations` hash functions h -> a*h + b mod 2^32 (a odd)
keeps its minimum over a text's shingles (Broder 1997). Bands of consecutive minima are hashed to keys, by which similar
texts meet; of every minimum 8 bits are kept as the sketch (b-bit minwise hashing, Li & Koenig 2010), which tells how
similar they are, so that a text costs a byte a permutation and is not read again.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from k2model.artifacts import ArtifactRef, Store
from k2model.curation.characters import mixed
from k2model.curation.parts import CorpusPart, Numbering, numbering_of
from k2model.curation.texts import Flags, Hashes, Ints, Numbers, Texts
from k2model.documents.spans import string_bytes
from k2model.documents.tables import required
from k2model.recipe.schema import CorpusConfig

Sketches = np.ndarray[Any, np.dtype[np.uint8]]
Minima = np.ndarray[Any, np.dtype[np.uint32]]
SIGNATURES, BANDS, SKETCHES = "signatures", "bands", "sketches"
EXACT_BYTES = 16
#: `row` is that of the raw part.
SIGNATURE_SCHEMA = required(row=pa.int64(), exact=pa.binary(EXACT_BYTES), duplicates=pa.int32())
_CHUNK = 1 << 15  # shingles at a time: three arrays of them stay in a core's cache


@dataclass(frozen=True)
class CorpusSignatures:
    """The signatures of the whole corpus: the numbers of its documents, and a way to the files.

    fetch: of paths like `bands/train/prose/00000.parquet`, the local folder that holds them all.
    """

    numbering: Numbering
    fetch: Callable[[Iterable[str]], Path]

    def folder(self, kind: str, parts: Iterable[CorpusPart]) -> Path:
        """Where the tables of that kind lie, of these parts alone."""
        return self.fetch([f"{kind}/{part.name}.parquet" for part in parts]) / kind


def signatures_of(store: Store, clean: ArtifactRef) -> CorpusSignatures:
    """Of a `corpus_clean`."""

    def fetch(paths: Iterable[str]) -> Path:
        return store.fetch(clean, frozenset(paths).__contains__)

    return CorpusSignatures(numbering_of(store, clean), fetch)


def schemas(config: CorpusConfig, natural: bool) -> dict[str, pa.Schema]:
    """By kind; without `near` a text has no words."""
    if not natural:
        return {SIGNATURES: SIGNATURE_SCHEMA}
    keys = dict.fromkeys(band_columns(config), pa.uint64())
    sketch = required(sketch=pa.binary(config.minhash_permutations))
    return {SIGNATURES: SIGNATURE_SCHEMA, BANDS: required(**keys, near=pa.bool_()), SKETCHES: sketch}


def band_columns(config: CorpusConfig) -> list[str]:
    bands, _ = bands_for(config.near_duplicate_threshold, config.minhash_permutations)
    return [f"band_{band:02d}" for band in range(bands)]


def signature_tables(
    rows: np.ndarray, strings: pa.LargeStringArray, duplicates: pa.Array, bodies: Texts | None, kept: Flags,
    config: CorpusConfig,
) -> dict[str, pa.Table]:  # fmt: skip
    """By kind, of the documents that are `kept`; `rows` and `strings` are theirs, `bodies` (of natural text) those of
    all of the batch."""
    starts, data = string_bytes(strings)
    view = memoryview(data)
    exact = [hashlib.blake2b(view[a:b], digest_size=EXACT_BYTES).digest() for a, b in pairwise(starts.tolist())]
    columns = {SIGNATURES: [pa.array(rows), pa.array(exact, type=pa.binary(EXACT_BYTES)), duplicates]}
    if bodies is not None:
        columns |= _near(bodies, kept, config)
    wanted = schemas(config, bodies is not None)
    return {kind: pa.table(columns[kind], schema=schema) for kind, schema in wanted.items()}


def _near(bodies: Texts, kept: Flags, config: CorpusConfig) -> dict[str, list[pa.Array]]:
    hashes, bounds = shingles(bodies, config.shingle_words)
    counts = np.diff(bounds)
    hashes = hashes[np.repeat(kept, counts)]
    own = np.concatenate([[0], np.cumsum(counts[kept])])
    minimum = minima(hashes, own, config.minhash_permutations)
    keys = band_keys(minimum, *bands_for(config.near_duplicate_threshold, config.minhash_permutations))
    own = sketches(minimum)
    width, octets = pa.binary(config.minhash_permutations), pa.py_buffer(own.tobytes())
    sketch = pa.FixedSizeBinaryArray.from_buffers(width, len(own), [None, octets])
    return {BANDS: [*map(pa.array, keys.T), pa.array(counts[kept] > 0)], SKETCHES: [sketch]}


def unpacked(column: pa.Array) -> Sketches:
    """The rows of a fixed-size binary column as bytes: [rows, width]."""
    width = column.type.byte_width
    octets = np.frombuffer(column.buffers()[1], dtype=np.uint8)
    return octets[column.offset * width : (column.offset + len(column)) * width].reshape(len(column), width)


def shingles(texts: Texts, width: int) -> tuple[Hashes, Ints]:
    """The shingles of all texts and their bounds: runs of `width` words, or all words of a shorter text.

    A text without words has none."""
    keys, _, owners = texts.ngrams(width)
    counts = texts.words.counts
    short = np.flatnonzero((counts > 0) & (counts < width))
    together = np.concatenate([owners, short])
    order = np.argsort(together, kind="stable")
    bounds = texts.words.bounds
    whole = texts.word_spans.of(bounds[short], bounds[short + 1])
    found = np.concatenate([keys, whole])[order]
    return found, np.searchsorted(together[order], np.arange(texts.count + 1))


def minima(hashes: Hashes, bounds: Ints, permutations: int) -> Minima:
    """[texts, permutations]; 2^32 - 1 throughout for a text without shingles."""
    factors, offsets = _functions(permutations)
    values = (hashes >> np.uint64(32)).astype(np.uint32)
    result = np.full((permutations, len(bounds) - 1), 0xFFFFFFFF, dtype=np.uint32)
    owners = np.flatnonzero(np.diff(bounds))
    starts = bounds[owners]
    for begin in range(0, len(values), _CHUNK):
        chunk = values[begin : begin + _CHUNK]
        first = int(np.searchsorted(starts, begin, side="right")) - 1
        last = int(np.searchsorted(starts, begin + len(chunk), side="left"))
        cuts = np.maximum(starts[first:last] - begin, 0)
        whose, room = owners[first:last], np.empty_like(chunk)
        for row, (a, b) in enumerate(zip(factors, offsets, strict=True)):
            np.multiply(chunk, a, out=room)
            room += b
            least = np.minimum.reduceat(room, cuts)
            result[row, whose] = np.minimum(result[row, whose], least)
    return np.ascontiguousarray(result.T)


def band_keys(minimum: Minima, bands: int, rows: int) -> Hashes:
    """[texts, bands]: a key for each band of `rows` minima; the keys of different bands differ."""
    keys = np.empty((len(minimum), bands), dtype=np.uint64)
    for band in range(bands):
        key = np.full(len(minimum), band + 1, dtype=np.uint64)
        for column in range(band * rows, (band + 1) * rows):
            key = mixed(key + minimum[:, column])
        keys[:, band] = key
    return keys


def sketches(minimum: Minima) -> Sketches:
    """[texts, permutations]: 8 well-mixed bits of each minimum."""
    return ((minimum * np.uint32(2654435761)) >> np.uint32(24)).astype(np.uint8)


def similarity(one: Sketches, other: Sketches) -> Numbers:
    """The estimated Jaccard index of pairs of sketches; its standard error is sqrt(J (1 - J) / permutations).

    Different minima agree in 8 bits once in 256 times, which is taken out."""
    agreement = np.mean(one == other, axis=-1)
    return (agreement - 1 / 256) / (1 - 1 / 256)


@lru_cache(maxsize=8)
def bands_for(threshold: float, permutations: int, missed: float = 0.9) -> tuple[int, int]:
    """(bands, rows a band) whose chance of meeting, 1 - (1 - J^rows)^bands, errs least around `threshold`.

    The area of false meetings below it weighs 1 - `missed`, that of missed ones above it `missed`: meetings
    are confirmed by the sketch, missed pairs are lost."""
    below, above = np.linspace(0, threshold, 1001), np.linspace(threshold, 1, 1001)

    def error(bands: int, rows: int) -> float:
        false = np.mean(1 - (1 - below**rows) ** bands) * threshold
        lost = np.mean((1 - above**rows) ** bands) * (1 - threshold)
        return float((1 - missed) * false + missed * lost)

    options = [(b, r) for b in range(1, permutations + 1) for r in range(1, permutations // b + 1)]
    return min(options, key=lambda option: (error(*option), option))


@lru_cache(maxsize=4)
def _functions(permutations: int) -> tuple[Any, Any]:
    seeds = mixed(np.arange(1, 2 * permutations + 1, dtype=np.uint64))
    values = (seeds >> np.uint64(32)).astype(np.uint32)
    return values[:permutations] | np.uint32(1), values[permutations:]
