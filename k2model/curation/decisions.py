"""Decisions on copies, from the pairs of all slices: whether a document stays, and how many it stands for.

What is decided of all documents is cut by their numbers into files of about `FILE_DOCUMENTS`, because a store hands out
whole files: a part is given the two that speak of its own documents, whatever the size of the corpus.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from k2model.curation.duplicates import near_duplicates, read_pairs, read_rows
from k2model.curation.known import COPIES_SCHEMA, KnownCopies
from k2model.curation.parts import Numbering
from k2model.curation.signatures import SIGNATURE_SCHEMA, SIGNATURES, CorpusSignatures
from k2model.curation.texts import Ints
from k2model.documents.tables import read_table, required, selected, write_table
from k2model.recipe.schema import CorpusConfig

EXACT, NEAR = "exact_duplicate", "near_duplicate"
GONE, STANDING, KNOWN = "gone", "standing", "known"
FILE_DOCUMENTS = 1 << 20  # decided on in one file of each: some ten megabytes at most

#: By document that goes: the name of what stands for it in the end, so that a part need not know all numbers.
GONE_SCHEMA = required(document=pa.int64(), original=pa.string(), near=pa.bool_())
#: By document that stands for others: the duplicates of those.
STANDING_SCHEMA = required(document=pa.int64(), duplicates=pa.int64())
DECISION_SCHEMA = required(rule=pa.string(), original=pa.string(), duplicates=pa.int32())
_GROUP = 1 << 16  # rows a row group: a part reads only the groups that speak of it


def decide(
    signatures: CorpusSignatures, config: CorpusConfig, exact: Sequence[Path], near: Sequence[Path], folder: Path,
    known: KnownCopies | None = None,
) -> dict[str, float]:  # fmt: skip
    """Write two tables below `folder` by document's number, `gone/` and `standing/`; returns how many are gone.

    `exact` and `near` are the files of pairs of all slices. Memory is bounded by the documents that are in one.
    known: documents that copy one of another corpus. They go before any other is compared with them, and a third
    table, `known/`, names what they copy; where there are none, nothing differs.
    """
    elsewhere, names, alike = known or KnownCopies.none()
    copies, firsts = read_pairs(exact)
    left = ~np.isin(copies, elsewhere)
    copies, firsts = copies[left], firsts[left]
    equal = np.isin(firsts, elsewhere)  # their text is a near copy, but near copies are not looked for among theirs
    names = pa.concat_arrays([names, names.take(pa.array(np.searchsorted(elsewhere, firsts[equal])))])
    elsewhere, alike = np.append(elsewhere, copies[equal]), np.append(alike, np.zeros(int(equal.sum()), dtype=bool))
    copies, firsts = copies[~equal], firsts[~equal]
    similar, leaders = near_duplicates(signatures, config, near, elsewhere)
    if len(elsewhere):
        order = np.argsort(elsewhere)
        columns = [elsewhere[order], names.take(pa.array(order)), alike[order]]
        _write(folder / KNOWN, columns, COPIES_SCHEMA, signatures.numbering)
    documents = np.concatenate([copies, similar])
    originals = np.concatenate([_through(similar, leaders, firsts), leaders])
    order = np.argsort(documents)
    documents, originals, near_too = documents[order], originals[order], order >= len(copies)
    own = read_rows(signatures, SIGNATURES, documents, selected(SIGNATURE_SCHEMA, "duplicates"))
    own = own.reshape(-1).astype(np.int64)
    standing, who = np.unique(originals, return_inverse=True)
    counts = np.zeros(len(standing), dtype=np.int64)
    np.add.at(counts, who, own)
    told = signatures.numbering.names(originals)
    _write(folder / GONE, [documents, told, near_too], GONE_SCHEMA, signatures.numbering)
    _write(folder / STANDING, [standing, counts], STANDING_SCHEMA, signatures.numbering)
    return {EXACT: float(len(copies) + (~alike).sum()), NEAR: float(len(similar) + alike.sum())}


def decision_files(start: int) -> tuple[str, str, str]:
    """The paths below the folder of `decide` that speak of the documents of a part, of which `start` is the first one's
    number: gone, standing and, where any is a copy of another corpus, known."""
    file = start // FILE_DOCUMENTS
    return f"{GONE}/{file:05d}.parquet", f"{STANDING}/{file:05d}.parquet", f"{KNOWN}/{file:05d}.parquet"


def read_decisions(decided: Path, start: int, own: Ints) -> pa.Table:
    """A row for each document of a cleaned part: `rule` is empty when it stays, `original` names what it copies.

    decided: the folder of `decide`, of which the `decision_files` are read. start: the number of the part's first
    document. own: the `duplicates` of each document as it was signed, [documents]; in the table those it stands for are
    among them, at most 2^31 - 1.
    """
    gone_file, standing_file, known_file = decision_files(start)
    end, counts = start + len(own), own.astype(np.int64)
    standing = _read(decided / standing_file, STANDING_SCHEMA, start, end)
    counts[standing["document"].to_numpy() - start] += standing["duplicates"].to_numpy()
    rules, names = np.full(len(own), "", dtype=object), np.full(len(own), "", dtype=object)
    for file, schema in ((gone_file, GONE_SCHEMA), (known_file, COPIES_SCHEMA)):
        if file == gone_file or (decided / file).is_file():
            gone = _read(decided / file, schema, start, end)
            rows = gone["document"].to_numpy() - start
            rules[rows] = np.where(gone["near"].to_numpy(), NEAR, EXACT)
            names[rows] = gone["original"].to_pylist()
    columns = [pa.array(rules), pa.array(names), pa.array(np.minimum(counts, 2**31 - 1), pa.int32())]
    return pa.table(columns, schema=DECISION_SCHEMA)


def _write(folder: Path, columns: Sequence["np.ndarray | pa.Array"], schema: pa.Schema, numbering: Numbering) -> None:
    """Rows in the order of their documents; all documents of a part are in the file that its first one belongs to."""
    starts = numbering.bounds[:-1]
    files, first = np.unique(starts // FILE_DOCUMENTS, return_index=True)
    cuts = np.searchsorted(columns[0], np.append(starts[first], numbering.documents))
    for file, (begin, end) in zip(files.tolist(), pairwise(cuts.tolist()), strict=True):
        table = pa.table([pa.array(column[begin:end]) for column in columns], schema=schema)
        write_table(folder / f"{file:05d}.parquet", table, _GROUP)


def _read(path: Path, schema: pa.Schema, start: int, end: int) -> pa.Table:
    """The rows of documents in [start, end)."""
    return read_table(path, schema, filters=[("document", ">=", start), ("document", "<", end)])


def _through(similar: Ints, leaders: Ints, numbers: Ints) -> Ints:
    """Each number, or its leader when it is itself a near copy."""
    if not len(similar):
        return numbers
    order = np.argsort(similar)
    ordered = similar[order]
    index = np.minimum(np.searchsorted(ordered, numbers), len(ordered) - 1)
    return np.where(ordered[index] == numbers, leaders[order][index], numbers)
