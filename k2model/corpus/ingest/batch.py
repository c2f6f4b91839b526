"""What readers give: a batch of rows with their columns, and the rows that are no documents, each with its reason."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

#: Columns a row may have beside its content, each named by the field of `FieldMapping`.
EXTRAS = ("id", "licence", "origin", "language", "key", "effort", "tools")
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
    OVER_LONG = "over_long"
    BAD_MESSAGES = "bad_messages"  # chat turns that cannot be written in K2's frame
    BINARY = "binary"  # a text or source file with zero bytes
    EMPTY_FILE = "empty_file"  # without a byte, or never written to
    POINTER = "pointer"  # a stand-in of Git LFS and the like for a file that was not fetched
    ERROR_PAGE = "error_page"  # what a server said in place of a file
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
    null. A row in `rejects` is in nothing else. `lost_bytes` of the input, as stored, could not be read; `absent_bytes`
    should be there and are not."""

    places: pa.Array
    text: pa.Array | None = None
    messages: list[Any] | None = None
    extras: dict[str, pa.Array] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    lost_bytes: int = 0
    absent_bytes: int = 0


def no_rows(reject: Reject, lost_bytes: int, absent_bytes: int = 0) -> Batch:
    """What is left when nothing but a reject was read."""
    empty = pa.array([], pa.string())
    return Batch(empty, empty, rejects=[reject], lost_bytes=lost_bytes, absent_bytes=absent_bytes)


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
