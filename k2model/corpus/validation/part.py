"""Part files of a corpus against the rules about single documents, and what is published of them.

A part is read a frame at a time: a bounded number of rows, fewer where documents are long, so that
memory depends on neither the size of a part nor the number of parts. Nothing here compares two parts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from k2model.corpus.documents import DOCUMENT_SCHEMA, ITEM_SCHEMA
from k2model.corpus.validation import suites
from k2model.corpus.validation.counts import PartCounts, Tally
from k2model.corpus.validation.measures import EvaluationItems, document_frame
from k2model.corpus.validation.quarantine import Reasons, count_reasons, publish_part, reasons_by_row
from k2model.corpus.validation.suites import Bounds
from k2model.corpus.validation.tables import schema_rows
from k2model.errors import K2Error
from k2model.validation import Outcome, Suite, one_part
from k2model.validation.render import Page, page_if_broken
from k2model.validation.runner import Located, Runner

ROWS_PER_FRAME = 16_384
BYTES_PER_FRAME = 32_000_000  # uncompressed, of all columns
SUITES = {"documents": suites.documents_suite, "raw": suites.raw_suite}


@dataclass(frozen=True)
class PartFile:
    """A file of a corpus folder."""

    folder: Path
    side: str
    stem: str
    part: str

    @staticmethod
    def of(folder: Path, path: Path) -> "PartFile":
        side, stem = path.relative_to(folder).parts[:2]
        return PartFile(folder, side, stem, path.stem)

    @property
    def path(self) -> Path:
        return self.folder / self.side / self.stem / f"{self.part}.parquet"

    @property
    def name(self) -> str:
        return f"{self.side}/{self.stem}/{self.part}"


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
