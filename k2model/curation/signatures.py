"""The small tables by which copies of documents are found: an exact hash, and for natural text bands and a sketch.

They have a row for each document of a cleaned part, in its order. What follows reads these tables and no text. What is
read by different readers is in files of its own, because a store hands out whole files, verified:

    signatures/   17 bytes a document: whoever compares hashes, and the part itself
    bands/        8 bytes a band (of natural text): whoever looks for look-alikes
    sketches/     a byte a permutation (of natural text): of those parts alone that hold a look-alike

Bands are one file a part: 14 of them for 16,000 documents are 1.8 MB, and whoever reads one of them reads all.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from k2model.curation import minhash
from k2model.curation.parts import Numbering, Place
from k2model.curation.texts import Flags, Texts, string_bytes
from k2model.recipe.schema import CorpusConfig

SIGNATURES, BANDS, SKETCHES = "signatures", "bands", "sketches"
EXACT_BYTES = 16


@dataclass(frozen=True)
class Signed:
    """The signatures of all documents: their numbers, and a way to their files.

    fetch: of paths like `bands/train/prose/00000.parquet`, the local folder that holds them all.
    """

    numbering: Numbering
    fetch: Callable[[Iterable[str]], Path]

    @classmethod
    def of(cls, cleaned: Path, places: Iterable[Place]) -> "Signed":
        """Those that `clean_part` wrote below a local folder."""
        return cls(Numbering.of(cleaned / SIGNATURES, list(places)), partial(_here, cleaned))

    def folder(self, kind: str, places: Iterable[Place]) -> Path:
        """Where the tables of that kind lie, of these places alone."""
        return self.fetch([f"{kind}/{place.name}.parquet" for place in places]) / kind


def _here(folder: Path, paths: Iterable[str]) -> Path:
    return folder


def schemas(config: CorpusConfig, natural: bool) -> dict[str, pa.Schema]:
    """By kind. `row` is that of the raw part; without `near` a text has no words."""
    signature = [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("exact", pa.binary(EXACT_BYTES), nullable=False),
        pa.field("duplicates", pa.int32(), nullable=False),
    ]
    if not natural:
        return {SIGNATURES: pa.schema(signature)}
    keys = [pa.field(column, pa.uint64(), nullable=False) for column in band_columns(config)]
    return {
        SIGNATURES: pa.schema(signature),
        BANDS: pa.schema([*keys, pa.field("near", pa.bool_(), nullable=False)]),
        SKETCHES: pa.schema([pa.field("sketch", pa.binary(config.minhash_permutations), nullable=False)]),
    }


def bands_of(config: CorpusConfig) -> tuple[int, int]:
    """(bands, rows a band) of the configured threshold."""
    return minhash.bands_for(config.near_duplicate_threshold, config.minhash_permutations)


def band_columns(config: CorpusConfig) -> list[str]:
    return [f"band_{band:02d}" for band in range(bands_of(config)[0])]


def signature_tables(
    rows: np.ndarray, strings: pa.LargeStringArray, duplicates: pa.Array, bodies: Texts | None, kept: Flags,
    config: CorpusConfig,
) -> dict[str, pa.Table]:  # fmt: skip
    """By kind, of the documents that are `kept`; `rows` and `strings` are theirs, `bodies` (of natural text) those of
    all of the batch."""
    octets, starts = string_bytes(strings)
    view = memoryview(octets.tobytes())
    exact = [
        hashlib.blake2b(view[start:end], digest_size=EXACT_BYTES).digest()
        for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    ]
    columns = {SIGNATURES: [pa.array(rows), pa.array(exact, type=pa.binary(EXACT_BYTES)), duplicates]}
    if bodies is not None:
        columns |= _near(bodies, kept, config)
    wanted = schemas(config, bodies is not None)
    return {kind: pa.table(columns[kind], schema=schema) for kind, schema in wanted.items()}


def _near(bodies: Texts, kept: Flags, config: CorpusConfig) -> dict[str, list[pa.Array]]:
    hashes, bounds = minhash.shingles(bodies, config.shingle_words)
    counts = np.diff(bounds)
    hashes = hashes[np.repeat(kept, counts)]
    own = np.concatenate([[0], np.cumsum(counts[kept])])
    minimum = minhash.minima(hashes, own, config.minhash_permutations)
    keys = minhash.band_keys(minimum, *bands_of(config))
    bands = [*map(pa.array, keys.T), pa.array(counts[kept] > 0)]
    return {BANDS: bands, SKETCHES: [packed(minhash.sketches(minimum))]}


def packed(sketches: minhash.Sketches) -> pa.Array:
    """[texts, permutations] bytes as a column."""
    width = pa.binary(sketches.shape[1])
    return pa.FixedSizeBinaryArray.from_buffers(width, len(sketches), [None, pa.py_buffer(sketches.tobytes())])


def unpacked(column: pa.Array) -> minhash.Sketches:
    """The rows of a fixed-size binary column as bytes: [rows, width]."""
    width = column.type.byte_width
    octets = np.frombuffer(column.buffers()[1], dtype=np.uint8)
    return octets[column.offset * width : (column.offset + len(column)) * width].reshape(len(column), width)
