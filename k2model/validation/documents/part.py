"""Publishes the good documents of a part and sets those that break a rule aside, with the reason.

A quarantined document keeps all it had, so that a person can look at it and the builder can be mended;
`row` is its place in the curated part. Parts without such documents keep their bytes.

Part files of a corpus against the rules about single documents, and what is published of them.

A part is read a frame at a time: a bounded number of rows, fewer where documents are long, so that
memory depends on neither the size of a part nor the number of parts. Nothing here compares two parts.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from k2model.documents.schema import DOCUMENT_SCHEMA, ITEM_SCHEMA
from k2model.errors import K2Error
from k2model.validation import Outcome, Suite, one_part
from k2model.validation.documents import suites
from k2model.validation.documents.counts import PartCounts, Tally
from k2model.validation.documents.measures import EvaluationItems, document_frame
from k2model.validation.documents.suites import Bounds
from k2model.validation.documents.tables import schema_rows
from k2model.validation.render import Page, page_if_broken
from k2model.validation.suites import Located, Runner

Reasons = dict[int, list[str]]
ASIDE_SCHEMA = pa.schema(
    [*(field.with_nullable(True) for field in DOCUMENT_SCHEMA), ("row", pa.int64()), ("reason", pa.string())]
)


def reasons_by_row(outcomes: Iterable[Outcome]) -> Reasons:
    """Row -> the reasons it is set aside for, in alphabetical order."""
    reasons: Reasons = {}
    for outcome in sorted((o for o in outcomes if o.reason), key=lambda o: o.reason):
        for row in outcome.rows:
            reasons.setdefault(row, []).append(outcome.reason)
    return dict(sorted(reasons.items()))


def count_reasons(reasons: Reasons) -> dict[str, int]:
    """Documents per reason; one that has two reasons is counted under both."""
    counts = Counter(reason for several in reasons.values() for reason in several)
    return dict(sorted(counts.items()))


def publish_part(path: Path, target: Path, stem: str, part: str, bad: Reasons, frames: Iterable[pa.Table]) -> None:
    """Write `train/<stem>/<part>.parquet` below `target`, and `quarantine/...` when `bad` names rows.

    `frames` are the rows of `path` in order; they are read only when there are bad ones.
    """
    name = f"{stem}/{part}.parquet"
    if not bad:
        link(path, target / "train" / name)
        return
    with (
        _writer(target / "train" / name, DOCUMENT_SCHEMA) as kept,
        _writer(target / "quarantine" / name, ASIDE_SCHEMA) as aside,
    ):
        start = 0
        for table in frames:
            rows = [row for row in bad if start <= row < start + len(table)]
            good = np.ones(len(table), dtype=bool)
            good[np.array(rows, dtype=np.int64) - start] = False
            kept.write_table(table.filter(pa.array(good)).replace_schema_metadata().cast(DOCUMENT_SCHEMA))
            if rows:
                aside.write_table(_aside(table, rows, start, bad))
            start += len(table)


def link(path: Path, target: Path) -> None:
    """Give a file, which nobody changes any more, another name; a copy where the file system cannot."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _aside(table: pa.Table, rows: list[int], start: int, bad: Reasons) -> pa.Table:
    taken = table.take(pa.array([row - start for row in rows], pa.int64()))
    taken = taken.append_column("row", pa.array(rows, pa.int64()))
    names = pa.array([", ".join(bad[row]) for row in rows], pa.string())
    return taken.append_column("reason", names).replace_schema_metadata().cast(ASIDE_SCHEMA)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    return pq.ParquetWriter(path, schema, compression="zstd")


ROWS_PER_FRAME = 16_384
BYTES_PER_FRAME = 32_000_000  # uncompressed, of all columns
SUITES = {"documents": suites.documents_suite, "raw": suites.raw_suite}


@dataclass(frozen=True)
class PartFile:
    """A file of a corpus folder."""

    folder: Path
    split: str
    stem: str
    part: str

    @staticmethod
    def of(folder: Path, path: Path) -> "PartFile":
        split, stem = path.relative_to(folder).parts[:2]
        return PartFile(folder, split, stem, path.stem)

    @property
    def path(self) -> Path:
        return self.folder / self.split / self.stem / f"{self.part}.parquet"

    @property
    def name(self) -> str:
        return f"{self.split}/{self.stem}/{self.part}"


@dataclass(frozen=True)
class PartOutcome:
    """What was found in one part file; `page` shows the first bad frame."""

    stem: str
    tally: Tally = field(default_factory=Tally)
    outcomes: tuple[Outcome, ...] = ()
    page: Page | None = None
    schema: tuple[dict[str, str], ...] = ()  # a row for each column, see `schema_rows`


def validate_parts(
    files: Sequence[PartFile], bounds: Bounds, target: Path | None, kind: str = "documents"
) -> list[PartOutcome]:
    """The outcomes of each part; what is to be published of it is written below `target`, if there is one.

    `kind` is the suite: `documents` of a curated corpus or `raw`. Small parts are looked at together. A part without
    offenders is linked, or copied where it cannot be. A part of another schema is not looked into. Raises K2Error
    naming a file that is not Parquet.
    """
    runner, suite = _runner(kind, bounds)
    parts = [_Part(file) for file in files]
    waiting: list[tuple[_Part, pa.Table, Located]] = []

    def look() -> None:
        found = runner.run_together(suite, [place for _, _, place in waiting]) if waiting else []
        for (part, table, place), outcomes in zip(waiting, found, strict=True):
            where = f"{part.file.stem}/{part.file.part}"
            part.page = part.page or page_if_broken(runner, suite.name, where, outcomes)
            part.add(table, place, outcomes)
        waiting.clear()

    for part in parts:
        row = 0
        for table in frames_of(part.file.path) if part.well_formed else ():
            held = [table, *(one for _, one, _ in waiting)]
            if sum(map(len, held)) > ROWS_PER_FRAME or sum(one.nbytes for one in held) > BYTES_PER_FRAME:
                look()
            frame = document_frame(table, evaluation_items(part.file.folder), part.file.stem)
            waiting.append((part, table, Located(frame, part.file.stem, part.file.part, row)))
            row += len(table)
    look()
    return [part.outcome(target) for part in parts]


class _Part:
    """What is found in a part while its frames are looked at."""

    def __init__(self, file: PartFile) -> None:
        self.file = file
        self.schema = tuple(schema_rows(file.name, read_schema(file.path), DOCUMENT_SCHEMA))
        self.well_formed = all(row["type"] == row["expected"] for row in self.schema)
        self.page: Page | None = None
        self._found: list[Outcome] = []
        self._bad: Reasons = {}
        self._counts, self._rows = PartCounts(), 0

    def add(self, table: pa.Table, place: Located, outcomes: list[Outcome]) -> None:
        reasons = reasons_by_row(outcomes)
        kept = np.array([row not in reasons for row in range(place.first_row, place.first_row + len(table))])
        self._counts += PartCounts.of(table["text"], place.frame, kept)
        self._bad.update(reasons)
        self._found += outcomes
        self._rows += len(table)

    def outcome(self, target: Path | None) -> PartOutcome:
        file = self.file
        if not self.well_formed:
            return PartOutcome(file.stem, schema=self.schema)
        if target is not None:
            publish_part(file.path, target, file.stem, file.part, self._bad, frames_of(file.path))
        tally = Tally(1, self._rows, len(self._bad), count_reasons(self._bad), self._counts)
        return PartOutcome(file.stem, tally, tuple(one_part(self._found)), self.page, self.schema)


def frames_of(path: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The rows of a Parquet file in order, a bounded number of bytes at a time; all columns or those named."""
    with pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
        widest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1.0)
        rows = max(1, min(ROWS_PER_FRAME, int(BYTES_PER_FRAME / max(widest, 1.0))))
        for batch in file.iter_batches(rows, columns=columns, use_threads=False):
            yield pa.Table.from_batches([batch])


def read_schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise K2Error(f"{path} cannot be read as Parquet ({error}); delete the artifact and run again") from error


@cache
def _runner(kind: str, bounds: Bounds) -> tuple[Runner, Suite]:
    """One for all files a process looks at."""
    return Runner(), SUITES[kind](bounds)


@cache
def evaluation_items(folder: Path) -> EvaluationItems:
    """The items below `items/` of a corpus; none where a file has another schema, which is another rule's matter."""
    paths = sorted((folder / "items").glob("*.parquet"))
    good = [path for path in paths if read_schema(path).names == ITEM_SCHEMA.names]
    return EvaluationItems.of({path.stem: pq.read_table(path) for path in good})
