"""Parquet and Arrow files: rows stay columns all the way, and only what is broken is looked at one by one.

A file is read by row groups or record batches and never held whole. How a column becomes strings is
`columns`' business.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from k2model.ingest.batch import (
    BATCH_BYTES,
    Batch,
    Reason,
    Reject,
    absent,
    content_field,
    extra_fields,
    no_rows,
    places,
)
from k2model.ingest.columns import (
    check_unique,
    column,
    dotted_names,
    extra_column,
    null_rejects,
    python_values,
    text_column,
)
from k2model.ingest.inputs import FileSlice
from k2model.ingest.recognise import HEAD_BYTES, by_name, recognised, stand_in
from k2model.ingest.storage import JUMPING_BYTES, SourceFiles
from k2model.recipe.schema import SourceConfig, SourceFormat

_BROKEN = (OSError, pa.ArrowException, EOFError)  # what pyarrow raises for a damaged file
_ARROW_FILE = b"ARROW1"


def pieces(files: SourceFiles, path: str, kind: str) -> list[tuple[int, int]]:
    """(Rows, stored bytes) of every row group or record batch; empty when the file is not to be cut."""
    try:
        if kind == SourceFormat.PARQUET.value:
            with _parquet(files, path) as parquet:
                groups = [parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)]
            stored = (sum(group.column(i).total_compressed_size for i in range(group.num_columns)) for group in groups)
            return [(group.num_rows, size) for group, size in zip(groups, stored, strict=True)]
        if files.remote and not _is_ipc_file(files, path):
            return []
        batches = [(batch.num_rows, batch.nbytes) for batch in _record_batches(files, path, 0, 0)]
        whole = sum(size for _, size in batches)
        return [(rows, files.entry(path).size * size // max(1, whole)) for rows, size in batches]
    except _BROKEN:
        return []  # quarantined as a whole when it is read


def schema_of(files: SourceFiles, path: str, kind: str) -> pa.Schema | None:
    """The columns of a file; None when it cannot be read."""
    try:
        if kind == SourceFormat.PARQUET.value:
            with _parquet(files, path) as parquet:
                return parquet.schema_arrow
        with _ipc(files, path) as reader:
            return reader.schema
    except _BROKEN:
        return None


def read_columnar(source: SourceConfig, files: SourceFiles, piece: FileSlice) -> Iterator[Batch]:
    """The rows of a slice in order. A file, or the rest of one, that cannot be decoded is one reject."""
    columns = {"content": content_field(source.fields), **extra_fields(source.fields)}
    row = piece.rows_before
    if named := by_name(piece.path):
        yield stand_in(piece, named, b"")
        return
    try:
        for names, table in _tables(files, piece, list(columns.values())):
            if row == piece.rows_before:
                check_unique(source, piece.path, table.schema)
            found = {field: column(table, name) for field, name in columns.items()}
            if found["content"] is None:
                detail = absent(columns["content"], dotted_names(table.schema), piece.path)
                yield no_rows(Reject(piece.path, 0, Reason.MISSING_FIELD, detail), piece.bytes)
                return
            made = _batch(source, piece.path, row, columns, found)
            yield replace(made, read=table.num_rows, columns=dict.fromkeys(names, table.num_rows))
            row += table.num_rows
    except _BROKEN as error:
        nothing = row == piece.rows_before
        head = files.read(piece.path, HEAD_BYTES)
        if nothing and (known := recognised(piece.path, head, piece.format)):
            yield stand_in(piece, known, head)
            return
        detail = " ".join(str(error).split()).rstrip(".")[:300]
        wrong, reason, said = row + 1, Reason.CORRUPT, f"rows up to {row} were read"
        if nothing:
            wrong, reason, said = 0, Reason.UNREADABLE, "no row can be read"
        detail = f"{said}: {detail}. Fetch or write the file again"
        yield no_rows(Reject(piece.path, wrong, reason, detail), piece.bytes)


def _tables(files: SourceFiles, piece: FileSlice, columns: list[str]) -> Iterator[tuple[list[str], pa.RecordBatch]]:
    """(Names of all columns, record batch) of at most about `BATCH_BYTES`, with the wanted columns alone where the
    format can tell them apart."""
    if piece.format == SourceFormat.ARROW.value:
        read = {part for name in columns for part in (name, name.split(".")[0])}
        for batch in _record_batches(files, piece.path, piece.start, piece.end):
            _check(batch, read)
            rows = _rows_at_once(batch.nbytes, batch.num_rows)
            for start in range(0, batch.num_rows, rows):
                yield batch.schema.names, batch.slice(start, rows)
        return
    with _parquet(files, piece.path) as parquet:
        groups = range(piece.start, piece.end or parquet.metadata.num_row_groups)
        known = set(dotted_names(parquet.schema_arrow))
        wanted = [column for column in columns if column in known] if columns[0] in known else None
        for index in groups:
            group = parquet.metadata.row_group(index)
            rows = _rows_at_once(group.total_byte_size, group.num_rows)
            for batch in parquet.iter_batches(rows, row_groups=[index], columns=wanted, use_threads=False):
                yield parquet.schema_arrow.names, batch


def _batch(
    source: SourceConfig, path: str, before: int, columns: dict[str, str], found: dict[str, pa.Array | None]
) -> Batch:
    """Rows `before` + 1 and on. A row that any column rejects is in the rejects alone, once."""
    content = found.pop("content")
    assert content is not None
    count = len(content)
    extras: dict[str, pa.Array] = {}
    chat = bool(source.fields.messages)
    messages: list[Any] = []
    if chat:
        messages, rejects = python_values(path, columns["content"], content, before)
        rejects += null_rejects(path, content, columns["content"], before)
    else:
        content, rejects = text_column(source, path, columns["content"], content, before)
    for name, values in found.items():
        if values is not None:
            extras[name], wrong = extra_column(source, path, columns[name], values, before)
            rejects += wrong
    where = places(path, pa.array(np.arange(before + 1, before + 1 + count)))
    first = {reject.row: reject for reject in reversed(rejects)}
    if first:
        keep = np.ones(count, bool)
        keep[np.array(list(first)) - before - 1] = False
        content, where = content.filter(pa.array(keep)), where.filter(pa.array(keep))
        messages = list(compress(messages, keep))
        extras = {name: values.filter(pa.array(keep)) for name, values in extras.items()}
    in_order = [first[row] for row in sorted(first)]
    return Batch(where, None if chat else content, messages if chat else None, extras, in_order)


_BYTES_OF = {
    pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view(),
}  # fmt: skip


def _check(batch: pa.RecordBatch, names: Collection[str]) -> None:
    """Raises `ArrowInvalid` when the columns `names` point outside of what they hold. Nobody checks that of IPC files,
    whose reader trusts every offset; whether text is UTF-8 is looked at row by row."""
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        if name in names:
            as_bytes = _BYTES_OF.get(values.type)
            (values.view(as_bytes) if as_bytes else values).validate(full=True)


def _record_batches(files: SourceFiles, path: str, start: int, end: int) -> Iterator[pa.RecordBatch]:
    """Record batches `start` to `end` (0 = the last) of an IPC file or stream."""
    with _ipc(files, path) as reader:
        if isinstance(reader, pa.ipc.RecordBatchFileReader):
            for index in range(start, end or reader.num_record_batches):
                batch = reader.get_batch(index)
                batch.validate()
                yield batch
            return
        for index, batch in enumerate(reader):
            batch.validate()
            if end and index >= end:
                return
            if index >= start:
                yield batch


def _ipc(files: SourceFiles, path: str) -> Any:
    is_file = _is_ipc_file(files, path)
    source = pa.PythonFile(files.open(path, JUMPING_BYTES), "r") if files.remote else pa.memory_map(files.full(path))
    return pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)


def _is_ipc_file(files: SourceFiles, path: str) -> bool:
    return files.read(path, len(_ARROW_FILE)) == _ARROW_FILE


@contextmanager
def _parquet(files: SourceFiles, path: str) -> Iterator[pq.ParquetFile]:
    with files.open(path, JUMPING_BYTES) as file:
        yield pq.ParquetFile(file, pre_buffer=False)


def _rows_at_once(size: int, rows: int) -> int:
    return max(1, min(rows, rows * BATCH_BYTES // max(1, size)))
