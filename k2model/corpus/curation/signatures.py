"""The small table by which copies of documents are found: an exact hash, and for natural text bands and a sketch.

It has a row for each document of a cleaned part, in its order. What follows reads these tables and no text.
"""

import hashlib

import numpy as np
import pyarrow as pa

from k2model.corpus.curation import minhash
from k2model.corpus.curation.texts import Flags, Texts, string_bytes
from k2model.recipe.schema import CorpusConfig

EXACT_BYTES = 16


def schema(config: CorpusConfig, natural: bool) -> pa.Schema:
    """`row` is that of the raw part, `bytes` the length of the text; without `near` a text has no words."""
    fields = [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("exact", pa.binary(EXACT_BYTES), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("duplicates", pa.int32(), nullable=False),
    ]
    if natural:
        bands, _ = bands_of(config)
        fields += [pa.field(band_column(band), pa.uint64(), nullable=False) for band in range(bands)]
        fields += [
            pa.field("near", pa.bool_(), nullable=False),
            pa.field("sketch", pa.binary(config.minhash_permutations), nullable=False),
        ]
    return pa.schema(fields)


def bands_of(config: CorpusConfig) -> tuple[int, int]:
    """(bands, rows a band) of the configured threshold."""
    return minhash.bands_for(config.near_duplicate_threshold, config.minhash_permutations)


def band_column(band: int) -> str:
    return f"band_{band:02d}"


def signature_table(
    rows: np.ndarray, strings: pa.LargeStringArray, duplicates: pa.Array, bodies: Texts | None, kept: Flags,
    config: CorpusConfig,
) -> pa.Table:  # fmt: skip
    """Of the documents that are `kept`; `rows` and `strings` are theirs, `bodies` all of the batch (natural text)."""
    octets, starts = string_bytes(strings)
    view = memoryview(octets.tobytes())
    exact = [
        hashlib.blake2b(view[start:end], digest_size=EXACT_BYTES).digest()
        for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    ]
    columns = [rows, pa.array(exact, type=pa.binary(EXACT_BYTES)), np.diff(starts), duplicates]
    if bodies is not None:
        columns += _near(bodies, kept, config)
    return pa.table([pa.array(column) for column in columns], schema=schema(config, bodies is not None))


def _near(bodies: Texts, kept: Flags, config: CorpusConfig) -> list[pa.Array]:
    hashes, bounds = minhash.shingles(bodies, config.shingle_words)
    counts = np.diff(bounds)
    hashes = hashes[np.repeat(kept, counts)]
    own = np.concatenate([[0], np.cumsum(counts[kept])])
    minimum = minhash.minima(hashes, own, config.minhash_permutations)
    keys = minhash.band_keys(minimum, *bands_of(config))
    return [*map(pa.array, keys.T), pa.array(counts[kept] > 0), packed(minhash.sketches(minimum))]


def packed(sketches: minhash.Sketches) -> pa.Array:
    """[texts, permutations] bytes as a column."""
    width = pa.binary(sketches.shape[1])
    return pa.FixedSizeBinaryArray.from_buffers(width, len(sketches), [None, pa.py_buffer(sketches.tobytes())])


def unpacked(column: pa.Array) -> minhash.Sketches:
    """The rows of a fixed-size binary column as bytes: [rows, width]."""
    width = column.type.byte_width
    octets = np.frombuffer(column.buffers()[1], dtype=np.uint8)
    return octets[column.offset * width : (column.offset + len(column)) * width].reshape(len(column), width)
