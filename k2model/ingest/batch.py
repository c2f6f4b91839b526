"""Batches of rows as every reader gives them: mapped columns as strings, and the rows that are no documents, with why.

Columns are found by the names in `FieldMapping`, which may be dotted; `as_text` and `definitions` say what they hold.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from k2model.errors import nearest
from k2model.recipe.schema import FieldMapping

#: Columns a row may have beside its content, each named by the field of `FieldMapping`.
EXTRAS = ("id", "licence", "origin", "language", "key", "effort", "tools", "system")
#: Those that belong to a chat: read where a row has a column of that name, though nothing maps it.
OF_CHATS = ("tools", "system")
#: About how much text is held at once.
BATCH_BYTES = 16_000_000
RAW_CHARACTERS = 2_000  # of a quarantined row that are kept


class Reason(str, Enum):
    """Why a row, or what follows it in its file, is quarantined."""

    MALFORMED_JSON = "malformed_json"  # not one JSON object
    ENCODING = "encoding"  # bytes that are not in the declared encoding
    MISSING_FIELD = "missing_field"
    EMPTY_FIELD = "empty_field"  # nothing but white space
    WRONG_TYPE = "wrong_type"
    DUPLICATE_FIELD = "duplicate_field"  # an object has a mapped key twice
    OVER_LONG = "over_long"
    BAD_MESSAGES = "bad_messages"  # chat turns that cannot be written in K2's frame
    BINARY = "binary"  # a text or source file with zero bytes
    EMPTY_FILE = "empty_file"  # without a byte, or never written to
    POINTER = "pointer"  # a stand-in of Git LFS and the like for a file that was not fetched
    ERROR_PAGE = "error_page"  # what a server said in place of a file
    UNFINISHED = "unfinished"  # a download or job was not done with the file
    WRONG_FORMAT = "wrong_format"  # an archive, or another format than the file's name says
    TRUNCATED = "truncated"  # a compressed stream ends before its end; rows up to there are kept
    CORRUPT = "corrupt"  # the file's own structure is broken from here on
    UNREADABLE = "unreadable"  # nothing of the file can be read


class Reject(NamedTuple):
    """A quarantined row. `row` counts from 1 in the file, 0 = the whole file; `text` is the raw row."""

    file: str
    row: int
    reason: Reason
    detail: str
    text: str = ""

    @property
    def damages_file(self) -> bool:
        """Whether it is the file, or what follows the row in it, that is lost."""
        return not self.row or self.reason in (Reason.TRUNCATED, Reason.CORRUPT)


@dataclass(frozen=True)
class Batch:
    """`places` [n] say where each row comes from, `path#row` with rows from 1, or `path` alone of a whole file. `text`
    [n] are strings without nulls, or for chat `messages` [n] as they stand in the file. `extras` [n] are strings or
    null. A row in `rejects` is in nothing else. `read` rows were read, counted by themselves and not by what became of
    them; `columns` name -> rows that have it, mapped or not. `lost_bytes` of the input, as stored, could not be read;
    `absent_bytes` should be there and are not."""

    places: pa.Array
    text: pa.Array | None = None
    messages: list[Any] | None = None
    extras: dict[str, pa.Array] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    lost_bytes: int = 0
    absent_bytes: int = 0
    read: int = 0
    columns: Mapping[str, int] = field(default_factory=dict)


def no_rows(reject: Reject, lost_bytes: int, absent_bytes: int = 0) -> Batch:
    """What is left when nothing but a reject was read."""
    empty = pa.array([], pa.string())
    return Batch(empty, empty, rejects=[reject], lost_bytes=lost_bytes, absent_bytes=absent_bytes, read=1)


def places(path: str, rows: pa.Array) -> pa.Array:
    """`path#row` of every row."""
    return pc.binary_join_element_wise(path, rows.cast(pa.string()), "#")


def row_of(place: str) -> tuple[str, int]:
    """(path, row) of a row's place."""
    path, _, row = place.rpartition("#")
    return path, int(row)


def cut(raw: str | bytes) -> str:
    """The beginning of a raw row as text; what is not UTF-8 is replaced."""
    if isinstance(raw, bytes):
        raw = raw[: 4 * RAW_CHARACTERS].decode("utf-8", "replace")
    return raw[:RAW_CHARACTERS].encode("utf-8", "replace").decode()


def content_field(mapping: FieldMapping) -> str:
    return mapping.messages or mapping.text


def mapped_fields(mapping: FieldMapping) -> dict[str, str]:
    """Column name of each field of `EXTRAS` that is mapped."""
    return {name: getattr(mapping, name) for name in EXTRAS if getattr(mapping, name)}


def extra_fields(mapping: FieldMapping) -> dict[str, str]:
    """Column name of each field of `EXTRAS` that is read."""
    own = {name: name for name in OF_CHATS if mapping.messages and name not in mapping.ignored}
    return own | mapped_fields(mapping)


def getter(name: str) -> Callable[[Any], Any]:
    """Finds `name` in a JSON object; None when it, or an object above it, is not there."""
    parts = name.split(".")

    def found(row: Any) -> Any:
        if name in row:
            return row[name]
        for part in parts:
            row = row.get(part) if isinstance(row, dict) else None
        return row

    return found


def read_columns(mapping: FieldMapping, columns: Collection[str]) -> set[str]:
    """Those of `columns` in which something is mapped, or that the user ignores."""
    names = (content_field(mapping), *extra_fields(mapping).values(), *mapping.ignored)
    return {name if name in columns else name.split(".")[0] for name in names}


def extra_getters(mapping: FieldMapping) -> dict[str, Callable[[Any], str | None]]:
    """What finds each mapped field of `EXTRAS` in a JSON object, as text. They raise `TypeError` for other values."""

    def reader(name: str, column: str) -> Callable[[Any], str | None]:
        get, convert = getter(column), definitions if name == "tools" else as_text
        return lambda row: convert(get(row))

    return {name: reader(name, column) for name, column in extra_fields(mapping).items()}


def absent(name: str, names: Iterable[str], path: str) -> str:
    """`column 'txt' not found in cc/a.jsonl; did you mean 'text'? There are text, url`"""
    return f"column '{name}' not found in {path}; {nearest(name, sorted(names))}"


def as_text(value: Any) -> str | None:
    """What a column beside the content says; a list of texts (licences) is joined by `AND`.

    Raises `TypeError` for objects, truth values and fractions.
    """
    if value is None or type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    if type(value) is list and all(type(item) is str for item in value):
        return " AND ".join(value)
    raise TypeError(type(value).__name__)


def definitions(value: Any) -> str | None:
    """Definitions of tools as JSON text. Raises `TypeError` for what JSON has no form for, or is nested too deeply."""
    try:
        return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError as error:
        raise TypeError("nested too deeply") from error


def strings(values: Sequence[str | None]) -> pa.Array:
    return pa.array(values, pa.string())
