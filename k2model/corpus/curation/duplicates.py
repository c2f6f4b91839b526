"""Finding copies over the whole corpus, from signatures alone: first exact ones, then near ones band by band.

Documents go by their number in the order of priority (`Numbering`). Each function makes one file of links, (document,
the earlier one it copies), and can run anywhere, in any order:

    exact_links   a slice of all hashes
    band_links    a slice of one band's keys, among documents that are no exact copies
    near_links    all bands' links; which documents stay

Memory is bounded by a slice, and in `near_links` by the documents that have a look-alike. A near copy is similar to the
document that stands for it, not only to a copy of a copy: a chain of small differences makes no cluster.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from k2model.corpus.curation import minhash
from k2model.corpus.curation.hashing import Hashes, Ints
from k2model.corpus.curation.places import Numbering, batches
from k2model.corpus.curation.signatures import band_column, unpacked
from k2model.recipe.schema import CorpusConfig

SLICE_DOCUMENTS = 16_000_000  # some 50 bytes each while they are sorted
#: Documents in a band (in a cluster of bands) that the others are compared with: a bound on work, not on memory.
BAND_LEADERS, CLUSTER_LEADERS = 64, 1_024
_PAIRS = 1 << 18  # sketches compared at a time
_ROWS = 1 << 16  # signatures read at a time

LINK_SCHEMA = pa.schema([pa.field("document", pa.int64(), nullable=False), pa.field("original", pa.int64(), False)])


def slices_for(documents: int) -> int:
    """Into how many slices hashes are cut so that one fits in about a gigabyte."""
    return max(1, -(-documents // SLICE_DOCUMENTS))


def exact_links(signatures: Path, numbering: Numbering, out: Path, part: int = 0, parts: int = 1) -> dict[str, float]:
    """Links of documents to the first with equal text, for the `part`-th of `parts` slices of all hashes."""
    high, low, numbers = list[Hashes](), list[Hashes](), list[Ints]()
    for place, (start, _) in zip(numbering.places, _starts(numbering), strict=True):
        for batch in batches(place.file(signatures), ["exact"], _ROWS):
            words = unpacked(batch.column("exact")).view(np.uint64)
            chosen = np.flatnonzero(words[:, 0] % np.uint64(parts) == part)
            high.append(words[chosen, 0])
            low.append(words[chosen, 1])
            numbers.append(chosen + start)
            start += batch.num_rows
    one, two, number = _joined(high, np.uint64), _joined(low, np.uint64), _joined(numbers, np.int64)
    order = np.lexsort((two, one))  # stable: equal hashes stay in the order of their numbers
    one, two, number = one[order], two[order], number[order]
    same = np.zeros(len(number), dtype=bool)
    same[1:] = (one[1:] == one[:-1]) & (two[1:] == two[:-1])
    firsts = number[~same][np.cumsum(~same) - 1] if len(number) else number
    return {"links": float(_write_links(out, number[same], firsts[same]))}


def band_links(
    signatures: Path, numbering: Numbering, natural: Iterable[str], config: CorpusConfig, exact: Sequence[Path],
    out: Path, band: int, part: int = 0, parts: int = 1,
) -> dict[str, float]:  # fmt: skip
    """Links of documents of the `natural` sources to an earlier one with the same key of `band` and a sketch as
    similar as the threshold."""
    copies, wanted = np.unique(read_links(exact)[0]), frozenset(natural)
    keys, numbers = list[Hashes](), list[Ints]()
    for place, (start, _) in zip(numbering.places, _starts(numbering), strict=True):
        if place.source not in wanted:
            continue
        for batch in batches(place.file(signatures), [band_column(band), "near"], _ROWS):
            key = batch.column(band_column(band)).to_numpy(zero_copy_only=False)
            chosen = batch.column("near").to_numpy(zero_copy_only=False) & (key % np.uint64(parts) == part)
            chosen &= ~_contains(copies, np.arange(start, start + batch.num_rows))
            keys.append(key[chosen])
            numbers.append(np.flatnonzero(chosen) + start)
            start += batch.num_rows
    key, number = _joined(keys, np.uint64), _joined(numbers, np.int64)
    order = np.argsort(key, kind="stable")
    key, number = key[order], number[order]
    again = np.zeros(len(key) + 1, dtype=bool)
    again[1:-1] = key[1:] == key[:-1]
    meets = again[1:] | again[:-1]
    groups = np.cumsum(~again[:-1])[meets]
    links = _leaders(signatures, numbering, number[meets], groups, config.near_duplicate_threshold, BAND_LEADERS)
    return {"links": float(_write_links(out, *links))}


def near_links(
    signatures: Path, numbering: Numbering, config: CorpusConfig, bands: Sequence[Path], out: Path
) -> dict[str, float]:
    """Links of near copies to the document that stays: in each cluster of linked documents, taken in order, one
    stays unless it is similar to one that stays."""
    documents, originals = read_links(bands)
    numbers = np.unique(np.concatenate([documents, originals]))
    clusters = components(np.searchsorted(numbers, documents), np.searchsorted(numbers, originals), len(numbers))
    order = np.argsort(clusters, kind="stable")
    threshold, links = config.near_duplicate_threshold, list[tuple[Ints, Ints]]()
    for chosen in _whole_groups(clusters[order], SLICE_DOCUMENTS // 4):
        rows = order[chosen]
        links.append(_leaders(signatures, numbering, numbers[rows], clusters[rows], threshold, CLUSTER_LEADERS))
    document, original = (_joined([link[side] for link in links], np.int64) for side in (0, 1))
    return {"links": float(_write_links(out, document, original)), "clusters": float(len(np.unique(clusters)))}


def components(one: Ints, other: Ints, count: int) -> Ints:
    """For each of `count` nodes the smallest node that edges join it with: hooking and pointer jumping."""
    root = np.arange(count)
    while len(one):
        low, high = np.minimum(root[one], root[other]), np.maximum(root[one], root[other])
        if (low == high).all():
            break
        np.minimum.at(root, high, low)
        while not np.array_equal(root, root[root]):
            root = root[root]
    return root


def leaders(sketches: minhash.Sketches, groups: Ints, threshold: float, most: int) -> Ints:
    """For each row of sorted `groups` the row it is similar to, or its own: in each group the first row leads, takes
    those similar to it, and the first of the others leads next, at most `most` times."""
    leader = np.arange(len(groups))
    left = np.arange(len(groups))
    for _ in range(most):
        _, first, sizes = np.unique(groups[left], return_index=True, return_counts=True)
        heads = np.repeat(left[first], sizes)
        followers = left != heads
        left, heads = left[followers], heads[followers]
        if not len(left):
            break
        similar = _similar(sketches, left, heads, threshold)
        leader[left[similar]] = heads[similar]
        left = left[~similar]
    return leader


def _similar(sketches: minhash.Sketches, one: Ints, other: Ints, threshold: float) -> "np.ndarray":
    parts = [
        minhash.similarity(sketches[one[i : i + _PAIRS]], sketches[other[i : i + _PAIRS]]) >= threshold
        for i in range(0, len(one), _PAIRS)
    ]
    return np.concatenate(parts)


def _leaders(
    signatures: Path, numbering: Numbering, numbers: Ints, groups: Ints, threshold: float, most: int
) -> tuple[Ints, Ints]:
    """Links among documents `numbers` of sorted `groups`, by their sketches."""
    wanted, where = np.unique(numbers, return_inverse=True)
    leader = leaders(read_rows(signatures, numbering, wanted, "sketch")[where], groups, threshold, most)
    followers = np.flatnonzero(leader != np.arange(len(leader)))
    return numbers[followers], numbers[leader[followers]]


def read_rows(signatures: Path, numbering: Numbering, numbers: Ints, column: str) -> "np.ndarray":
    """A column of the signatures of the documents with these sorted numbers; bytes come as [documents, width]."""
    cuts = np.searchsorted(numbers, numbering.bounds)
    found = []
    for index in np.flatnonzero(np.diff(cuts)):
        own = numbers[cuts[index] : cuts[index + 1]] - numbering.bounds[index]
        start = 0
        for batch in batches(numbering.places[index].file(signatures), [column], _ROWS):
            low, high = np.searchsorted(own, [start, start + batch.num_rows])
            if high > low:
                taken = batch.column(column).take(pa.array(own[low:high] - start))
                binary = pa.types.is_fixed_size_binary(taken.type)
                found.append(unpacked(taken).copy() if binary else taken.to_numpy(zero_copy_only=False))
            start += batch.num_rows
    return np.concatenate(found) if found else np.zeros((0, 1), dtype=np.uint8)


def read_links(paths: Sequence[Path]) -> tuple[Ints, Ints]:
    """(documents, originals) of several files."""
    tables = [pq.read_table(path, schema=LINK_SCHEMA) for path in paths]
    table = pa.concat_tables(tables) if tables else LINK_SCHEMA.empty_table()
    return table["document"].to_numpy(), table["original"].to_numpy()


def _write_links(path: Path, documents: Ints, originals: Ints) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    order = np.lexsort((originals, documents))
    columns = [pa.array(side[order], type=pa.int64()) for side in (documents, originals)]
    pq.write_table(pa.table(columns, schema=LINK_SCHEMA), path, compression="zstd")
    return len(documents)


def _starts(numbering: Numbering) -> Iterable[tuple[int, int]]:
    return zip(numbering.bounds[:-1].tolist(), numbering.bounds[1:].tolist(), strict=True)


def _contains(ordered: Ints, values: Ints) -> "np.ndarray":
    """Whether each value stands in a sorted array."""
    if not len(ordered):
        return np.zeros(len(values), dtype=bool)
    return ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values


def _joined(arrays: Sequence["np.ndarray"], dtype: type) -> "np.ndarray":
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=dtype)


def _whole_groups(groups: Ints, most: int) -> Iterable[slice]:
    """Slices of a sorted array of about `most` entries that do not cut a group."""
    start = 0
    while start < len(groups):
        last = groups[min(start + most, len(groups)) - 1]
        stop = int(np.searchsorted(groups, last, side="right"))
        yield slice(start, stop)
        start = stop
