"""Counts of what was ingested: they add up over parts, and decide whether a source is fit to be used.

Samples of what was quarantined are among them, so that an error can show what is wrong without reading a file.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from k2model.corpus.errors import CorpusError
from k2model.corpus.ingest.assemble import Documents
from k2model.corpus.ingest.batch import Reject
from k2model.recipe.schema import SourceConfig

SAMPLES = 3  # of a reason
MAX_DISTINCT = 200  # licences or languages of a part that are named; a column of anything else is mapped wrongly
OTHERS = "(others)"
_TEXT_SHOWN = 120

Counts = dict[str, Any]


def no_counts() -> Counts:
    """`input_bytes`, `lost_bytes` (of files that broke off), `rows` seen, `documents` to train on, `heldout`,
    `sampled_out`, `text_bytes` of documents on both sides; `licences` and `languages` -> documents; `quarantined`
    reason -> rows; `samples` reason -> [file, row, detail, text]."""
    return {
        "input_bytes": 0,
        "lost_bytes": 0,
        "rows": 0,
        "documents": 0,
        "heldout": 0,
        "sampled_out": 0,
        "text_bytes": 0,
        "licences": {},
        "languages": {},
        "quarantined": {},
        "samples": {},
    }


def count_documents(counts: Counts, documents: Documents) -> None:
    heldout = pc.sum(documents.heldout).as_py() or 0
    counts["documents"] += documents.table.num_rows - heldout
    counts["heldout"] += heldout
    counts["sampled_out"] += documents.sampled_out
    counts["rows"] += documents.table.num_rows + documents.sampled_out
    counts["text_bytes"] += pc.sum(pc.binary_length(documents.table["text"])).as_py() or 0
    _count_values(counts["licences"], documents.table["licence"])
    if documents.languages is not None:
        _count_values(counts["languages"], documents.languages.fill_null(""))


def count_rejects(counts: Counts, rejects: Sequence[Reject]) -> None:
    for reject in rejects:
        reason = reject.reason.value
        counts["quarantined"][reason] = counts["quarantined"].get(reason, 0) + 1
        counts["rows"] += 1
        counts["lost_bytes"] += reject.lost_bytes
        samples = counts["samples"].setdefault(reason, [])
        if len(samples) < SAMPLES:
            samples.append([reject.file, reject.row, reject.detail, reject.text[:_TEXT_SHOWN]])


def total_counts(parts: Iterable[Mapping[str, Any]]) -> Counts:
    """The sum over parts, given in their order; of samples the first few."""
    total = no_counts()
    for counts in parts:
        for name, value in counts.items():
            if isinstance(value, int):
                total[name] += value
                continue
            for key, found in value.items():
                known = total[name].get(key, type(found)())
                total[name][key] = (known + found)[:SAMPLES] if isinstance(found, list) else known + found
    for name in ("licences", "languages", "quarantined", "samples"):
        total[name] = dict(sorted(total[name].items()))
    return total


def check_quarantine(source: SourceConfig, counts: Mapping[str, Any]) -> None:
    """Raises `CorpusError` when a source has no document, or more of it than `max_quarantined` cannot be used.

    Counted are rows, and for files that break off the bytes that could not be looked at.
    """
    bad = sum(counts["quarantined"].values())
    rows, lost = bad / max(1, counts["rows"]), counts["lost_bytes"] / max(1, counts["input_bytes"])
    nothing = not counts["documents"] + counts["heldout"] + counts["sampled_out"]
    if not nothing and max(rows, lost) <= source.max_quarantined:
        return
    said = [
        f"  {reason} ({counts['quarantined'][reason]}): {file} row {row}: {detail}" + (f" | {text!r}" if text else "")
        for reason, samples in counts["samples"].items()
        for file, row, detail, text in samples
    ]
    raise CorpusError(
        f"corpus source '{source.name}' is {'without a document' if nothing else 'mostly bad'}: {bad} of "
        f"{counts['rows']} rows ({rows:.1%}) are quarantined and {lost:.1%} of its bytes could not be read; allowed "
        f"are {source.max_quarantined:.1%}.\n" + "\n".join(said) + "\nMend the files or the mapping "
        f"(corpus.sources.{source.name}.fields), or raise corpus.sources.{source.name}.max_quarantined"
    )


def _count_values(counts: dict[str, int], values: pa.Array | pa.ChunkedArray) -> None:
    for found in pc.value_counts(values).to_pylist():
        value = found["values"]
        if value not in counts and len(counts) >= MAX_DISTINCT:
            value = OTHERS
        counts[value] = counts.get(value, 0) + found["counts"]
