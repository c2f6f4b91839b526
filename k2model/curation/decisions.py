"""Verdicts on copies, as a table beside each part: does a document stay, and how many does it stand for.

What is found of all documents is cut by their numbers into files of about `FILE_DOCUMENTS`, because a store hands out
whole files: a part is given the two that speak of its own documents, whatever the size of the corpus.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from k2model.curation.duplicates import read_links, read_rows
from k2model.curation.hashing import Ints
from k2model.curation.parts import Numbering, Place
from k2model.curation.signatures import SIGNATURES, Signed

EXACT, NEAR = "exact_duplicate", "near_duplicate"
GONE, STANDING = "gone", "standing"
FILE_DOCUMENTS = 1 << 20  # with a verdict in one file of each: some ten megabytes at most

#: A row for each row of a cleaned part: `rule` is empty when it stays, `original` the name of what it copies.
VERDICT_SCHEMA = pa.schema(
    [
        pa.field("rule", pa.string(), nullable=False),
        pa.field("original", pa.string(), nullable=False),
        pa.field("duplicates", pa.int32(), nullable=False),
    ]
)
#: By document that goes: what stands for it in the end.
GONE_SCHEMA = pa.schema(
    [
        pa.field("document", pa.int64(), nullable=False),
        pa.field("original", pa.int64(), nullable=False),
        pa.field("near", pa.bool_(), nullable=False),
    ]
)
#: By document that stands for others: the duplicates of those.
STANDING_SCHEMA = pa.schema(
    [pa.field("document", pa.int64(), nullable=False), pa.field("duplicates", pa.int64(), nullable=False)]
)
_GROUP = 1 << 16  # rows a row group: a part reads only the groups that speak of it


def merge(signed: Signed, exact: Sequence[Path], near: Path, folder: Path) -> dict[str, float]:
    """Two tables below `folder` by document's number: `gone/`, and `standing/` for those they copy; see the module."""
    copies, firsts = read_links(exact)
    similar, leaders = read_links([near])
    documents = np.concatenate([copies, similar])
    originals = np.concatenate([_through(similar, leaders, firsts), leaders])
    order = np.argsort(documents)
    documents, originals, near_too = documents[order], originals[order], order >= len(copies)
    own = read_rows(signed, SIGNATURES, documents, "duplicates").reshape(-1).astype(np.int64)
    standing, who = np.unique(originals, return_inverse=True)
    counts = np.zeros(len(standing), dtype=np.int64)
    np.add.at(counts, who, own)
    _write(folder / GONE, [documents, originals, near_too], GONE_SCHEMA, signed.numbering)
    _write(folder / STANDING, [standing, counts], STANDING_SCHEMA, signed.numbering)
    return {EXACT: float(len(copies)), NEAR: float(len(similar))}


def verdict_files(numbering: Numbering, place: Place) -> tuple[str, str]:
    """The paths below the folder of `merge` that speak of the documents of `place`: gone and standing."""
    start, _ = numbering.span(place)
    name = _file_name(start // FILE_DOCUMENTS)
    return f"{GONE}/{name}", f"{STANDING}/{name}"


def write_verdict(cleaned: Path, numbering: Numbering, merged: Path, folder: Path, place: Place) -> dict[str, float]:
    """The verdicts on one part, as `folder`/<its name>.parquet; `cleaned` is the folder that `clean_part` wrote to,
    `merged` the one of `merge`, of which `verdict_files` are read."""
    gone_file, standing_file = verdict_files(numbering, place)
    start, end = numbering.span(place)
    signature = pq.read_table(place.file(cleaned / SIGNATURES), columns=["duplicates"], partitioning=None)
    counts = signature["duplicates"].to_numpy().astype(np.int64)
    standing = _read(merged / standing_file, start, end)
    counts[standing["document"].to_numpy() - start] += standing["duplicates"].to_numpy()
    gone = _read(merged / gone_file, start, end)
    rules, names = np.full(end - start, "", dtype=object), np.full(end - start, "", dtype=object)
    rows = gone["document"].to_numpy() - start
    rules[rows] = np.where(gone["near"].to_numpy(), NEAR, EXACT)
    names[rows] = [numbering.name(original) for original in gone["original"].to_pylist()]
    columns = [pa.array(rules, pa.string()), pa.array(names, pa.string()), pa.array(np.minimum(counts, 2**31 - 1))]
    path = place.file(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, names=VERDICT_SCHEMA.names).cast(VERDICT_SCHEMA), path, compression="zstd")
    return {"documents": float(end - start), "dropped": float(len(rows))}


def _write(folder: Path, columns: Sequence["np.ndarray"], schema: pa.Schema, numbering: Numbering) -> None:
    """Rows in the order of their documents; all documents of a place are in the file that its first one belongs to."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = numbering.bounds[:-1]
    files, first = np.unique(starts // FILE_DOCUMENTS, return_index=True)
    cuts = np.searchsorted(columns[0], np.append(starts[first], numbering.documents))
    for file, (begin, end) in zip(files.tolist(), pairwise(cuts.tolist()), strict=True):
        table = pa.table([pa.array(column[begin:end]) for column in columns], schema=schema)
        pq.write_table(table, folder / _file_name(file), compression="zstd", row_group_size=_GROUP)


def _file_name(file: int) -> str:
    return f"{file:05d}.parquet"


def _read(path: Path, start: int, end: int) -> pa.Table:
    """The rows of documents in [start, end)."""
    return pq.read_table(path, filters=[("document", ">=", start), ("document", "<", end)], partitioning=None)


def _through(similar: Ints, leaders: Ints, numbers: Ints) -> Ints:
    """Each number, or its leader when it is itself a near copy."""
    if not len(similar):
        return numbers
    order = np.argsort(similar)
    ordered = similar[order]
    index = np.minimum(np.searchsorted(ordered, numbers), len(ordered) - 1)
    return np.where(ordered[index] == numbers, leaders[order][index], numbers)
