"""Arrow columns of a file as strings: any type that holds text, checked in bulk, row by row only where one is bad.

A column of another type than text is an error of the mapping rather than of a row.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from k2model.errors import CorpusError
from k2model.ingest.batch import RAW_CHARACTERS, Reason, Reject, content_field, cut, definitions, extra_fields, strings
from k2model.recipe.schema import SourceConfig

_NO_VALUE = (ValueError, OverflowError, LookupError, pa.ArrowException)  # of a value that Python has no form for


def dotted_names(fields: Iterable[pa.Field], above: str = "") -> Iterator[str]:
    """Names of all columns and of the fields of structs in them."""
    for field in fields:
        yield above + field.name
        if pa.types.is_struct(field.type):
            yield from dotted_names(
                (field.type.field(i) for i in range(field.type.num_fields)), f"{above}{field.name}."
            )


def _names_within(fields: Iterable[pa.Field], above: str) -> Iterator[str]:
    """Names of all columns and of the fields of structs in them, those in lists as well."""
    for field in fields:
        name = above + field.name
        yield name
        kind = field.type
        while pa.types.is_nested(kind) and not pa.types.is_struct(kind) and kind.num_fields == 1:
            kind = kind.field(0).type
        if pa.types.is_struct(kind):
            yield from _names_within((kind.field(i) for i in range(kind.num_fields)), f"{name}.")


def check_unique(source: SourceConfig, path: str, schema: pa.Schema) -> None:
    """Raises `CorpusError` when `path` has several columns, or fields of a struct, of a name that is mapped, or in what
    is mapped: messages are lists of structs."""
    names = Counter(_names_within(schema, ""))
    for name in (content_field(source.fields), *extra_fields(source.fields).values()):
        above = accumulate(name.split("."), "{}.{}".format)
        within = (one for one in names if one.startswith(f"{name}."))
        if several := next((one for one in (*above, *within) if names[one] > 1), None):
            raise CorpusError(
                f"corpus.sources.{source.name}: {path} has {names[several]} columns named '{several}', expected one. "
                "Rename them in the file, or map another column in fields"
            )


def column(batch: pa.RecordBatch, name: str) -> pa.Array | None:
    """A column, or the field of structs that a dotted name leads to; None when there is none."""
    if name in batch.schema.names:
        return batch.column(name)
    head, *rest = name.split(".")
    if not rest or head not in batch.schema.names:
        return None
    values = batch.column(head)
    for part in rest:
        if not pa.types.is_struct(values.type) or values.type.get_field_index(part) < 0:
            return None
        values = pc.struct_field(values, part)
    return values


def text_column(
    source: SourceConfig, path: str, name: str, values: pa.Array, before: int
) -> tuple[pa.Array, list[Reject]]:
    """The texts, and the rejects for rows that are null, over-long, not in the encoding or empty."""
    kind = _value_type(values)
    if pa.types.is_null(kind):  # what pandas writes where every value is missing
        kind, values = pa.string(), values.cast(pa.string())
    if not _is_string(kind) and not _is_binary(kind):
        raise CorpusError(
            f"corpus.sources.{source.name}: column '{name}' of {path} is {values.type}, expected text. Set fields.text "
            "to a column of text"
        )
    raw = _binary(values)
    rejects = null_rejects(path, raw, name, before)
    too_long = pc.greater(pc.binary_length(raw), source.max_row_bytes)
    for index in _indices(too_long):
        value = raw[index].as_buffer()
        detail = f"field '{name}' has {len(value)} bytes, max_row_bytes is {source.max_row_bytes}"
        beginning = cut(bytes(memoryview(value)[: 4 * RAW_CHARACTERS]))
        rejects.append(Reject(path, before + index + 1, Reason.OVER_LONG, detail, beginning))
    if rejects:
        raw = pc.if_else(too_long, pa.scalar(None, pa.binary()), raw)
    text, wrong = _decoded(raw, "utf-8" if _is_string(kind) else source.encoding, path, name, before)
    detail = f"field '{name}' is empty"
    empty = _indices(pc.or_(pc.equal(pc.binary_length(text), 0), pc.utf8_is_space(text)))
    return text, [*rejects, *wrong, *(Reject(path, before + i + 1, Reason.EMPTY_FIELD, detail) for i in empty)]


def _decoded(raw: pa.Array, encoding: str, path: str, name: str, before: int) -> tuple[pa.Array, list[Reject]]:
    """Strings, null where the bytes are not in the encoding. Arrow checks UTF-8 as it casts."""
    if encoding.lower() in ("utf-8", "utf8"):
        try:
            return raw.cast(pa.string()), []
        except pa.ArrowInvalid:
            pass
    texts: list[str | None] = []
    rejects = []
    for index, value in enumerate(raw.to_pylist()):
        try:
            texts.append(None if value is None else value.decode(encoding))
        except UnicodeDecodeError as error:
            texts.append(None)
            detail = f"byte {error.start} of field '{name}' (0x{value[error.start]:02x}) is not {encoding}"
            rejects.append(Reject(path, before + index + 1, Reason.ENCODING, detail, cut(value)))
    return pa.array(texts, pa.string()), rejects


def extra_column(
    source: SourceConfig, path: str, name: str, values: pa.Array, before: int
) -> tuple[pa.Array, list[Reject]]:
    """A column beside the content as strings, and the rejects for rows that are not UTF-8."""
    kind = _value_type(values)
    if pa.types.is_list(kind) and name == extra_fields(source.fields).get("tools"):
        return _definitions(path, name, values, before)
    if pa.types.is_list(kind) and _is_string(kind.value_type):
        return pc.binary_join(values.cast(pa.list_(pa.string())), " AND "), []
    if pa.types.is_integer(kind) or pa.types.is_null(kind):
        return values.cast(pa.string()), []
    if not _is_string(kind):
        raise CorpusError(
            f"corpus.sources.{source.name}: column '{name}' of {path} is {values.type}, expected text, an integer or a "
            "list of texts. Map another column"
        )
    return _decoded(_binary(values), "utf-8", path, name, before)


def _definitions(path: str, name: str, values: pa.Array, before: int) -> tuple[pa.Array, list[Reject]]:
    texts: list[str | None] = []
    listed, rejects = python_values(path, name, values, before)
    for row, value in enumerate(listed, before + 1):
        try:
            texts.append(definitions(value))
        except TypeError as error:
            texts.append(None)
            rejects.append(Reject(path, row, Reason.WRONG_TYPE, f"field '{name}' (tools) is no JSON: {error}"))
    return strings(texts), rejects


def python_values(path: str, name: str, values: pa.Array, before: int) -> tuple[list[Any], list[Reject]]:
    """The values as Python has them, and the rejects for rows, None here, in which one cannot be had: text that is not
    UTF-8, a time that no calendar has."""
    try:
        return values.to_pylist(), []
    except _NO_VALUE:
        pass
    listed: list[Any] = []
    rejects = []
    for row, value in enumerate(values, before + 1):
        try:
            listed.append(value.as_py())
        except _NO_VALUE as error:
            listed.append(None)
            reason = Reason.ENCODING if isinstance(error, UnicodeDecodeError) else Reason.WRONG_TYPE
            rejects.append(Reject(path, row, reason, f"field '{name}' holds what cannot be read: {error}"))
    return listed, rejects


def null_rejects(path: str, values: pa.Array, name: str, before: int) -> list[Reject]:
    if not values.null_count:
        return []
    detail = f"field '{name}' is missing or null"
    return [Reject(path, before + index + 1, Reason.MISSING_FIELD, detail) for index in _indices(values.is_null())]


def _indices(mask: pa.Array) -> list[int]:
    return pc.indices_nonzero(mask.fill_null(False)).to_pylist()


def _value_type(values: pa.Array) -> pa.DataType:
    return values.type.value_type if pa.types.is_dictionary(values.type) else values.type


def _binary(values: pa.Array) -> pa.Array:
    """Strings or bytes of any layout as plain binary; nothing is checked."""
    return values.cast(_value_type(values)).cast(pa.binary())


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
