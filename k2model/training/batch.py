"""A worker's part of a step's rows: its rows of the global batch, its piece of each row.

A pure function of step and layout, so nothing of it is saved or restored. Targets are shifted before a
row is cut, since the last position of a piece predicts the first token of the next.

Shape suffixes: B rows of this worker, T its positions, R the positions of the whole row.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from k2model.model import shifted_targets
from k2model.model.loss import IGNORED
from k2model.tokens import PackedSequences
from k2model.training.layout import Layout


@dataclass(frozen=True)
class Batch:
    """`targets_BT`: the token each position predicts, IGNORED where none counts. `document_BR`: of the whole
    rows, which attention needs. `source_BT`: index into the phase's sources, 255 for padding.

    `targets` and `attended` are what this worker adds to the global counts, 0 where a neighbour of its
    group has counted the same: targets, and pairs of positions (the square of each document's length).
    """

    tokens_BT: Tensor
    targets_BT: Tensor
    document_BR: Tensor
    source_BT: Tensor
    targets: int
    attended: int


def read_batch(sequences: PackedSequences, step: int, global_batch: int, layout: Layout) -> Batch:
    """What the worker at `layout` trains on at `step`. Raises TokensError beyond the last step."""
    rows = sequences.batch(step, global_batch, layout.data.rank, layout.data.size)
    targets_BR = shifted_targets(rows["tokens"], rows["loss"])
    counts = layout.context.rank == 0 and layout.tensor.rank == 0
    return Batch(
        tokens_BT=layout.context.cut(rows["tokens"], 1),
        targets_BT=layout.context.cut(targets_BR, 1),
        document_BR=rows["document"],
        source_BT=layout.context.cut(rows["source"], 1),
        targets=int((targets_BR != IGNORED).sum()) if counts else 0,
        attended=_attended(rows["document"]) if counts else 0,
    )


def _attended(document_BR: Tensor) -> int:
    """Sum of the squared lengths of all documents; padding (-1) attends to nothing worth counting."""
    rows, length = document_BR.shape
    numbers_BR = torch.where(document_BR >= 0, document_BR, length) + torch.arange(rows)[:, None] * (length + 1)
    lengths = torch.bincount(numbers_BR.flatten(), minlength=rows * (length + 1)).view(rows, length + 1)[:, :length]
    return int(lengths.square().sum())
