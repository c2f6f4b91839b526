"""One part of a source, from its files to documents and quarantine: the unit of work that fans out.

A pure function of the source, the part and the files, without store or scheduler. Memory is bounded by a few batches
and the longest row allowed.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from k2model.corpus.ingest.assemble import assemble
from k2model.corpus.ingest.batch import Batch
from k2model.corpus.ingest.columnar import read_columnar
from k2model.corpus.ingest.counts import count_documents, count_files, count_rejects, no_counts, usable
from k2model.corpus.ingest.inputs import FileSlice, InputPart
from k2model.corpus.ingest.jsonl import read_jsonl
from k2model.corpus.ingest.output import PartOutput
from k2model.corpus.ingest.storage import Place, place_of
from k2model.corpus.ingest.trees import read_tree
from k2model.recipe.schema import SourceConfig, SourceFormat

_TREES = (SourceFormat.TEXT.value, SourceFormat.CODE.value)


def ingest_part(source: SourceConfig, part: InputPart, folder: Path) -> dict[str, Any]:
    """Write `train/`, `heldout/` and `quarantine/` of a part below `folder`; returns its counts (see `no_counts`).

    Raises `CorpusError` when an input cannot be reached, was changed since it was listed, or a mapped column is of a
    type that can be no text. What is wrong with single rows or with the inside of a file goes to the quarantine.
    """
    place = place_of(source.location)
    counts = no_counts()
    with PartOutput(folder, source.name, part.index) as output:
        for slices in _runs(part.slices):
            before = dict(counts)
            damaged: set[str] = set()
            for batch in _batches(source, place, slices):
                documents = assemble(source, batch)
                rejects = [*batch.rejects, *documents.rejects]
                output.documents(documents)
                output.rejects(rejects)
                count_documents(counts, documents)
                count_rejects(counts, rejects)
                counts["input_bytes"] += batch.absent_bytes
                counts["lost_bytes"] += batch.lost_bytes + batch.absent_bytes
                damaged |= {reject.file for reject in rejects if reject.damages_file}
            if counts["rows"] > before["rows"] and usable(counts) == usable(before):
                damaged |= {piece.path for piece in slices if piece.whole}
            count_files(counts, slices, damaged)
    return counts


def _runs(slices: Sequence[FileSlice]) -> Iterator[tuple[FileSlice, ...]]:
    """Slices of files of rows one by one, those of text and code together."""
    for kind, run in groupby(slices, key=lambda piece: piece.format):
        if kind in _TREES:
            yield tuple(run)
        else:
            yield from ((piece,) for piece in run)


def _batches(source: SourceConfig, place: Place, slices: Sequence[FileSlice]) -> Iterator[Batch]:
    """The rows of the slices of a run in order."""
    first = slices[0]
    if first.format in _TREES:
        yield from read_tree(source, place, slices)
        return
    place.check(first.listed)
    yield from (read_jsonl if first.format == SourceFormat.JSONL.value else read_columnar)(source, place, first)
    place.check(first.listed)
