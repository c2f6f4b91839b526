"""Lines of a JSONL file, plain or compressed, in blocks of bounded size, with what is wrong with the stream itself.

Memory is bounded by a chunk and the longest row allowed: of a longer one only the beginning is kept.
"""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

from k2model.ingest.batch import RAW_CHARACTERS, Reason
from k2model.ingest.names import compression
from k2model.ingest.recognise import HEAD_BYTES, recognised
from k2model.ingest.storage import SourceFiles
from k2model.recipe.schema import SourceConfig, SourceFormat

CHUNK_BYTES = 4_000_000
FIRST_BYTES = 16_000_000  # looked at for the names of fields
_BOM = b"\xef\xbb\xbf"
_KEPT_BYTES = 4 * RAW_CHARACTERS  # of an over-long line
_CAREFUL_BYTES = 256  # given to a decompressor at once where it failed before


class OverLong(NamedTuple):
    """In place of a line of more bytes than allowed: its beginning and its length."""

    beginning: bytes
    length: int


@dataclass
class Stream:
    """What reading a file tells of it besides its lines.

    `head`: the first bytes of its content. `given`: bytes of content so far, from the first `taken` bytes of the file.
    Where a compressed stream broke off, `reason` and `detail` say why, and `lost_bytes` of the file gave nothing.
    """

    head: bytes = b""
    given: int = 0
    taken: int = 0
    reason: Reason | None = None
    detail: str = ""
    lost_bytes: int = 0

    def note(self, chunk: bytes) -> None:
        self.head += chunk[: HEAD_BYTES - len(self.head)]
        self.given += len(chunk)

    def stored(self, size: int) -> int:
        """About how many bytes of the file `size` bytes of its content take."""
        return size * self.taken // max(1, self.given)


Line = bytes | OverLong


def lines(
    files: SourceFiles, path: str, start: int, end: int, max_row_bytes: int, stream: Stream
) -> Iterator[tuple[int, list[Line]]]:
    """(Number of lines in front, lines) in blocks. Lines have no line end and may be blank.

    With `start` or `end` (bytes, `end` 0 = the file's) those lines whose first byte lies in that range. `stream`
    is filled in meanwhile. When a compressed stream ends early the lines up to there are given.
    """
    with files.open(path) as file:
        kind = compression(path)
        chunks = _decompressed(files, path, kind, stream) if kind else _plain(file, start, end, stream)
        before = 0
        for block in _cut(chunks, max_row_bytes):
            if not before and not start and isinstance(block[0], bytes):
                block[0] = block[0].removeprefix(_BOM)
            yield before, block
            before += len(block)


def first_lines(files: SourceFiles, path: str, source: SourceConfig) -> list[dict[str, Any]]:
    """The objects at the beginning of a file, for a look at their fields; none where it holds something else."""
    import orjson

    rows: list[dict[str, Any]] = []
    seen, stream = 0, Stream()
    content = (source.fields.messages or source.fields.text).split(".")[0]
    for _, block in lines(files, path, 0, 0, source.max_row_bytes, stream):
        if not seen and recognised(path, stream.head, SourceFormat.JSONL.value, content):
            return []
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


def _plain(file: BinaryIO, start: int, end: int, stream: Stream) -> Iterator[bytes]:
    for chunk in _range(file, start, end):
        stream.note(chunk)
        stream.taken = stream.given
        yield chunk


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


def _decompressed(files: SourceFiles, path: str, kind: str, stream: Stream) -> Iterator[bytes]:
    """Chunks of a stream, up to the last byte that can be had when it is broken."""
    feed = None
    # A read that fails takes with it what it had decompressed: go there again in smaller steps, at last single bytes.
    for size in (CHUNK_BYTES, 65_536, 1):
        with files.open(path) as file:
            feed = _Feed(file, feed.begun - 2 * 65_536 if feed else file.seek(0, os.SEEK_END))
            file.seek(0)
            try:
                for chunk in _from(feed, kind, size, stream.given):
                    stream.note(chunk)
                    stream.taken = file.tell()
                    sure = feed.begun
                    yield chunk
                return
            except OSError as error:
                stream.reason = Reason.TRUNCATED if "truncated" in str(error).lower() else Reason.CORRUPT
                stream.detail = f"the {kind} stream breaks off: {error}"
                stream.lost_bytes = file.seek(0, os.SEEK_END) - (sure if stream.given else 0)


def _from(feed: "_Feed", kind: str, size: int, skip: int) -> Iterator[bytes]:
    """Decompressed bytes from `skip` on, `size` at a time. Raises OSError where the stream is broken."""
    import lzma

    # pyarrow reads all of them but xz.
    opener: Callable[[Any], Any] = lzma.LZMAFile if kind == "xz" else _by_pyarrow(kind)
    opened = opener(feed)
    held = bytearray()  # single bytes, given together
    try:
        while skip:
            skip -= len(opened.read(min(skip, CHUNK_BYTES)))
        while chunk := opened.read(size):
            if size > 1:
                yield chunk
            else:
                held += chunk
    except (OSError, EOFError, lzma.LZMAError) as error:
        if held:
            yield bytes(held)
        raise OSError(f"truncated: {error}" if isinstance(error, EOFError) else str(error)) from error
    if held:
        yield bytes(held)


def _by_pyarrow(kind: str) -> Callable[[Any], Any]:
    return lambda file: pa.CompressedInputStream(pa.PythonFile(file, "r"), kind)


class _Feed(io.RawIOBase):
    """A file as a decompressor takes it in: `begun` is where what it took last begins, from `careful` on in small
    pieces, so that it shows what a failure has left unread."""

    def __init__(self, file: BinaryIO, careful: int) -> None:
        self._file, self._careful, self.begun = file, careful, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        position = self._file.tell()
        taken = self._file.read(min(size, _CAREFUL_BYTES) if position >= self._careful else size)
        if taken:
            self.begun = position
        return taken


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
