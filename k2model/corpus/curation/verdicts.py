"""Verdicts on copies, as a table beside each part: does a document stay, and how many does it stand for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from k2model.corpus.curation.duplicates import read_rows
from k2model.corpus.curation.hashing import Ints
from k2model.corpus.curation.links import read_links
from k2model.corpus.curation.places import Numbering, Place
from k2model.corpus.curation.signatures import SIGNATURES, Signed

EXACT, NEAR = "exact_duplicate", "near_duplicate"
GONE, STANDING = "gone.parquet", "standing.parquet"

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
    """Two tables below `folder` by document's number: `gone.parquet`, and `standing.parquet` for those they copy."""
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
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / GONE, [documents, originals, near_too], GONE_SCHEMA)
    _write(folder / STANDING, [standing, counts], STANDING_SCHEMA)
    return {EXACT: float(len(copies)), NEAR: float(len(similar))}


def write_verdict(cleaned: Path, numbering: Numbering, merged: Path, folder: Path, place: Place) -> dict[str, float]:
    """The verdicts on one part, as `folder`/<its name>.parquet; `cleaned` is the folder that `clean_part` wrote to,
    `merged` the one of `merge`."""
    start, end = numbering.span(place)
    signature = pq.read_table(place.file(cleaned / SIGNATURES), columns=["duplicates"], partitioning=None)
    counts = signature["duplicates"].to_numpy().astype(np.int64)
    standing = _read(merged / STANDING, start, end)
    counts[standing["document"].to_numpy() - start] += standing["duplicates"].to_numpy()
    gone = _read(merged / GONE, start, end)
    rules, names = np.full(end - start, "", dtype=object), np.full(end - start, "", dtype=object)
    rows = gone["document"].to_numpy() - start
    rules[rows] = np.where(gone["near"].to_numpy(), NEAR, EXACT)
    names[rows] = [numbering.name(original) for original in gone["original"].to_pylist()]
    columns = [pa.array(rules, pa.string()), pa.array(names, pa.string()), pa.array(np.minimum(counts, 2**31 - 1))]
    path = place.file(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, names=VERDICT_SCHEMA.names).cast(VERDICT_SCHEMA), path, compression="zstd")
    return {"documents": float(end - start), "dropped": float(len(rows))}


def _write(path: Path, columns: Sequence["np.ndarray"], schema: pa.Schema) -> None:
    table = pa.table([pa.array(column) for column in columns], schema=schema)
    pq.write_table(table, path, compression="zstd", row_group_size=_GROUP)


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
