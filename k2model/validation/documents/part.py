"""The training files of a corpus against the rules about single documents, and what is published of them.

A file is read a frame at a time: a bounded number of rows, fewer where documents are long, so that memory depends on
neither the size of a file nor their number. Documents that break a rule are set aside with the reason; such a one keeps
all it had, so that a person can look at it and the builder can be mended, and `row` is its place in the curated file.
Files without such documents keep their bytes. Nothing here compares two files.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from k2model.documents.schema import DOCUMENT_SCHEMA, ITEM_SCHEMA
from k2model.documents.tables import as_stated, opened_table, read_table, table_errors, with_nulls
from k2model.validation import Outcome, Suite
from k2model.validation.documents import suites
from k2model.validation.documents.counts import count_documents
from k2model.validation.documents.measures import EvaluationItems, document_frame
from k2model.validation.documents.suites import Bounds
from k2model.validation.documents.tables import schema_rows
from k2model.validation.gate import LookedAt, look_together
from k2model.validation.suites import Located, Runner

AS_READ = with_nulls(DOCUMENT_SCHEMA)
ASIDE_SCHEMA = pa.schema([*AS_READ, ("row", pa.int64()), ("reason", pa.string())])
ROWS_PER_FRAME = 16_384
BYTES_PER_FRAME = 32_000_000  # uncompressed, of all columns
SUITES = {"documents": suites.documents_suite, "raw": suites.raw_suite}
Reasons = dict[int, list[str]]  # by row, in alphabetical order


@dataclass
class TrainingFile(LookedAt):
    """`columns`: a row for each, see `schema_rows`; `bad`: documents that are set aside."""

    columns: list[dict[str, str]] = field(default_factory=list)
    bad: Reasons = field(default_factory=dict)

    @property
    def well_formed(self) -> bool:
        return as_expected(self.columns)


def look_at_files(paths: Sequence[Path], bounds: Bounds, target: Path | None, kind: str) -> list[TrainingFile]:
    """What is found in files `train/<source>/<part>.parquet` of a corpus; what is to be published of them is written
    below `target`, if there is one.

    `kind` is the suite: `documents` of a curated corpus or `raw`. A file without offenders is linked, or copied where
    it cannot be. One of another schema is not looked into. Raises CorruptArtifact naming a file that is not Parquet.
    """
    runner, suite = _runner(kind, bounds)
    files = []
    for path in paths:
        name = "/".join(path.with_suffix("").parts[-3:])
        files.append(
            TrainingFile(path, path.parent.name, columns=list(schema_rows(name, read_schema(path), DOCUMENT_SCHEMA)))
        )
    for file, place, outcomes in look_together(runner, suite, _located([file for file in files if file.well_formed])):
        reasons = reasons_by_row(outcomes)
        file.bad |= reasons
        numbers = range(place.first_row, place.first_row + len(place.frame))
        file.counts.update(count_documents(place.frame, np.array([row not in reasons for row in numbers])))
        file.counts["read"] += len(place.frame)
    for file in files:
        if file.well_formed:
            file.counts.update({"files": 1, "quarantined": len(file.bad)})
            file.counts.update(f"reasons/{reason}" for several in file.bad.values() for reason in several)
            if target is not None:
                publish(file, target)
    return files


def _located(files: Iterable[TrainingFile]) -> Iterator[tuple[TrainingFile, Located]]:
    """The measured frames of files."""
    for file in files:
        items, row = evaluation_items(file.path.parents[2]), 0
        for table in frames_of(file.path):
            frame = document_frame(table, items, file.source)
            share = max(len(table) / ROWS_PER_FRAME, table.nbytes / BYTES_PER_FRAME)
            yield file, Located(frame, file.source, file.path.stem, row, share)
            row += len(table)


def reasons_by_row(outcomes: Iterable[Outcome]) -> Reasons:
    """What the rows that break a rule are set aside for."""
    reasons: Reasons = {}
    for outcome in sorted((o for o in outcomes if o.reason), key=lambda o: o.reason):
        for row in outcome.rows:
            reasons.setdefault(row, []).append(outcome.reason)
    return dict(sorted(reasons.items()))


def publish(file: TrainingFile, target: Path) -> None:
    """Write `train/<source>/<part>.parquet` below `target`, and `quarantine/...` for rows that are set aside."""
    name = f"{file.source}/{file.path.name}"
    if not file.bad:
        link(file.path, target / "train" / name)
        return
    with (
        _writer(target / "train" / name, DOCUMENT_SCHEMA) as kept,
        _writer(target / "quarantine" / name, ASIDE_SCHEMA) as aside,
    ):
        start = 0
        for table in frames_of(file.path):
            rows = [row for row in file.bad if start <= row < start + len(table)]
            good = np.ones(len(table), dtype=bool)
            good[np.array(rows, dtype=np.int64) - start] = False
            kept.write_table(table.filter(pa.array(good)).replace_schema_metadata().cast(DOCUMENT_SCHEMA))
            if rows:
                taken = table.take(pa.array([row - start for row in rows], pa.int64()))
                taken = taken.append_column("row", pa.array(rows, pa.int64()))
                taken = taken.append_column("reason", pa.array([", ".join(file.bad[row]) for row in rows], pa.string()))
                aside.write_table(taken.replace_schema_metadata().cast(ASIDE_SCHEMA))
            start += len(table)


def link(path: Path, target: Path) -> None:
    """Give a file, which nobody changes any more, another name; a copy where the file system cannot."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    return pq.ParquetWriter(path, schema, compression="zstd")


def as_expected(columns: Iterable[Mapping[str, str]]) -> bool:
    """Whether the columns of a file, rows of `schema_rows`, are those of its schema."""
    return all(row["type"] == row["expected"] for row in columns)


def frames_of(path: Path, schema: pa.Schema = AS_READ) -> Iterator[pa.Table]:
    """The rows of a Parquet file in order, a bounded number of bytes at a time. Raises as `opened_table` does."""
    with opened_table(path, schema) as file:
        groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
        widest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1.0)
        rows = max(1, min(ROWS_PER_FRAME, int(BYTES_PER_FRAME / max(widest, 1.0))))
        for batch in file.iter_batches(rows, columns=schema.names, use_threads=False):
            yield pa.Table.from_batches([as_stated(batch, schema, path)])


def read_schema(path: Path) -> pa.Schema:
    """Raises CorruptArtifact when the file is not Parquet."""
    with table_errors(path):
        return pq.read_schema(path)


@cache
def _runner(kind: str, bounds: Bounds) -> tuple[Runner, Suite]:
    """One for all files a process looks at."""
    return Runner(), SUITES[kind](bounds)


@lru_cache(maxsize=2)  # a process of many turns would keep those of each
def evaluation_items(folder: Path) -> EvaluationItems:
    """The items below `items/` of a corpus; none where a file has another schema, which is another rule's matter."""
    paths = sorted((folder / "items").glob("*.parquet"))
    good = [path for path in paths if as_expected(schema_rows("", read_schema(path), ITEM_SCHEMA))]
    return EvaluationItems.of({path.stem: read_table(path, with_nulls(ITEM_SCHEMA)) for path in good})
