"""Finds training documents that contain an evaluation item's prompt, word for word.

A thousand prompts against megabytes of text would take minutes with `prompt in text`, so a shard is
first reduced to the set of 8-byte windows that occur in it: a prompt one of whose windows does not
occur is nowhere, and only the few left are searched for. UTF-8 is self-synchronising, so a match of
bytes is a match of characters. Reworded copies are not found here: decontamination and the `key`
column are for those.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

WINDOW = 8  # bytes
TABLE_BITS = 24
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, spreads windows over the table


def find_prompts(texts: pa.ChunkedArray, prompts: Sequence[str]) -> dict[int, int]:
    """Row -> index of the first of `prompts` that its text contains at word borders."""
    found: dict[int, int] = {}
    start = 0
    for chunk in texts.chunks:
        for row, prompt in _find_in_chunk(chunk, prompts):
            found[start + row] = min(prompt, found.get(start + row, prompt))
        start += len(chunk)
    return found


def string_bytes(chunk: pa.StringArray) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The UTF-8 bytes of a string array and the offsets of its rows in them; null counts as empty."""
    chunk = pa.concat_arrays([chunk.fill_null("")])
    _, offsets, values = chunk.buffers()
    starts = np.frombuffer(offsets, dtype=np.int32)[chunk.offset : chunk.offset + len(chunk) + 1].astype(np.int64)
    octets = np.frombuffer(values, dtype=np.uint8) if values is not None else np.zeros(0, dtype=np.uint8)
    return octets[starts[0] : starts[-1]], starts - starts[0]


def _find_in_chunk(chunk: pa.StringArray, prompts: Sequence[str]) -> Iterator[tuple[int, int]]:
    if not len(chunk):
        return
    octets, starts = string_bytes(chunk)
    occurs = np.zeros(1 << TABLE_BITS, dtype=bool)
    occurs[_window_hashes(octets)] = True
    haystack = octets.tobytes()
    for index, prompt in enumerate(prompts):
        needle = prompt.encode()
        if needle and occurs[_window_hashes(np.frombuffer(needle, dtype=np.uint8))].all():
            yield from ((row, index) for row in _rows_with(haystack, starts, needle))


def _window_hashes(octets: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A table index for every window; empty when there are fewer bytes than one window."""
    count = max(0, len(octets) - WINDOW + 1)
    windows = np.ndarray((count,), dtype="<u8", buffer=np.ascontiguousarray(octets), strides=(1,)) if count else ()
    return (np.asarray(windows, dtype=np.uint64) * _MIX) >> np.uint64(64 - TABLE_BITS)


def _rows_with(haystack: bytes, starts: np.ndarray[Any, Any], needle: bytes) -> Iterator[int]:
    position = haystack.find(needle)
    while position >= 0:
        row = int(np.searchsorted(starts, position, side="right")) - 1
        end, row_start, row_end = position + len(needle), int(starts[row]), int(starts[row + 1])
        if end <= row_end and not (
            _joins(haystack, position, row_start, row_end) or _joins(haystack, end, row_start, row_end)
        ):
            yield row
        position = haystack.find(needle, position + 1)


def _joins(haystack: bytes, border: int, row_start: int, row_end: int) -> bool:
    """Whether the bytes on both sides of `border` belong to one word: `Niger` is not in `Nigeria`."""
    if not row_start < border < row_end:
        return False
    return all(octet >= 0x80 or chr(octet).isalnum() for octet in haystack[border - 1 : border + 1])
