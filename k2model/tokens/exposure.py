"""When a training came to see each document: the first step whose batch holds any of it.

Packed rows keep of a document no more than its source and length. Where its pieces lie follows from the phase and the
lengths of all documents, so it is worked out again, and compared with the stored rows: a packing of another version
would have laid every row differently.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from k2model.errors import TokensError
from k2model.recipe.schema import PhaseConfig
from k2model.tokens.packing import Ints, Layout
from k2model.tokens.reader import PackedSequences
from k2model.tokens.rows import NO_SOURCE
from k2model.tokens.sequences import planned_rows

NEVER = np.iinfo(np.int64).max  # as a step


def first_steps(
    tokens: Path, phase: PhaseConfig, max_epochs: float, stored: PackedSequences, left_out: Collection[int] = ()
) -> dict[str, Ints]:
    """For each source that a phase draws from, by its name, the first step at which any token of a document was trained
    on: int64 [documents], in the order of the source's token shard; `NEVER` for one that no step has.

    `stored`: the phase's rows. `left_out`: steps that an intervention left out. Raises TokensError when the rows are
    not those that this version lays.
    """
    sources, shards, layout = planned_rows(tokens, phase, max_epochs)
    _check(layout, stored)
    step = layout.row // phase.global_batch
    counted = (step < phase.steps) & ~np.isin(step, sorted(left_out))
    found: dict[str, Ints] = {}
    for number, (source, documents) in enumerate(zip(sources, shards, strict=True)):
        mine = counted & (layout.pieces.source == number)
        first = found.setdefault(source.source, np.full(len(documents.shard), NEVER))
        np.minimum.at(first, documents.fitting[layout.pieces.document[mine]], step[mine])
    return found


def _check(layout: Layout, stored: PackedSequences) -> None:
    """Compare the first and the last block with what the layout says of them."""
    per_block = stored.index.rows_per_block
    for number in sorted({0, stored.index.blocks - 1}):
        block = stored.block(number)
        begin, end = np.searchsorted(layout.row, [number * per_block, number * per_block + len(block.pieces)])
        told = block.source != NO_SOURCE
        same = np.array_equal(block.source[told], layout.pieces.source[begin:end]) and np.array_equal(
            block.length[told], layout.pieces.length[begin:end]
        )
        if not same or stored.rows != layout.rows:
            raise TokensError(
                f"{stored.where}: block {number} does not hold the documents that this version would put there, so it "
                "cannot be told which rows hold which; use the version that packed it, or ask by sources alone"
            )
