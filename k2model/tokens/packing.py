"""Where documents go: laying pieces of documents into rows of a fixed length.

Best fit places whole documents where they leave the least room, window by window, longest first; only
documents longer than a row are split. Most of a window's small documents keep their random order, so that
a row mixes lengths and families; the rest of them finish the rows. A little natural text is held back and
cut to fill what room is left. Concatenation lets documents follow each other and cuts them at the border.
This module sees lengths only, never tokens.

Best fit goes by counts: all documents of one length are placed by one look at the rooms there are, so a
phase costs a step for each pair of a length and a room, not for each document.

Best-fit packing: Ding et al., "Fewer Truncations Improve Language Modeling", 2024, arXiv:2404.10830.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2model.tokens.ragged import exclusive_sum, flat_positions, sorted_stably

WINDOW = 65_536  # documents sorted together
SMALL = 8  # a piece of at most 1/SMALL of a row is small
FINISHING = 0.25  # of a window's small pieces, those that finish rows
MIN_POURED = 64  # tokens; where even smaller pieces are not small, a row holds few documents and all finish rows
FILLER = 0.01  # of the phase's tokens, natural text held back while measuring how much of it is needed
MIN_FILLER = 4  # tokens; a shorter piece has next to no context to learn from

Ints = NDArray[np.int64]


class Pieces(NamedTuple):
    """Consecutive tokens of documents; every array is [pieces].

    `source` and `document` say which document, `start` its first token within the document, `length` how many.
    """

    source: Ints
    document: Ints
    start: Ints
    length: Ints

    def take(self, index: Ints) -> "Pieces":
        return Pieces(*(values.take(index) for values in self))

    def between(self, begin: int, end: int) -> "Pieces":
        return Pieces(*(values[begin:end] for values in self))

    def part(self, owner: Ints, offset: Ints, length: Ints) -> "Pieces":
        """`length` tokens of the pieces `owner` from their token `offset` on."""
        return Pieces(self.source[owner], self.document[owner], self.start[owner] + offset, length)


@dataclass(frozen=True)
class Layout:
    """Which `row` [pieces] takes each piece, in the order they have within it; `rows` counts complete rows."""

    pieces: Pieces
    row: Ints
    rows: int

    def fullest(self, count: int, protected: NDArray[np.bool_] | None = None) -> Ints:
        """The `count` rows with the least padding, by their number.

        Rows that hold any of the `protected` [pieces] are left out after all others.
        """
        filled = np.bincount(self.row, self.pieces.length, self.rows)
        if protected is not None:
            filled += filled.max() * (np.bincount(self.row[protected], minlength=self.rows) > 0)
        return np.sort(np.argsort(-filled, kind="stable")[:count])

    def chosen(self, chosen: Ints) -> "Layout":
        """The rows `chosen`, in that order, as are their pieces."""
        position = np.full(int(self.row.max()) + 1, -1)
        position[chosen] = np.arange(len(chosen))
        row = position[self.row]
        order = sorted_stably(row)[int((row < 0).sum()) :]
        return Layout(self.pieces.take(order), row[order], len(chosen))


class OpenRows:
    """Open rows of one capacity by the room they have, as runs of neighbouring rows with equal room.

    The rooms there are stand as bits of one integer, so that the tightest fit is the lowest bit at or above
    a length: no search over rows.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0  # rows opened so far
        self._runs: dict[int, list[tuple[int, int]]] = {}  # room -> (first row, rows)
        self._open = 0

    def place(self, lengths: Ints) -> Ints:
        """The row of each piece of `lengths` tokens [pieces], longest first, each where it leaves the least room."""
        order = sorted_stably(self.capacity - lengths)
        falling = lengths[order]
        begin = np.flatnonzero(np.diff(falling, prepend=0))
        counts = np.diff(begin, append=len(falling))
        placed: list[tuple[int, int, int]] = []
        for length, count in zip(falling[begin].tolist(), counts.tolist(), strict=True):
            self._place_alike(length, count, placed)
        first, rows, each = np.array(placed, dtype=np.int64).reshape(-1, 3).T
        result = np.empty(len(lengths), dtype=np.int64)
        pieces = rows * each
        result[order] = np.repeat(first, pieces) + flat_positions(np.zeros_like(rows), pieces) % np.repeat(rows, pieces)
        return result

    def pour(self, lengths: Ints, reserve: int) -> Ints:
        """The row of each piece, in their order: row after row, each filled up to `reserve` tokens or little more.

        No piece is longer than `reserve`, so every row that is open that far takes one at least.
        """
        open_rows = self.drain(2 * reserve)
        ends = np.cumsum(lengths).tolist()
        begin = taken = 0
        rows: list[int] = []
        counts: list[int] = []
        while taken < len(ends):
            row, room = open_rows.pop() if open_rows else self.new()
            upto = bisect_right(ends, begin + room - reserve, taken)
            self._put(room - (ends[upto - 1] - begin), [(row, 1)])
            rows.append(row)
            counts.append(upto - taken)
            begin, taken = ends[upto - 1], upto
        for row, room in open_rows:
            self._put(room, [(row, 1)])
        return np.repeat(np.array(rows, dtype=np.int64), counts)

    def drain(self, least: int) -> list[tuple[int, int]]:
        """Row and room of all rows with a room of at least `least`, which are open no more; largest room last."""
        found: list[tuple[int, int]] = []
        for room in sorted(room for room in self._runs if room >= least):
            found += [(row, room) for first, rows in self._runs.pop(room) for row in range(first, first + rows)]
        self._open &= (1 << least) - 1
        return found

    @property
    def room(self) -> int:
        """Tokens that the open rows would still take."""
        return sum(room * rows for room, runs in self._runs.items() for _, rows in runs)

    def new(self, rows: int = 1) -> tuple[int, int]:
        self.count += rows
        return self.count - rows, self.capacity

    def _place_alike(self, length: int, pieces: int, placed: list[tuple[int, int, int]]) -> None:
        """Adds (first row, rows, pieces in each row) to `placed`, as placing one piece after another would have it."""
        while pieces:
            room, runs = self._tightest(length)
            each = room // length
            if not runs:
                rows = -(-pieces // each)
                runs.append((self.new(rows)[0], rows))
            filled: list[tuple[int, int]] = []
            while runs and runs[-1][1] * each <= pieces:
                filled.append(runs.pop())
                pieces -= filled[-1][1] * each
            placed += [(first, rows, each) for first, rows in filled]
            self._put(room - each * length, filled)
            if runs and pieces:
                first, rows = runs.pop()
                full, rest = divmod(pieces, each)
                pieces = 0
                for taking, count in ((each, full), (rest, min(rest, 1))):
                    if count:
                        placed.append((first, count, taking))
                        self._put(room - taking * length, [(first, count)])
                        first, rows = first + count, rows - count
                if rows:
                    runs.append((first, rows))
            self._put(room, runs)

    def _tightest(self, length: int) -> tuple[int, list[tuple[int, int]]]:
        """The least room of at least `length` and its runs, taken out; that of an empty row and none without any."""
        fitting = self._open >> length
        if not fitting:
            return self.capacity, []
        room = length + (fitting & -fitting).bit_length() - 1
        self._open ^= 1 << room
        return room, self._runs.pop(room)

    def _put(self, room: int, runs: list[tuple[int, int]]) -> None:
        if room and runs:
            self._runs.setdefault(room, []).extend(runs)
            self._open |= 1 << room


def best_fit(documents: Pieces, natural: NDArray[np.bool_], capacity: int) -> Layout:
    """Lay `documents` (whole, in a random order) into rows of `capacity` tokens.

    `natural` [documents] marks those that may be cut to fill room: as much of it is held back as room is left
    without it, which a first pass tells.
    """
    held = _held_back(documents.length, natural, int(FILLER * documents.length.sum()))
    if held.any():
        rooms, _ = _place_whole(split(documents.take(np.flatnonzero(~held)), capacity), capacity)
        held = _held_back(documents.length, natural, rooms.room)
    whole = split(documents.take(np.flatnonzero(~held)) if held.any() else documents, capacity)
    rooms, row = _place_whole(whole, capacity)
    if held.any():
        filler, filler_row = _fill(rooms, documents.take(np.flatnonzero(held)))
        whole, row = joined([whole, filler]), np.concatenate([row, filler_row])
    return Layout(whole, row, rooms.count)


def _place_whole(documents: Pieces, capacity: int) -> tuple[OpenRows, Ints]:
    """Rows of documents none of which is longer than a row, window by window."""
    rooms = OpenRows(capacity)
    lengths = documents.length
    windows = [_place_window(rooms, lengths[at : at + WINDOW]) for at in range(0, len(lengths), WINDOW)]
    return rooms, np.concatenate([np.empty(0, dtype=np.int64), *windows])


def _place_window(rooms: OpenRows, lengths: Ints) -> Ints:
    """Rows of one window's pieces: the large ones, then most of the small ones as they come, then the rest."""
    reserve = rooms.capacity // SMALL
    is_small = lengths <= (reserve if reserve >= MIN_POURED else 0)
    large, small = np.flatnonzero(~is_small), np.flatnonzero(is_small)
    loose = small[: int(len(small) * (1 - FINISHING))]
    finishing = small[len(loose) :]
    row = np.empty_like(lengths)
    row[large] = rooms.place(lengths[large])
    row[loose] = rooms.pour(lengths[loose], reserve)
    row[finishing] = rooms.place(lengths[finishing])
    return row


def _fill(rooms: OpenRows, documents: Pieces) -> tuple[Pieces, Ints]:
    """Cut `documents` one after another into the rooms there are, largest first, and what is left over into rows."""
    tokens = int(documents.length.sum())
    found = rooms.drain(MIN_FILLER)[::-1]
    missing = tokens - sum(room for _, room in found)
    found += [rooms.new() for _ in range(-(-missing // rooms.capacity))]
    row, room = np.array(found, dtype=np.int64).reshape(-1, 2).T
    cut, into = stream(documents, room)
    return cut, row[into]


def concatenate(documents: Pieces, capacity: int) -> Layout:
    """Lay `documents` (in a random order) one after another, cut wherever a row of `capacity` tokens ends."""
    tokens = int(documents.length.sum())
    pieces, row = stream(documents, np.full(-(-tokens // capacity), capacity))
    return Layout(pieces, row, tokens // capacity)


def stream(documents: Pieces, rooms: Ints) -> tuple[Pieces, Ints]:
    """Cut `documents`, one after another, to fill `rooms` tokens [rooms] in order; and the room of each piece."""
    document_begin, room_begin = exclusive_sum(documents.length), exclusive_sum(rooms)
    end = int(documents.length.sum())
    begin = np.sort(np.concatenate([document_begin, room_begin[room_begin < end]]), kind="stable")
    begin = begin[np.diff(begin, prepend=-1) > 0]
    owner = np.searchsorted(document_begin, begin, side="right") - 1
    room = np.searchsorted(room_begin, begin, side="right") - 1
    return documents.part(owner, begin - document_begin[owner], np.diff(begin, append=end)), room


def split(documents: Pieces, capacity: int) -> Pieces:
    """Cut what is longer than `capacity` into pieces of `capacity` and a rest."""
    if not len(documents.length) or documents.length.max() <= capacity:
        return documents
    long = np.flatnonzero(documents.length > capacity)
    counts = np.ones(len(documents.length), dtype=np.int64)
    counts[long] = -(-documents.length[long] // capacity)
    source, document, start, length = (np.repeat(values, counts) for values in documents)
    at = flat_positions(exclusive_sum(counts)[long], counts[long])
    offset = flat_positions(np.zeros_like(long), counts[long]) * capacity
    start[at] += offset
    length[at] = np.minimum(capacity, length[at] - offset)
    return Pieces(source, document, start, length)


def joined(several: list[Pieces]) -> Pieces:
    """The pieces of all, one after another."""
    return Pieces(*map(np.concatenate, zip(*several, strict=True)))


def _held_back(lengths: Ints, natural: NDArray[np.bool_], tokens: int) -> NDArray[np.bool_]:
    """Mark the last natural documents that hold at most `tokens` tokens in all."""
    if not natural.any():
        return natural
    from_the_end = np.cumsum(np.where(natural, lengths, 0)[::-1])[::-1]
    return natural & (from_the_end <= tokens)
