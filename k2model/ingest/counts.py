"""Counts of what was ingested: they add up over parts, and decide whether a source is fit to be used.

Samples of what was quarantined are among them, so that an error can show what is wrong without reading a file.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from k2model.documents.counts import Counts
from k2model.errors import CorpusError
from k2model.ingest.assemble import Documents
from k2model.ingest.batch import Batch, Reject, mapped_fields, read_columns
from k2model.ingest.inputs import FileSlice
from k2model.recipe.schema import SourceConfig

SAMPLES = 3  # of a reason
MAX_DISTINCT = 200  # licences or languages of a part that are named; a column of anything else is mapped wrongly
OTHERS = "(others)"
_TEXT_SHOWN = 120

#: Of a source or a part of it: whole numbers, and tables of them by name; see `no_counts`.
SourceCounts = dict[str, Any]
TABLES = ("licences", "languages", "quarantined", "unread", "unstated")


def no_counts() -> SourceCounts:
    """`input_bytes` (of the files, and what pointers among them stand for), `lost_bytes` that could not be read;
    `files`, `damaged_files` of which something is lost; `rows` read (a file that is lost whole is one), each of them
    among `documents` to train on, `heldout`, `sampled_out` or `quarantined`; `stated_rows` that the source is said to
    have (0 = nothing is said); `text_bytes` of documents on both sides; `licences` and `languages` -> documents;
    `quarantined` reason -> rows; `unread` column that nothing is mapped to -> rows that have it; `unstated` mapped
    column beside the content -> rows that say nothing of it; `samples` reason -> [file, row, detail, text]; in the
    counts of a part also `damaged_cuts`: damaged files that lie in several parts, by path, so that each counts once."""
    numbers = ("input_bytes", "lost_bytes", "files", "damaged_files", "stated_rows", "rows", "documents", "heldout",
               "sampled_out", "text_bytes")  # fmt: skip
    return dict.fromkeys(numbers, 0) | {name: Counts() for name in TABLES} | {"samples": {}, "damaged_cuts": Counts()}


def count_documents(counts: SourceCounts, documents: Documents) -> None:
    heldout = pc.sum(documents.heldout).as_py() or 0
    counts["documents"] += documents.table.num_rows - heldout
    counts["heldout"] += heldout
    counts["sampled_out"] += documents.sampled_out
    counts["text_bytes"] += pc.sum(pc.binary_length(documents.table["text"])).as_py() or 0
    _count_values(counts["licences"], documents.table["licence"])
    if documents.languages is not None:
        _count_values(counts["languages"], documents.languages.fill_null(""))


def count_rejects(counts: SourceCounts, rejects: Sequence[Reject]) -> None:
    for reject in rejects:
        reason = reject.reason.value
        counts["quarantined"][reason] += 1
        samples = counts["samples"].setdefault(reason, [])
        if len(samples) < SAMPLES:
            samples.append([reject.file, reject.row, reject.detail, reject.text[:_TEXT_SHOWN]])


def count_columns(counts: SourceCounts, source: SourceConfig, batch: Batch) -> None:
    """Columns that nothing is mapped to, and what mapped ones beside the content leave unsaid."""
    read = read_columns(source.fields, batch.columns)
    for name in sorted(batch.columns.keys() - read):
        known = name in counts["unread"] or len(counts["unread"]) < MAX_DISTINCT
        counts["unread"][name if known else OTHERS] += batch.columns[name]
    for field, column in mapped_fields(source.fields).items():
        values = batch.extras.get(field)
        if silent := len(batch.places) if values is None else values.null_count:
            counts["unstated"][column] += silent


def destinies(counts: Mapping[str, Any]) -> dict[str, int]:
    """`rows` that were read of a part, and what became of them: which a gate compares with the files."""
    quarantined = sum(counts["quarantined"].values())
    return {name: counts[name] for name in ("rows", "documents", "heldout", "sampled_out")} | {
        "quarantined": quarantined
    }


def count_files(counts: SourceCounts, slices: Sequence[FileSlice], damaged: Collection[str]) -> None:
    """Counts the files of `slices`, each in the part that has its beginning; paths in `damaged` have lost something."""
    for piece in slices:
        counts["input_bytes"] += piece.bytes
        counts["files"] += not piece.start
        if piece.path in damaged and piece.whole:
            counts["damaged_files"] += 1
        elif piece.path in damaged:
            counts["damaged_cuts"][piece.path] = 1


def usable(counts: Mapping[str, Any]) -> int:
    """Rows that are documents, those included that are not sampled."""
    return counts["documents"] + counts["heldout"] + counts["sampled_out"]


def total_counts(parts: Iterable[Mapping[str, Any]]) -> SourceCounts:
    """The sum over all parts of a source, given in their order; of samples the first few."""
    total = no_counts()
    for counts in parts:
        for reason, samples in counts["samples"].items():
            total["samples"][reason] = (total["samples"].get(reason, []) + samples)[:SAMPLES]
        for name in (*TABLES, "damaged_cuts"):
            total[name].update(counts[name])
        for name in (name for name, value in counts.items() if isinstance(value, int)):
            total[name] += counts[name]
    for name in (*TABLES, "samples"):
        total[name] = dict(sorted(total[name].items()))
    total["damaged_files"] += len(total.pop("damaged_cuts"))
    return total


def check_quarantine(source: SourceConfig, counts: Mapping[str, Any]) -> None:
    """Raises `CorpusError` when a source has no document, or more of it than `max_quarantined` cannot be used.

    Counted are rows (those that the source is said to have and are not there among them), bytes and files, and the
    worst share decides: what breaks a file leaves no rows to be counted, and what stands in for one may be small.
    """
    missing = max(0, counts["stated_rows"] - counts["rows"])
    bad = sum(counts["quarantined"].values()) + missing
    rows, lost = bad / max(1, counts["rows"] + missing), counts["lost_bytes"] / max(1, counts["input_bytes"])
    files = counts["damaged_files"] / max(1, counts["files"])
    nothing = not usable(counts)
    if not nothing and max(rows, lost, files) <= source.max_quarantined:
        return
    absent = " or not there" if missing else ""
    said = [
        f"  {reason} ({counts['quarantined'][reason]}): {file} row {row}: {detail}" + (f" | {text!r}" if text else "")
        for reason, samples in counts["samples"].items()
        for file, row, detail, text in samples
    ]
    if missing:
        said.insert(
            0, f"  {missing} of the {counts['stated_rows']} rows that the source's own metadata state are not there"
        )
    raise CorpusError(
        f"corpus source '{source.name}' is {'without a document' if nothing else 'mostly bad'}: {bad} of "
        f"{counts['rows'] + missing} rows ({rows:.1%}) are quarantined{absent}, {lost:.1%} of its bytes could not be "
        f"read and {counts['damaged_files']} of {counts['files']} files ({files:.1%}) are damaged; of each, allowed "
        f"are {source.max_quarantined:.1%}.\n" + "\n".join(said) + "\nMend the files or the mapping "
        f"(corpus.sources.{source.name}.fields), or raise corpus.sources.{source.name}.max_quarantined"
    )


def _count_values(counts: Counts, values: pa.Array | pa.ChunkedArray) -> None:
    for found in pc.value_counts(values).to_pylist():
        value = found["values"]
        if value not in counts and len(counts) >= MAX_DISTINCT:
            value = OTHERS
        counts[value] += found["counts"]
