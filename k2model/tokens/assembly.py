"""From a layout to rows: the tokens of all pieces gathered, block by block, from shards that stay on the disk.

Memory is bounded by a block and by the layout's integers, never by the tokens of a phase. What is padded is
a piece like any other, cut from an endless document of padding.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from k2model.tokens.packing import Ints, Layout, Pieces
from k2model.tokens.ragged import exclusive_sum
from k2model.tokens.rows import NO_SOURCE, Rows


class Gatherer(Protocol):
    """Whatever holds documents: a token shard, in one file or many."""

    def gather(self, documents: Ints, starts: Ints, lengths: Ints) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Ids and targets of `lengths` tokens of each of `documents` from its token `starts` on, one after another."""
        ...


@dataclass
class Assembler:
    """Yields the blocks of a layout, counting as it goes: `targets` [sources] and the `largest` id."""

    layout: Layout
    shards: Sequence[Gatherer]
    sequence_length: int
    pad: int
    targets: Ints = field(init=False)
    largest: int = 0

    def __post_init__(self) -> None:
        self.targets = np.zeros(len(self.shards) + 1, dtype=np.int64)
        self._sources: list[Gatherer] = [*self.shards, _Padding(self.pad)]

    def blocks(self, rows_per_block: int) -> Iterator[Rows]:
        """`rows_per_block` rows at a time, in the layout's order."""
        rows = self.layout.rows
        borders = np.searchsorted(self.layout.row, np.append(np.arange(0, rows, rows_per_block), rows))
        for block, (begin, end) in enumerate(itertools.pairwise(borders)):
            first = block * rows_per_block
            yield self._assemble(np.arange(begin, end), first, min(rows_per_block, rows - first))

    def _assemble(self, which: Ints, first: int, rows: int) -> Rows:
        pieces, counts = self._padded(self.layout.pieces.take(which), self.layout.row[which] - first, rows)
        ids, loss = self._gathered(pieces)
        begin = exclusive_sum(pieces.length)
        loss[begin] = False  # nothing in its row tells what the first token of a piece will be
        targets = np.add.reduceat(loss, begin, dtype=np.int64)
        self.targets += np.bincount(pieces.source, targets, len(self.targets)).astype(np.int64)
        self.largest = max(self.largest, int(ids.max()))
        source = np.where(pieces.source == len(self.shards), NO_SOURCE, pieces.source).astype(np.uint8)
        shape = (rows, self.sequence_length)
        return Rows(ids.reshape(shape), loss.reshape(shape), counts, pieces.length.astype(np.int32), source)

    def _padded(self, pieces: Pieces, row: Ints, rows: int) -> tuple[Pieces, Ints]:
        """With a piece of padding at the end of every row that is not full, and how many pieces each row has."""
        filled = np.bincount(row, pieces.length, rows).astype(np.int64)
        counts = np.bincount(row, minlength=rows)
        at, short = np.cumsum(counts), np.flatnonzero(filled < self.sequence_length)
        padding = self.sequence_length - filled[short]

        def with_padding(values: Ints, added: Ints | int) -> Ints:
            return np.insert(values, at[short], added)

        counts[short] += 1
        padded = Pieces(
            with_padding(pieces.source, len(self.shards)),
            with_padding(pieces.document, 0),
            with_padding(pieces.start, 0),
            with_padding(pieces.length, padding),
        )
        return padded, counts

    def _gathered(self, pieces: Pieces) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Gathered source by source, and brought into the order of `pieces`."""
        order = np.argsort(pieces.source, kind="stable")
        borders = np.searchsorted(pieces.source[order], np.arange(len(self._sources) + 1))
        found = []
        for source, begin, end in zip(self._sources, borders[:-1], borders[1:], strict=True):
            mine = order[begin:end]
            if len(mine):
                found.append(source.gather(pieces.document[mine], pieces.start[mine], pieces.length[mine]))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        ids, loss = (np.concatenate(parts) for parts in zip(*found, strict=True))
        lengths = pieces.length[order]
        return _reordered(ids, lengths, place), _reordered(loss, lengths, place)


class _Padding:
    def __init__(self, pad: int) -> None:
        self.pad = pad

    def gather(self, documents: Ints, starts: Ints, lengths: Ints) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        tokens = int(lengths.sum())
        return np.full(tokens, self.pad, dtype=np.uint32), np.zeros(tokens, dtype=np.bool_)


def _reordered(values: NDArray[Any], lengths: Ints, order: Ints) -> NDArray[Any]:
    """The runs of `lengths` values in another order. Arrow's strings do it by copying each run as one."""
    offsets = np.append(0, np.cumsum(lengths)) * values.itemsize
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(values)]
    runs = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(lengths), buffers)
    return np.frombuffer(runs.take(pa.array(order)).buffers()[2], dtype=values.dtype, count=len(values)).copy()
