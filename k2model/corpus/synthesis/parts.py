"""The three files of a part, written row group by row group: what is trained on, what is held out, what is rejected."""

from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from k2model.corpus.documents import DOCUMENT_SCHEMA, part_path
from k2model.corpus.synthesis.conversation import Sample

SIDES = ("train", "heldout", "rejected")
ROW_GROUP = 1_024
REJECTED_SCHEMA = DOCUMENT_SCHEMA.append(pa.field("reason", pa.string(), nullable=False)).append(
    pa.field("detail", pa.string(), nullable=False)
)


class PartFiles:
    """Writes samples to the file of their side."""

    def __init__(self, folder: Path, source: str, part: int):
        schemas = {side: REJECTED_SCHEMA if side == "rejected" else DOCUMENT_SCHEMA for side in SIDES}
        self._rows: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        self._writers = {side: _writer(part_path(folder, side, source, part), schemas[side]) for side in SIDES}

    def __enter__(self) -> "PartFiles":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for side, writer in self._writers.items():
            self._flush(side)
            writer.close()

    def write(self, sample: Sample) -> None:
        side = "rejected" if sample.reason else "heldout" if sample.heldout else "train"
        why = {"reason": sample.reason, "detail": sample.detail} if sample.reason else {}
        self._rows[side].append({**sample.document, **why})
        if len(self._rows[side]) == ROW_GROUP:
            self._flush(side)

    def _flush(self, side: str) -> None:
        writer = self._writers[side]
        if self._rows[side]:
            writer.write_table(pa.Table.from_pylist(self._rows[side], schema=writer.schema))
            self._rows[side].clear()


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    return pq.ParquetWriter(path, schema, compression="zstd")
