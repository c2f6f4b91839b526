"""One part of a source, from its files to documents to train on, held-out ones and quarantined rows in Parquet files:
the unit of work that fans out, and all parts of a source on one machine.

A part is a pure function of the source, the part and the files, without store or scheduler. Rows are gathered into row
groups of about one size whatever the batches were; memory is bounded by a few batches and the longest row allowed. In
a pipeline every part is a step of its own, which can be resumed; of an `ingest_source` that fails nothing is kept.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from k2model.artifacts import map_in_processes
from k2model.documents.counts import Counts
from k2model.documents.schema import DOCUMENT_SCHEMA, part_path
from k2model.documents.tables import PartWriter, required
from k2model.errors import CorpusError
from k2model.ingest.assemble import Documents, assemble
from k2model.ingest.batch import Batch, Reject
from k2model.ingest.columnar import read_columnar
from k2model.ingest.counts import (
    SourceCounts,
    check_quarantine,
    count_columns,
    count_documents,
    count_files,
    count_rejects,
    no_counts,
    total_counts,
    usable,
)
from k2model.ingest.inputs import FileSlice, InputPart, list_inputs
from k2model.ingest.jsonl import read_jsonl
from k2model.ingest.parts import split_inputs
from k2model.ingest.storage import SourceFiles, open_source
from k2model.ingest.trees import read_tree
from k2model.recipe.schema import SourceConfig, SourceFormat

PART_BYTES = 128_000_000
GROUP_BYTES = 32_000_000  # of a row group
#: `row` counts from 1, 0 is the whole file.
QUARANTINE_SCHEMA = required(reason=pa.string(), file=pa.string(), row=pa.int64(), detail=pa.string(), text=pa.string())
#: Columns that repeat; looking for repetitions in the others takes time and finds none.
_REPEATED = {
    DOCUMENT_SCHEMA: ["source", "domain", "licence", "spans.list.element.kind"],
    QUARANTINE_SCHEMA: ["reason", "file"],
}
_TREES = (SourceFormat.TEXT.value, SourceFormat.CODE.value)


class PartOutput(ExitStack):
    """The files of one part below `folder`: `train`, `heldout`, and `quarantine` when it has a row."""

    def __init__(self, folder: Path, source: str, part: int) -> None:
        super().__init__()
        self._path = partial(part_path, folder, source=source, part=part)
        self._train, self._heldout = (self._open(split, DOCUMENT_SCHEMA) for split in ("train", "heldout"))
        self._quarantine: PartWriter | None = None

    def _open(self, split: str, schema: pa.Schema) -> PartWriter:
        return self.enter_context(
            PartWriter(self._path(split=split), schema, _REPEATED[schema], GROUP_BYTES, combined=False)
        )

    def documents(self, documents: Documents) -> None:
        heldout = documents.heldout
        if pc.any(heldout).as_py():
            self._heldout.write(documents.table.filter(heldout))
            self._train.write(documents.table.filter(pc.invert(heldout)))
        else:
            self._train.write(documents.table)

    def rejects(self, rejects: Sequence[Reject]) -> None:
        if rejects:
            self._quarantine = self._quarantine or self._open("quarantine", QUARANTINE_SCHEMA)
            rows = [reject._asdict() | {"reason": reject.reason.value} for reject in rejects]
            self._quarantine.write(pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA))


def ingest_part(source: SourceConfig, part: InputPart, folder: Path) -> dict[str, Any]:
    """Write `train/`, `heldout/` and `quarantine/` of a part below `folder`; returns its counts (see `no_counts`).

    Raises `CorpusError` when an input cannot be reached, was changed since it was listed, or a mapped column is of a
    type that can be no text. What is wrong with single rows or with the inside of a file goes to the quarantine.
    """
    files = open_source(source.location)
    counts = no_counts() | {"stated_rows": part.stated_rows}
    with PartOutput(folder, source.name, part.index) as output:
        for slices in _runs(part.slices):
            before = dict(counts)
            damaged = set[str]()
            for batch in _batches(source, files, slices):
                documents = assemble(source, batch)
                rejects = [*batch.rejects, *documents.rejects]
                output.documents(documents)
                output.rejects(rejects)
                counts["rows"] += batch.read
                count_documents(counts, documents)
                count_rejects(counts, rejects)
                if slices[0].format not in _TREES:
                    count_columns(counts, source, batch)
                counts["input_bytes"] += batch.absent_bytes
                counts["lost_bytes"] += batch.lost_bytes + batch.absent_bytes
                damaged |= {reject.file for reject in rejects if reject.damages_file}
            if counts["rows"] > before["rows"] and usable(counts) == usable(before):
                damaged |= {piece.path for piece in slices if piece.whole}
            count_files(counts, slices, damaged)
    return {name: dict(value) if isinstance(value, Counts) else value for name, value in counts.items()}


def _runs(slices: Sequence[FileSlice]) -> Iterator[tuple[FileSlice, ...]]:
    """Slices of files of rows one by one, those of text and code together."""
    for kind, run in groupby(slices, key=lambda piece: piece.format):
        if kind in _TREES:
            yield tuple(run)
        else:
            yield from ((piece,) for piece in run)


def _batches(source: SourceConfig, files: SourceFiles, slices: Sequence[FileSlice]) -> Iterator[Batch]:
    """The rows of the slices of a run in order."""
    first = slices[0]
    if first.format in _TREES:
        yield from read_tree(source, files, slices)
        return
    files.check(first.listed)
    yield from (read_jsonl if first.format == SourceFormat.JSONL.value else read_columnar)(source, files, first)
    files.check(first.listed)


def ingest_source(source: SourceConfig, folder: Path, part_bytes: int = PART_BYTES, processes: int = 1) -> SourceCounts:
    """Write all parts of a source below `folder`, an empty or absent one; returns the counts of the whole.

    What is written does not depend on `processes`. Raises `CorpusError`, also (with everything written, so that the
    quarantine can be looked at) when the source is mostly bad.
    """
    if folder.exists() and any(folder.iterdir()):
        raise CorpusError(f"{folder} is not empty; name a folder that is, so that no file of another run is in it")
    parts = split_inputs(source, list_inputs(source), part_bytes)
    work = partial(ingest_part, source, folder=folder)
    counts = total_counts(map_in_processes(work, parts, processes))
    check_quarantine(source, counts)
    return counts
