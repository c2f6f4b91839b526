"""What a part leaves behind: documents to train on, held-out ones and quarantined rows, streamed to Parquet files.

Rows are gathered into row groups of about one size whatever the batches were, and no more than that is held.
"""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from k2model.corpus.documents import DOCUMENT_SCHEMA, part_path
from k2model.corpus.ingest.assemble import Documents
from k2model.corpus.ingest.batch import Reject

ROW_GROUP_BYTES = 32_000_000
ROW_GROUP_ROWS = 16_384

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("reason", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),  # from 1; 0 = the whole file
        pa.field("detail", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)
#: Columns that repeat; looking for repetitions in the others takes time and finds none.
_DICTIONARY = ["source", "domain", "licence", "reason", "file", "segments.list.element.kind"]


class PartOutput:
    """The files of one part below `folder`. Both sides are always written, the quarantine when it has a row."""

    def __init__(self, folder: Path, source: str, part: int) -> None:
        self._paths = {side: part_path(folder, side, source, part) for side in ("train", "heldout", "quarantine")}
        self._sides = {side: _Side(self._paths[side], DOCUMENT_SCHEMA) for side in ("train", "heldout")}

    def __enter__(self) -> "PartOutput":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for side in self._sides.values():
            side.close()

    def documents(self, documents: Documents) -> None:
        heldout = documents.heldout
        if pc.any(heldout).as_py():
            self._sides["heldout"].add(documents.table.filter(heldout))
            self._sides["train"].add(documents.table.filter(pc.invert(heldout)))
        else:
            self._sides["train"].add(documents.table)

    def rejects(self, rejects: Sequence[Reject]) -> None:
        if not rejects:
            return
        if "quarantine" not in self._sides:
            self._sides["quarantine"] = _Side(self._paths["quarantine"], QUARANTINE_SCHEMA)
        rows: list[dict[str, Any]] = [
            {"reason": r.reason.value, "file": r.file, "row": r.row, "detail": r.detail, "text": r.text}
            for r in rejects
        ]
        self._sides["quarantine"].add(pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA))


class _Side:
    """One file, written a row group at a time."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        repeated = [name for name in _DICTIONARY if name.split(".")[0] in schema.names]
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=repeated)
        self._held: list[pa.Table] = []
        self._bytes = self._rows = 0

    def add(self, table: pa.Table) -> None:
        if table.num_rows:
            self._held.append(table)
            self._bytes += table.nbytes
            self._rows += table.num_rows
        if self._bytes >= ROW_GROUP_BYTES or self._rows >= ROW_GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.concat_tables(self._held), row_group_size=self._rows)
        self._held, self._bytes, self._rows = [], 0, 0
