"""Where documents go: laying pieces of documents into rows of a fixed length.

Best fit places whole documents where they leave the least room, in seeded windows, large ones first;
only documents longer than a row are split. Small documents of a window keep their random order instead
of being sorted too: they fit anyway, and a row then mixes families. A little natural text is held back
and cut to fill what room is left. Concatenation lets documents follow each other and cuts them at the
border. This module sees lengths only, never tokens.

Best-fit packing: Ding et al., "Fewer Truncations Improve Language Modeling", 2024, arXiv:2404.10830.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from k2model.tokens.ragged import exclusive_sum, flat_positions

WINDOW = 4096  # documents sorted together
SMALL = 8  # a piece of at most 1/SMALL of a row is small
FILLER = 0.03  # of the phase's tokens, the least natural text held back to fill room
MAX_PADDING = 0.01  # of all positions, beyond which more is held back
MIN_FILLER = 4  # tokens; a shorter piece has next to no context to learn from

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Pieces:
    """Consecutive tokens of documents; every array is [pieces].

    `source` and `document` say which document, `start` its first token within the document, `length` how many.
    """

    source: Ints
    document: Ints
    start: Ints
    length: Ints

    def __len__(self) -> int:
        return len(self.length)

    def take(self, index: Ints) -> "Pieces":
        return Pieces(self.source[index], self.document[index], self.start[index], self.length[index])


@dataclass(frozen=True)
class Layout:
    """Pieces with the `row` and the `column` their first token has, sorted by both.

    `rows` counts complete rows; a piece in a row beyond them has no place.
    """

    pieces: Pieces
    row: Ints
    column: Ints
    rows: int


class Rows:
    """Open rows of one capacity, filled by best fit: each piece goes where it leaves the least room.

    Rows with the same room are kept in one bucket and the non-empty buckets as bits of one integer, so
    that the tightest fit is the lowest bit at or above the piece's length: no search over rows.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        self._buckets: list[list[int]] = [[] for _ in range(capacity + 1)]
        self._open = 0

    def place(self, length: int) -> int:
        """The row that takes a piece of `length` tokens; among equally tight rows the latest."""
        fitting = self._open >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = self._buckets[room].pop()
            if not self._buckets[room]:
                self._open ^= 1 << room
        else:
            room, row = self.capacity, self.count
            self.count += 1
        if room > length:
            self._buckets[room - length].append(row)
            self._open |= 1 << (room - length)
        return row

    def largest_room(self) -> int:
        return self._open.bit_length() - 1 if self._open else 0


def best_fit(documents: Pieces, natural: NDArray[np.bool_], capacity: int) -> Layout:
    """Lay `documents` (whole, in a random order) into rows of `capacity` tokens.

    `natural` [documents] marks those that may be cut to fill room. As little of it as brings padding
    down to `MAX_PADDING` is held back for that, in steps of twice as much.
    """
    tokens, natural_tokens = int(documents.length.sum()), int(documents.length[natural].sum())
    filler = int(FILLER * tokens)
    while True:
        layout = _best_fit(documents, _held_back(documents.length, natural, filler), capacity)
        if tokens >= (1 - MAX_PADDING) * layout.rows * capacity or filler >= natural_tokens:
            return layout
        filler = 2 * filler + 1


def _best_fit(documents: Pieces, held: NDArray[np.bool_], capacity: int) -> Layout:
    main = split(documents.take(np.flatnonzero(~held)), capacity)
    main = main.take(placing_order(main.length, capacity))
    rows = Rows(capacity)
    placed = [rows.place(length) for length in main.length.tolist()]
    filler, filler_rows = _fill(rows, documents.take(np.flatnonzero(held)))
    return _layout(_joined(main, filler), np.array(placed + filler_rows, dtype=np.int64), rows.count)


def concatenate(documents: Pieces, capacity: int) -> Layout:
    """Lay `documents` (in a random order) one after another, cut wherever a row of `capacity` tokens ends."""
    begin = exclusive_sum(documents.length)
    end = begin + documents.length
    first_row, last_row = begin // capacity, (end - 1) // capacity
    counts = last_row - first_row + 1
    row = flat_positions(first_row, counts)
    owner = np.repeat(np.arange(len(documents)), counts)
    start = np.maximum(begin[owner], row * capacity)
    stop = np.minimum(end[owner], (row + 1) * capacity)
    pieces = Pieces(documents.source[owner], documents.document[owner], start - begin[owner], stop - start)
    return Layout(pieces, row, start - row * capacity, int(end[-1]) // capacity)


def split(documents: Pieces, capacity: int) -> Pieces:
    """Cut what is longer than `capacity` into pieces of `capacity` and a rest."""
    counts = -(-documents.length // capacity)
    owner = np.repeat(np.arange(len(documents)), counts)
    offset = flat_positions(np.zeros_like(counts), counts) * capacity
    length = np.minimum(capacity, documents.length[owner] - offset)
    return Pieces(documents.source[owner], documents.document[owner], documents.start[owner] + offset, length)


def placing_order(lengths: Ints, capacity: int) -> Ints:
    """Window by window: large pieces by falling length, then the small ones as they come."""
    key = np.where(lengths * SMALL > capacity, -lengths, 0)
    return np.lexsort((key, np.arange(len(lengths)) // WINDOW))


def _held_back(lengths: Ints, natural: NDArray[np.bool_], tokens: int) -> NDArray[np.bool_]:
    """Mark the last natural documents that hold at most `tokens` tokens in all."""
    from_the_end = np.cumsum(np.where(natural, lengths, 0)[::-1])[::-1]
    return natural & (from_the_end <= tokens)


def _fill(rows: Rows, documents: Pieces) -> tuple[Pieces, list[int]]:
    """Cut `documents` one after another into the largest rooms; what no room is left for opens rows."""
    taken: list[tuple[int, int, int, int]] = []
    placed: list[int] = []
    columns = (documents.source, documents.document, documents.start, documents.length)
    for source, document, start, left in zip(*(column.tolist() for column in columns), strict=True):
        while left:
            room = rows.largest_room()
            length = min(left, room if room >= MIN_FILLER else rows.capacity)
            taken.append((source, document, start, length))
            placed.append(rows.place(length))
            start, left = start + length, left - length
    table = np.array(taken, dtype=np.int64).reshape(-1, 4)
    return Pieces(table[:, 0], table[:, 1], table[:, 2], table[:, 3]), placed


def _joined(first: Pieces, second: Pieces) -> Pieces:
    return Pieces(
        np.concatenate([first.source, second.source]),
        np.concatenate([first.document, second.document]),
        np.concatenate([first.start, second.start]),
        np.concatenate([first.length, second.length]),
    )


def _layout(pieces: Pieces, row: Ints, rows: int) -> Layout:
    """Columns for pieces in the order they were placed."""
    order = np.argsort(row, kind="stable")
    pieces, row = pieces.take(order), row[order]
    before = exclusive_sum(pieces.length)
    row_begin = before[np.searchsorted(row, np.arange(rows))]
    return Layout(pieces, row, before - row_begin[row], rows)
