"""Finding copies from signatures alone: pairs of a document and the earlier one it copies, and which of them stays.

Documents go by their number in the order of priority (`Numbering`).

    exact_duplicate_pairs   of the hashes of a slice
    near_duplicate_pairs    of a slice's keys of all bands, of documents that are no exact copies, and their sketches
    near_duplicates         from the pairs of all slices, which document stays for which

A slice is every hash or key of a range, so that equal ones are in one slice; memory is bounded by it, and in
`near_duplicates` by the documents that have a look-alike. A near copy is similar to the document that stands for it,
not only to a copy of a copy: a chain of small differences makes no cluster.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from k2model.curation.signatures import SKETCHES, CorpusSignatures, Sketches, schemas, similarity, unpacked
from k2model.curation.texts import Flags, Hashes, Ints
from k2model.documents.tables import read_batches, read_table, required, rows_of, write_table
from k2model.recipe.schema import CorpusConfig

PAIR_SCHEMA = required(document=pa.int64(), original=pa.int64())


def read_pairs(paths: Sequence[Path]) -> tuple[Ints, Ints]:
    """(documents, originals) of several files, numbers [pairs] each."""
    tables = [read_table(path, PAIR_SCHEMA) for path in paths]
    table = pa.concat_tables(tables) if tables else PAIR_SCHEMA.empty_table()
    return table["document"].to_numpy(), table["original"].to_numpy()


def write_pairs(path: Path, documents: Ints, originals: Ints) -> int:
    """Each pair once, in the order of documents; returns how many there are."""
    order = np.lexsort((originals, documents))
    documents, originals = documents[order], originals[order]
    fresh = np.ones(len(documents), dtype=bool)
    fresh[1:] = (documents[1:] != documents[:-1]) | (originals[1:] != originals[:-1])
    columns = [pa.array(ends[fresh], type=pa.int64()) for ends in (documents, originals)]
    write_table(path, pa.table(columns, schema=PAIR_SCHEMA))
    return int(fresh.sum())


def components(root: Ints, one: Ints, other: Ints) -> Ints:
    """For each node the smallest node that edges join it with, [nodes]: hooking and pointer jumping.

    Edges are `one` and `other` [edges]. `root` is what this gave for earlier edges, or every node's own number.
    """
    root = root.copy()
    while len(one):
        low, high = np.minimum(root[one], root[other]), np.maximum(root[one], root[other])
        if (low == high).all():
            break
        np.minimum.at(root, high, low)
        while not np.array_equal(root, root[root]):
            root = root[root]
    return root


#: Documents in a band (in a cluster of bands) that the others are compared with: a bound on work, not on memory.
BAND_LEADERS, CLUSTER_LEADERS = 64, 1_024
_SKETCHES = 1 << 22  # held at a time: half a gigabyte
_PAIRS = 1 << 18  # sketches compared at a time
_ROWS = 1 << 16  # signatures read at a time
_NONE = np.zeros(0, dtype=np.int64)


def exact_duplicate_pairs(one: Hashes, two: Hashes, number: Ints) -> tuple[Ints, Ints]:
    """(copies, originals): pairs of a document and the first with equal text, of halves of hashes and the ascending
    numbers of their documents, [hashes] each."""
    order = np.lexsort((two, one))  # stable: equal hashes stay in the order of their numbers
    one, two, number = one[order], two[order], number[order]
    same = np.zeros(len(number), dtype=bool)
    same[1:] = (one[1:] == one[:-1]) & (two[1:] == two[:-1])
    firsts = number[~same][np.cumsum(~same) - 1] if len(number) else number
    return number[same], firsts[same]


def shared_keys(key: Hashes) -> tuple[Ints, Flags]:
    """(the stable order of keys, whether another one is equal to it in that order), [keys] each."""
    order = np.argsort(key, kind="stable")
    key = key[order]
    again = np.zeros(len(key) + 1, dtype=bool)
    again[1:-1] = key[1:] == key[:-1]
    return order, again[1:] | again[:-1]


def near_duplicate_pairs(
    key: Hashes, number: Ints, sketched: Ints, sketches: Sketches, threshold: float
) -> tuple[Ints, Ints]:
    """(documents, originals): pairs of a document and an earlier one with the same key and a sketch as similar as the
    `threshold`.

    key, number: of bands, and the ascending numbers of their documents, [keys]. sketched, sketches: the ascending
    numbers of all these documents, and their sketches."""
    order, meets = shared_keys(key)
    key, number = key[order][meets], number[order][meets]
    groups = np.cumsum(np.append([False], key[1:] != key[:-1])[: len(key)])  # the keys of different bands differ

    def of(numbers: Ints) -> Sketches:
        return sketches[np.searchsorted(sketched, numbers)]

    return _leaders(of, number, groups, threshold, BAND_LEADERS)


def near_duplicates(
    signatures: CorpusSignatures, config: CorpusConfig, pairs: Sequence[Path], gone: Ints = _NONE
) -> tuple[Ints, Ints]:
    """(documents, originals): near copies and the document that stays for each, from the files of all pairs.

    In each cluster of paired documents, taken in order, one stays unless it is similar to one that stays. Those that
    are `gone` for another reason stand for none."""
    numbers = np.zeros(0, dtype=np.int64)

    def nodes() -> int:
        return len(numbers)

    for ends in _many(pairs, nodes):
        numbers = np.unique(np.concatenate([numbers, *ends]))
    clusters = np.arange(len(numbers))
    for ends in _many(pairs, nodes):
        clusters = components(clusters, *(np.searchsorted(numbers, own) for own in ends))
    stays = ~np.isin(numbers, gone)
    numbers, clusters = numbers[stays], clusters[stays]
    order = np.argsort(clusters, kind="stable")
    sketches = _sketches_of(signatures, config, numbers)
    return _leaders(sketches, numbers[order], clusters[order], config.near_duplicate_threshold, CLUSTER_LEADERS)


def _many(paths: Sequence[Path], least: Callable[[], int]) -> Iterator[tuple[Ints, Ints]]:
    """The pairs of several files at a time, `least` or more, so that what costs as much as that is done a few times."""
    begin, held = 0, 0
    for end, path in enumerate(paths, start=1):
        held += rows_of(path)
        if held >= max(least(), _PAIRS) or end == len(paths):
            yield read_pairs(paths[begin:end])
            begin, held = end, 0


def _sketches_of(signatures: CorpusSignatures, config: CorpusConfig, numbers: Ints) -> Callable[[Ints], Sketches]:
    """What gives the sketches of some of these ascending numbers. Each file is read once: clusters have documents of
    any part, so the sketches of all are laid out, on the disk where they are many."""
    pieces = (numbers[begin : begin + _SKETCHES] for begin in range(0, len(numbers), _SKETCHES))
    table, row = np.zeros((0, 1), dtype=np.uint8), 0
    for piece in pieces:
        own = read_rows(signatures, SKETCHES, piece, schemas(config, natural=True)[SKETCHES])
        if len(own) == len(numbers):
            table = own
            break
        if not row:
            file = tempfile.TemporaryFile()  # noqa: SIM115  (the map holds it)
            table = np.memmap(file, dtype=np.uint8, mode="w+", shape=(len(numbers), own.shape[1]))
        table[row : row + len(own)] = own
        row += len(own)
    return lambda wanted: np.asarray(table[np.searchsorted(numbers, wanted)])


def leaders(sketches: Sketches, whose: Ints, groups: Ints, threshold: float, most: int) -> Ints:
    """For each row of sorted `groups` the row it is similar to, or its own: in each group the first row leads, takes
    those similar to it, and the first of the others leads next, at most `most` times.

    `whose` is the sketch of each row."""
    leader = np.arange(len(groups))
    left = np.arange(len(groups))
    for _ in range(most):
        _, first, sizes = np.unique(groups[left], return_index=True, return_counts=True)
        heads = np.repeat(left[first], sizes)
        followers = left != heads
        left, heads = left[followers], heads[followers]
        if not len(left):
            break
        pairs = (slice(at, at + _PAIRS) for at in range(0, len(left), _PAIRS))
        alike = [similarity(sketches[whose[left[pair]]], sketches[whose[heads[pair]]]) for pair in pairs]
        similar = np.concatenate(alike) >= threshold
        leader[left[similar]] = heads[similar]
        left = left[~similar]
    return leader


def _leaders(
    sketches: Callable[[Ints], Sketches], numbers: Ints, groups: Ints, threshold: float, most: int
) -> tuple[Ints, Ints]:
    """Pairs among documents `numbers` of sorted `groups`; `sketches` gives those of ascending numbers."""
    documents, originals = list[Ints](), list[Ints]()
    for chosen in whole_groups(groups, _SKETCHES):
        own = numbers[chosen]
        wanted, where = np.unique(own, return_inverse=True)
        leader = leaders(sketches(wanted), where, groups[chosen], threshold, most)
        followers = np.flatnonzero(leader != np.arange(len(leader)))
        documents.append(own[followers])
        originals.append(own[leader[followers]])
    return _joined(documents, np.int64), _joined(originals, np.int64)


def read_rows(signatures: CorpusSignatures, kind: str, numbers: Ints, schema: pa.Schema) -> "np.ndarray":
    """The one column of `schema` of the signatures of the documents with these sorted numbers; bytes come as
    [documents, width].

    Only the files that hold one of them are fetched."""
    numbering = signatures.numbering
    cuts = np.searchsorted(numbers, numbering.bounds)
    holding = np.flatnonzero(np.diff(cuts))
    folder = signatures.folder(kind, [numbering.parts[index] for index in holding])
    found = []
    for index in holding:
        own = numbers[cuts[index] : cuts[index + 1]] - numbering.bounds[index]
        start = 0
        for batch in read_batches(numbering.parts[index].file(folder), schema, _ROWS):
            low, high = np.searchsorted(own, [start, start + batch.num_rows])
            if high > low:
                taken = batch.column(0).take(pa.array(own[low:high] - start))
                binary = pa.types.is_fixed_size_binary(taken.type)
                found.append(unpacked(taken).copy() if binary else taken.to_numpy(zero_copy_only=False))
            start += batch.num_rows
    return np.concatenate(found) if found else np.zeros((0, 1), dtype=np.uint8)


def _joined(arrays: Sequence["np.ndarray"], dtype: type) -> "np.ndarray":
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=dtype)


def whole_groups(groups: Ints, most: int) -> Iterable[slice]:
    """Slices of a sorted array of about `most` entries that do not cut a group."""
    start = 0
    while start < len(groups):
        last = groups[min(start + most, len(groups)) - 1]
        stop = int(np.searchsorted(groups, last, side="right"))
        yield slice(start, stop)
        start = stop
