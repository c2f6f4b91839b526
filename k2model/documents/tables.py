"""How tables of a corpus are written: columns without nulls, zstd, row groups of bounded rows and bytes.

Equal rows give equal bytes, since schema, compression and the cuts between row groups are fixed.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS, ROW_GROUP_BYTES = 16_384, 32 << 20


def required(**columns: pa.DataType) -> pa.Schema:
    """The schema of these columns, none of which has nulls."""
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


def write_table(path: Path, table: pa.Table, row_group_size: int | None = None) -> None:
    """A whole table as one Parquet file, in folders that are made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", row_group_size=row_group_size)


class PartWriter:
    """Writes a part from tables of any size, in row groups of at most about `ROW_GROUP_ROWS` rows and `group_bytes`.

    dictionary: the columns whose values are looked for repetitions (all, none, or by name); for hashes, of which no two
    are equal, a dictionary is 15% of the file. combined: whether a row group is one array a column, which decides
    where its pages end.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        dictionary: bool | Sequence[str] = True,
        group_bytes: int = ROW_GROUP_BYTES,
        combined: bool = True,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._schema, self._group_bytes, self._combined = schema, group_bytes, combined
        self._waiting, self._rows, self._bytes = list[pa.Table](), 0, 0
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=dictionary)

    def write(self, rows: pa.Table) -> None:
        if rows.num_rows:
            self._waiting.append(rows.cast(self._schema))
            self._rows, self._bytes = self._rows + rows.num_rows, self._bytes + rows.nbytes
        if self._rows >= ROW_GROUP_ROWS or self._bytes >= self._group_bytes:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting)
            self._writer.write_table(table.combine_chunks() if self._combined else table, row_group_size=self._rows)
        self._waiting, self._rows, self._bytes = [], 0, 0

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(self, *failure: object) -> None:
        """Of a part that fails, what waits is not written."""
        if failure[0] is None:
            self._flush()
        self._writer.close()
