"""Lines of a JSONL file, plain or compressed, in blocks of bounded size, with what is wrong with the stream itself.

Memory is bounded by a chunk and the longest row allowed: of a longer one only the beginning is kept.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

from k2model.corpus.ingest.batch import RAW_CHARACTERS, Reason
from k2model.corpus.ingest.formats import compression
from k2model.corpus.ingest.storage import Place
from k2model.recipe.schema import SourceConfig

CHUNK_BYTES = 4_000_000
FIRST_BYTES = 16_000_000  # looked at for the names of fields
_BOM = b"\xef\xbb\xbf"
_KEPT_BYTES = 4 * RAW_CHARACTERS  # of an over-long line


class OverLong(NamedTuple):
    """In place of a line of more bytes than allowed: its beginning and its length."""

    beginning: bytes
    length: int


@dataclass
class Broken:
    """What ended a compressed stream early, told by the one who read it; `lost_bytes` of the file were not read."""

    reason: Reason | None = None
    detail: str = ""
    lost_bytes: int = 0


Line = bytes | OverLong


def lines(
    place: Place, path: str, start: int, end: int, max_row_bytes: int, broken: Broken
) -> Iterator[tuple[int, list[Line]]]:
    """(Number of lines in front, lines) in blocks. Lines have no line end and may be blank.

    With `start` or `end` (bytes, `end` 0 = the file's) those lines whose first byte lies in that range. `broken` is
    filled in when a compressed stream ends early; the lines up to there are given.
    """
    with place.open(path) as file:
        kind = compression(path)
        chunks = _decompressed(place, path, kind, broken) if kind else _range(file, start, end)
        before = 0
        for block in _cut(chunks, max_row_bytes):
            if not before and not start and isinstance(block[0], bytes):
                block[0] = block[0].removeprefix(_BOM)
            yield before, block
            before += len(block)


def first_lines(place: Place, path: str, source: SourceConfig) -> list[dict[str, Any]]:
    """The objects at the beginning of a file, for a look at their fields; empty when there are none."""
    import orjson

    rows: list[dict[str, Any]] = []
    seen = 0
    for _, block in lines(place, path, 0, 0, source.max_row_bytes, Broken()):
        for line in block:
            if isinstance(line, bytes):
                seen += len(line)
                with contextlib.suppress(ValueError):
                    row = orjson.loads(line if source.encoding == "utf-8" else line.decode(source.encoding, "replace"))
                    if isinstance(row, dict):
                        rows.append(row)
        if seen > FIRST_BYTES:
            break
    return rows


def _range(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """Chunks that together are the lines which begin in [start, end)."""
    position = max(0, start - 1)
    file.seek(position)
    inside = start == 0
    while chunk := file.read(CHUNK_BYTES):
        if not inside:
            line_end = chunk.find(b"\n")
            skipped = len(chunk) if line_end < 0 else line_end + 1
            position += skipped
            if line_end < 0:
                continue
            if end and position >= end:
                return
            inside, chunk = True, chunk[skipped:]
        if end and position + len(chunk) >= end:
            last = chunk.find(b"\n", max(0, end - 1 - position))
            if last >= 0:
                yield chunk[: last + 1]
                return
        yield chunk
        position += len(chunk)


def _decompressed(place: Place, path: str, kind: str, broken: Broken) -> Iterator[bytes]:
    """Chunks of a stream, up to the last byte that can be had when it is broken."""
    given = 0
    # A read that fails takes with it what it had decompressed: go there again in smaller steps, at last single bytes.
    for size in (CHUNK_BYTES, 65_536, 1):
        try:
            for chunk in _stream(place, path, kind, size, given, broken):
                given += len(chunk)
                yield chunk
            return
        except OSError as error:
            broken.reason = Reason.TRUNCATED if "truncated" in str(error).lower() else Reason.CORRUPT
            broken.detail = f"the {kind} stream breaks off: {error}"


def _stream(place: Place, path: str, kind: str, size: int, skip: int, broken: Broken) -> Iterator[bytes]:
    """Decompressed bytes from `skip` on, `size` at a time. Raises OSError where the stream is broken."""
    with place.open(path) as file:
        stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), kind)
        try:
            while skip:
                skip -= len(stream.read(min(skip, CHUNK_BYTES)))
            while chunk := stream.read(size):
                yield chunk
        except OSError:
            position = file.tell()
            broken.lost_bytes = file.seek(0, os.SEEK_END) - position
            raise


def _cut(chunks: Iterator[bytes], max_row_bytes: int) -> Iterator[list[Line]]:
    """Blocks of whole lines, about one for each chunk."""
    pieces: list[bytes] = []  # of the line that is not whole yet; only its beginning once it is over-long
    length = 0
    for chunk in chunks:
        found = chunk.split(b"\n")
        pieces.append(found[0])
        length += len(found[0])
        if length > max_row_bytes:
            pieces = [_beginning(pieces)]
        if len(found) > 1:
            rest = found.pop()
            found[0] = b""
            block = [_line([line], len(line), max_row_bytes) for line in found]
            block[0] = _line(pieces, length, max_row_bytes)
            pieces, length = [rest], len(rest)
            yield block
    if length:
        yield [_line(pieces, length, max_row_bytes)]


def _line(pieces: Sequence[bytes], length: int, max_row_bytes: int) -> Line:
    if length > max_row_bytes:
        return OverLong(_beginning(pieces), length)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _beginning(pieces: Sequence[bytes]) -> bytes:
    kept = b""
    for piece in pieces:
        kept += piece[: _KEPT_BYTES - len(kept)]
    return kept
