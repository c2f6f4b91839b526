"""JSON lines: every line is parsed for itself, so that a bad one is named by its number and costs no other.

Parsing line by line with orjson has 0.7 to 0.8 of the speed of pyarrow's block reader (`benchmarks/sources.py`), costs
less than writing the documents, and needs no second way for blocks in which a line is bad.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from k2model.documents.counts import Counts
from k2model.documents.json_text import count_keys, repeated_keys
from k2model.ingest.batch import (
    Batch,
    Reason,
    Reject,
    content_field,
    cut,
    extra_fields,
    extra_getters,
    getter,
    no_rows,
    places,
    strings,
)
from k2model.ingest.inputs import FileSlice
from k2model.ingest.lines import Line, OverLong, Stream, lines
from k2model.ingest.names import compression
from k2model.ingest.recognise import HEAD_BYTES, recognised, stand_in
from k2model.ingest.storage import SourceFiles
from k2model.recipe.schema import SourceConfig

#: Of a line that is no row nobody knows how many rows were run together in it: its bytes count.
_NO_ROW = (Reason.MALFORMED_JSON, Reason.ENCODING, Reason.OVER_LONG)


def read_jsonl(source: SourceConfig, files: SourceFiles, piece: FileSlice) -> Iterator[Batch]:
    """The rows of a slice in order, a batch for each block of lines. A file that is something else is one reject."""
    stream = Stream()
    parser = _Parser(source, piece.path)
    row, lost = piece.rows_before, 0
    for before, block in lines(files, piece.path, piece.start, piece.end, source.max_row_bytes, stream):
        first = not before and not piece.start
        if first and (found := recognised(piece.path, stream.head, piece.format, parser.top)):
            yield stand_in(piece, found, stream.head)
            return
        row = piece.rows_before + before
        made = parser.batch(row + 1, block)
        if made.lost_bytes:
            made = replace(made, lost_bytes=min(stream.stored(made.lost_bytes), piece.size - lost))
            lost += made.lost_bytes
        yield made
        row += len(block)
    if not stream.given and not piece.start:
        head = files.read(piece.path, HEAD_BYTES) if stream.reason else b""
        if found := recognised(piece.path, head, compression(piece.path) or piece.format):
            yield stand_in(piece, found, head)
            return
    if stream.reason:
        detail = f"{stream.detail}; rows up to {row} were read. Fetch or write the file again"
        yield no_rows(Reject(piece.path, row + 1, stream.reason, detail), min(stream.lost_bytes, piece.bytes - lost))


_SAMPLED = 32  # rows of a block that are looked at for any mapped key that is there twice


class _Parser:
    """Turns lines into batches by the source's mapping."""

    def __init__(self, source: SourceConfig, path: str) -> None:
        self._source, self._path = source, path
        self._content_name = content_field(source.fields)
        self._content = getter(self._content_name)
        # Of mapped keys in quotes, the content's first, by which one that an object has twice is found.
        mapped = (self._content_name, *extra_fields(source.fields).values())
        self._keys = tuple(dict.fromkeys(f'"{part}"'.encode() for name in mapped for part in name.split(".")[::-1]))
        self.top = self._content_name.split(".")[0]
        self._extras = extra_getters(source.fields)
        self._chat = bool(source.fields.messages)
        self._decoded = source.encoding.lower() not in ("utf-8", "utf8")

    def batch(self, first: int, block: list[Line]) -> Batch:
        import orjson

        rows: list[int] = []
        contents: list[Any] = []
        extras: dict[str, list[str | None]] = {name: [] for name in self._extras}
        rejects: list[Reject] = []
        shapes: Counter[tuple[str, ...]] = Counter()
        unread = blank = 0
        loads, content, chat = orjson.loads, self._content, self._chat
        # A parser keeps the last of two values. Of a chat every key says something. A row of text is looked at for the
        # content's key alone: to look for each of five mapped keys takes longer than parsing, and rows that have
        # another twice have it by the way they were written.
        careful = not chat and any(self._twice(line, self._keys) for line in block[:_SAMPLED])
        keys = self._keys if careful else self._keys[:1]
        for row, line in enumerate(block, first):
            try:
                record = loads(line.decode(self._source.encoding) if self._decoded else line)  # type: ignore[union-attr, arg-type]
                shapes[tuple(record.keys())] += 1
                value = content(record)
                if not value or (value.isspace() if type(value) is str else not (chat and type(value) is list)):
                    rejects.append(self._reject(row, line, *self._misfit(value)))
                    continue
                found = [get(record) for get in self._extras.values()]
                twice = ""
                if chat:
                    if line.count(b'":') != count_keys(record):
                        twice = self._twice(line)
                else:
                    for key in keys:
                        if line.find(key) != line.rfind(key):  # type: ignore[union-attr]
                            twice = self._twice(line, keys)
                            break
            except (ValueError, TypeError, AttributeError) as error:
                if not isinstance(line, OverLong) and not line.strip():
                    blank += 1
                else:
                    rejects.append(self._reject(row, line, *self._unread(line, error)))
                    if rejects[-1].reason in _NO_ROW:
                        unread += 1 + (line.length if isinstance(line, OverLong) else len(line))
                continue
            if twice:
                rejects.append(self._reject(row, line, Reason.DUPLICATE_FIELD, twice))
                continue
            rows.append(row)
            contents.append(value)
            for name, said in zip(extras, found, strict=True):
                extras[name].append(said)
        return Batch(
            places(self._path, pa.array(rows, pa.int64())),
            text=None if chat else strings(contents),
            messages=contents if chat else None,
            extras={name: strings(values) for name, values in extras.items()},
            rejects=rejects,
            lost_bytes=unread,
            read=len(block) - blank,
            columns=_columns(shapes),
        )

    def _reject(self, row: int, line: Line, reason: Reason, detail: str) -> Reject:
        return Reject(self._path, row, reason, detail, cut(line.beginning if isinstance(line, OverLong) else line))

    def _twice(self, line: Line, keys: tuple[bytes, ...] = ()) -> str:
        """Which of `keys`, of all keys without any, an object of the row has twice; "" when none has, or the row is
        none."""
        if isinstance(line, OverLong) or (keys and not any(line.find(key) != line.rfind(key) for key in keys)):
            return ""
        try:
            found = repeated_keys(line.decode(self._source.encoding))
        except UnicodeDecodeError:
            return ""
        meant = next((name for name in found if not keys or f'"{name}"'.encode() in keys), "")
        return f"an object has the key '{meant}' twice; nobody can tell which of them is meant" if meant else ""

    def _misfit(self, value: Any) -> tuple[Reason, str]:
        """What is wrong with a JSON object without the content it should have."""
        name = self._content_name
        if value is None:
            return Reason.MISSING_FIELD, f"field '{name}' is missing or null"
        if isinstance(value, str) or (self._chat and isinstance(value, list)):
            return Reason.EMPTY_FIELD, f"field '{name}' is empty"
        expected = "a list of turns, or JSON text of one" if self._chat else "text"
        return Reason.WRONG_TYPE, f"field '{name}' is {_json_type(value)}, expected {expected}"

    def _unread(self, line: Line, error: Exception) -> tuple[Reason, str]:
        """Why a line could not be read; looked into only now that it failed."""
        import orjson

        if isinstance(line, OverLong):
            return Reason.OVER_LONG, f"{line.length} bytes, max_row_bytes is {self._source.max_row_bytes}"
        try:
            text = line.decode(self._source.encoding)
        except UnicodeDecodeError as wrong:
            detail = f"byte {wrong.start} of the row (0x{line[wrong.start]:02x}) is not {self._source.encoding}"
            return Reason.ENCODING, detail
        if isinstance(error, orjson.JSONDecodeError):
            return Reason.MALFORMED_JSON, str(error)
        record = orjson.loads(text)
        if not isinstance(record, dict):
            return Reason.MALFORMED_JSON, f"the row is {_json_type(record)}, expected an object"
        for name, column in extra_fields(self._source.fields).items():
            try:
                self._extras[name](record)
            except TypeError:
                found = _json_type(getter(column)(record))
                return Reason.WRONG_TYPE, f"field '{column}' ({name}) is {found}, expected text"
        raise error


def _columns(shapes: Mapping[tuple[str, ...], int]) -> Counts:
    """Rows that have each key, of those with the same keys together."""
    found = Counts()
    for keys, rows in shapes.items():
        found.update(dict.fromkeys(keys, rows))
    return found


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
