"""How tables of a corpus are written: columns without nulls, zstd, row groups of bounded rows and bytes.

Equal rows give equal bytes, since schema, compression and the cuts between row groups are fixed. And how they are read:
a table of an artifact may be a stranger's, or another version's, and pyarrow leaves out a column that is not there. So
whoever reads a table, whole or by rows, says which columns of which schema it needs, and has them or an error.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from k2model.errors import CorruptArtifact

Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)
MOST_ROWS = 100_000_000  # of a table: an encoding can say more in a few bytes
ROW_GROUP_ROWS, ROW_GROUP_BYTES = 16_384, 32 << 20


def required(**columns: pa.DataType) -> pa.Schema:
    """The schema of these columns, none of which has nulls."""
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


def write_table(path: Path, table: pa.Table, row_group_size: int | None = None) -> None:
    """A whole table as one Parquet file, in folders that are made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", row_group_size=row_group_size)


@contextlib.contextmanager
def table_errors(place: object) -> Iterator[None]:
    """What the library says inside of bytes that are no table becomes CorruptArtifact with the `place` of the file."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        said = str(error).partition("\n")[0][:200]
        raise CorruptArtifact(
            f"{place} cannot be read as a table ({type(error).__name__}: {said}). Delete the folder of its artifact "
            "and run again: the step that makes it will be done again"
        ) from error


def selected(schema: pa.Schema, *names: str) -> pa.Schema:
    """The schema of these columns of `schema`, in the order given."""
    return pa.schema([schema.field(name) for name in names])


def with_nulls(schema: pa.Schema) -> pa.Schema:
    """The same columns, each of which may have nulls, for whoever looks for them."""
    return pa.schema([field.with_nullable(True) for field in schema])


@contextlib.contextmanager
def opened_table(source: Path | bytes, schema: pa.Schema, place: str = "") -> Iterator[pq.ParquetFile]:
    """A Parquet file, or its content, that has the columns of `schema` in its types; to be closed by the end of the
    block. What is read of it is held against the schema by `as_stated`.

    place: of the file, where `source` is bytes. Raises FileNotFoundError, and CorruptArtifact for what is no such file,
    lacks a column, has one of another type or more than `MOST_ROWS` rows, and for whatever the library cannot read of
    it inside the block.
    """
    place = place or str(source)
    content = pa.BufferReader(source) if isinstance(source, bytes) else source
    with table_errors(place), pq.ParquetFile(content, pre_buffer=False) as file:
        if file.metadata.num_rows > MOST_ROWS:
            raise _other(place, f"it says that it has {file.metadata.num_rows:,} rows, at most {MOST_ROWS:,} are read")
        for field in schema:
            if (at := file.schema_arrow.get_field_index(field.name)) < 0:
                raise _other(place, f"it has no column '{field.name}'")
            found = file.schema_arrow.field(at).type
            if not _alike(found, field.type):
                raise _other(place, f"its column '{field.name}' is of type {found}, expected {field.type}")
        yield file


def as_stated(rows: Rows, schema: pa.Schema, place: object) -> Rows:
    """The columns of `schema`, and no others, of rows that were read of a file. Raises CorruptArtifact naming the
    `place` of the file for values that are none, as text that is no UTF-8, and for nulls where there are none."""
    with table_errors(place):
        rows = rows.select(schema.names)
        rows.validate(full=True)
        for field in schema:
            if not field.nullable and rows[field.name].null_count:
                raise _other(str(place), f"its column '{field.name}' has rows without a value")
        return rows.cast(schema)


def read_table(source: Path | bytes, schema: pa.Schema, place: str = "", filters: Any = None) -> pa.Table:
    """The columns of `schema`, and no others, of a whole Parquet file or of its content; with `filters`, as pyarrow has
    them, of the rows that pass, of which only the row groups that may hold one are read.

    Raises as `opened_table` and `as_stated` do.
    """
    with opened_table(source, schema, place) as file:
        if filters is None:
            table = file.read(columns=schema.names)
        else:
            table = pq.read_table(source, columns=schema.names, filters=filters, partitioning=None)
    return as_stated(table, schema, place or source)


def read_batches(path: Path, schema: pa.Schema, rows: int = 1_024) -> Iterator[pa.RecordBatch]:
    """The same of a file a batch at a time: at most `rows`, fewer where rows are long."""
    with opened_table(path, schema) as file:
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        longest = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=0)
        fitting = max(1, ROW_GROUP_BYTES // max(1, longest))
        for batch in file.iter_batches(batch_size=min(rows, fitting), columns=schema.names):
            yield as_stated(batch, schema, path)


def rows_of(path: Path) -> int:
    """How many rows a file says that it has. Raises as `opened_table` does."""
    with opened_table(path, pa.schema([])) as file:
        return int(file.metadata.num_rows)


def _alike(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Names of a list's item and whether it may be null differ between writers, and say nothing."""
    if pa.types.is_list(found) and pa.types.is_list(wanted):
        return _alike(found.value_type, wanted.value_type)
    if pa.types.is_struct(found) and pa.types.is_struct(wanted):
        return [one.name for one in found] == [one.name for one in wanted] and all(
            _alike(one.type, other.type) for one, other in zip(found, wanted, strict=True)
        )
    return bool(found == wanted)


def _other(place: str, told: str) -> CorruptArtifact:
    return CorruptArtifact(
        f"{place} is not the table that its step writes: {told}. Delete the folder of its artifact and run again: the "
        "step that makes it will be done again"
    )


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
