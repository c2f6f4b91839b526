"""What is compared over the whole corpus, on its way to whoever compares it: two shuffles, in and out of slices.

Documents of neighbouring parts are a group; hashes and keys of one range are a slice.

    shuffle_signatures   a group: the hashes and keys of its documents, for the slices they lie in
    match_hashes         a slice: pairs of equal texts; the copies among them, for the groups they are in
    match_keys           a slice: the keys that several documents have, for the groups these are in
    shuffle_sketches     a group: of those of its documents that are no copies, such keys and sketches, for slices
    match_sketches       a slice: pairs of similar texts

So each reads what is meant for it and nothing twice, and sketches, which are the most of it, travel for look-alikes
alone. Groups are larger than parts, because a slice fetches a range of each: of parts, with some ten thousand documents
and thousands of slices, a range would be two hundred bytes.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from k2model.curation.duplicates import (
    exact_duplicate_pairs,
    near_duplicate_pairs,
    read_rows,
    shared_keys,
    write_pairs,
)
from k2model.curation.ranges import Columns, Ranges, RangeWriter, range_of, write_ranges
from k2model.curation.signatures import (
    BANDS,
    SIGNATURE_SCHEMA,
    SIGNATURES,
    SKETCHES,
    CorpusSignatures,
    band_columns,
    schemas,
    unpacked,
)
from k2model.curation.texts import Ints
from k2model.documents.tables import read_batches, selected
from k2model.recipe.schema import CorpusConfig

#: Kinds of ranges, and what is in them.
HASHES, KEYS, COPIES, SHARED, SKETCHED = "hashes", "keys", "copies", "shared", "sketched"
_HASHES = Columns.of(one="u8", two="u8", document="i8")
_KEYS = Columns.of(key="u8", document="i8")
_COPIES = Columns.of(document="i8")
_ROWS = 1 << 16  # signatures read at a time


def shuffle_signatures(
    signatures: CorpusSignatures, natural: Sequence[str], config: CorpusConfig, hashes: int, keys: int, folder: Path,
    group: str,
) -> None:  # fmt: skip
    """Of the documents that `signatures` number, the hashes for `hashes` slices and, of the `natural` sources, the
    bands' keys for `keys` slices. In memory are 24 bytes a hash or 16 a key, whichever is more."""
    writer, spans = RangeWriter(_HASHES, hashes), list(signatures.numbering.spans())
    place = signatures.folder(SIGNATURES, signatures.numbering.parts)
    for part, start, _ in spans:
        for batch in read_batches(part.file(place), selected(SIGNATURE_SCHEMA, "exact"), _ROWS):
            words = unpacked(batch.column("exact")).view(np.uint64)
            numbers = np.arange(start, start + batch.num_rows)
            writer.add(range_of(words[:, 0], hashes), words[:, 0], words[:, 1], numbers)
            start += batch.num_rows
    writer.write(folder, HASHES, group)
    writer, spans = RangeWriter(_KEYS, keys), list(signatures.numbering.spans(natural))
    place, columns = signatures.folder(BANDS, [part for part, _, _ in spans]), band_columns(config)
    for part, start, _ in spans:
        for batch in read_batches(part.file(place), schemas(config, natural=True)[BANDS], _ROWS):
            rows = np.flatnonzero(batch.column("near").to_numpy(zero_copy_only=False))
            found = np.stack([batch.column(name).to_numpy()[rows] for name in columns], axis=1).reshape(-1)
            writer.add(range_of(found, keys), found, np.repeat(rows + start, len(columns)))
            start += batch.num_rows
    writer.write(folder, KEYS, group)


def match_hashes(ranges: Ranges, index: int, bounds: Ints, out: Path, folder: Path, name: str) -> int:
    """Writes the pairs of equal texts of the slice `index` to `out`, and to the groups, whose documents are within
    `bounds`, which of theirs are copies. Returns how many pairs there are."""
    copies, originals = exact_duplicate_pairs(*ranges.read(HASHES, index, _HASHES))
    pairs = write_pairs(out, copies, originals)
    _to_groups(bounds, np.sort(copies), [], _COPIES, folder, COPIES, name)
    return pairs


def match_keys(ranges: Ranges, index: int, bounds: Ints, folder: Path, name: str) -> int:
    """Writes to the groups the keys of the slice `index` that several documents have; returns how many rows that is."""
    key, number = ranges.read(KEYS, index, _KEYS)
    order, meets = shared_keys(key)
    rows = np.sort(order[meets])
    _to_groups(bounds, number[rows], [key[rows]], _KEYS, folder, SHARED, name)
    return len(rows)


def _to_groups(
    bounds: Ints, number: Ints, arrays: Sequence[np.ndarray], columns: Columns, folder: Path, kind: str, name: str
) -> None:
    """Rows of ascending documents, cut where groups begin."""
    cuts = np.searchsorted(number, bounds)
    ranges = ([array[begin:end] for array in (*arrays, number)] for begin, end in pairwise(cuts))
    write_ranges(folder, kind, name, columns, ranges)


def shuffle_sketches(
    matches: Ranges, index: int, signatures: CorpusSignatures, config: CorpusConfig, slices: int, folder: Path,
    group: str,
) -> int:  # fmt: skip
    """Of the group `index`, keys that are shared and sketches of their documents, for `slices` slices of keys; returns
    how many keys. In memory is a sketch for each of the group's documents that has such a key."""
    (copies,) = matches.read(COPIES, index, _COPIES)
    key, number = matches.read(SHARED, index, _KEYS)
    own = np.flatnonzero(~np.isin(number, copies))
    own = own[np.argsort(number[own], kind="stable")]
    key, number = key[own], number[own]
    wanted = np.unique(number)
    sketches = read_rows(signatures, SKETCHES, wanted, schemas(config, natural=True)[SKETCHES])
    reader = range_of(key, slices)
    order = np.argsort(reader, kind="stable")
    cuts = np.searchsorted(reader[order], np.arange(slices + 1))
    rows = [order[begin:end] for begin, end in pairwise(cuts)]
    write_ranges(folder, KEYS, group, _KEYS, ([key[one], number[one]] for one in rows))

    def sketched() -> Iterator[list[np.ndarray]]:
        for one in rows:
            documents = np.unique(number[one])
            yield [sketches[np.searchsorted(wanted, documents)], documents]

    write_ranges(folder, SKETCHED, group, _sketched(config), sketched())
    return len(key)


def match_sketches(ranges: Ranges, index: int, config: CorpusConfig, out: Path) -> int:
    """Writes the pairs of similar texts of the slice `index` to `out`; returns how many there are."""
    key, number = ranges.read(KEYS, index, _KEYS)
    sketches, sketched = ranges.read(SKETCHED, index, _sketched(config))
    threshold = config.near_duplicate_threshold
    return write_pairs(out, *near_duplicate_pairs(key, number, sketched, sketches, threshold))


def _sketched(config: CorpusConfig) -> Columns:
    return Columns.of(sketch=f"u1*{config.minhash_permutations}", document="i8")
