"""From a layout to rows: the tokens of all pieces gathered, block by block, from shards that stay on the disk.

Memory is bounded by a block and by the layout's integers, never by the tokens of a phase. What is padded is
a piece like any other, cut from an endless document of padding.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from k2model.tokens.packing import Ints, Layout, Pieces
from k2model.tokens.ragged import exclusive_sum, sorted_stably
from k2model.tokens.rows import NO_SOURCE, Rows
from k2model.tokens.shards import Batch, padding, read_runs


class Documents(Protocol):
    """Whatever holds documents: a token shard, in one file or many."""

    @property
    def batches(self) -> Sequence[Batch]: ...

    def locate(self, documents: Ints, starts: Ints) -> tuple[Ints, Ints]:
        """The batch of each of `documents`, and the place there of its token `starts`."""
        ...


@dataclass
class Assembler:
    """Yields the blocks of a layout, counting as it goes: `targets` [sources] and the `largest` id."""

    layout: Layout
    shards: Sequence[Documents]
    sequence_length: int
    pad: int
    targets: Ints = field(init=False)
    largest: int = 0

    def __post_init__(self) -> None:
        self.targets = np.zeros(len(self.shards), dtype=np.int64)
        self._first = np.cumsum([0, *(len(shard.batches) for shard in self.shards)])
        self._batches = [batch for shard in self.shards for batch in shard.batches]
        self._batches.append(padding(self.sequence_length, self.pad))

    def blocks(self, rows_per_block: int) -> Iterator[Rows]:
        """`rows_per_block` rows at a time, in the layout's order."""
        rows = self.layout.rows
        borders = np.searchsorted(self.layout.row, np.append(np.arange(0, rows, rows_per_block), rows))
        for block, (begin, end) in enumerate(itertools.pairwise(borders)):
            first = block * rows_per_block
            row = self.layout.row[begin:end] - first
            yield self._assemble(self.layout.pieces.between(begin, end), row, min(rows_per_block, rows - first))

    def _assemble(self, pieces: Pieces, row: Ints, rows: int) -> Rows:
        pieces, counts = self._padded(pieces, row, rows)
        ids, loss_mask = read_runs(self._batches, *self._located(pieces), pieces.length)
        loss_mask = self._counted(loss_mask, pieces)
        self.largest = max(self.largest, int(ids.max()))
        source = np.where(pieces.source == len(self.shards), NO_SOURCE, pieces.source).astype(np.uint8)
        shape = (rows, self.sequence_length)
        return Rows(ids.reshape(shape), loss_mask.reshape(shape), counts, pieces.length.astype(np.int32), source)

    def _padded(self, pieces: Pieces, row: Ints, rows: int) -> tuple[Pieces, Ints]:
        """With a piece of padding at the end of every row that is not full, and how many pieces each row has."""
        filled = np.bincount(row, pieces.length, rows).astype(np.int64)
        counts = np.bincount(row, minlength=rows)
        at, short = np.cumsum(counts), np.flatnonzero(filled < self.sequence_length)
        padding = self.sequence_length - filled[short]

        counts[short] += 1
        nothing = np.zeros_like(padding)
        added = Pieces(nothing + len(self.shards), nothing, nothing, padding)
        padded = (np.insert(own, at[short], more) for own, more in zip(pieces, added, strict=True))
        return Pieces(*padded), counts

    def _located(self, pieces: Pieces) -> tuple[Ints, Ints]:
        """The batch of every piece and where in it the piece begins. What no shard has is padding, the last batch."""
        batch, place = np.full_like(pieces.source, len(self._batches) - 1), np.zeros_like(pieces.source)
        order = sorted_stably(pieces.source)
        borders = np.searchsorted(pieces.source[order], np.arange(len(self.shards) + 1))
        for shard, first, (begin, end) in zip(self.shards, self._first[:-1], itertools.pairwise(borders), strict=True):
            mine = order[begin:end]
            found, place[mine] = shard.locate(pieces.document[mine], pieces.start[mine])
            batch[mine] = first + found
        return batch, place

    def _counted(self, loss_mask: NDArray[np.bool_], pieces: Pieces) -> NDArray[np.bool_]:
        """The targets without the first token of each piece: nothing in its row tells what it will be."""
        loss_mask = loss_mask.copy()
        begin = exclusive_sum(pieces.length)
        loss_mask[begin] = False
        targets = np.add.reduceat(loss_mask, begin, dtype=np.int64)
        self.targets += np.bincount(pieces.source, targets, len(self.targets) + 1)[:-1].astype(np.int64)
        return loss_mask
