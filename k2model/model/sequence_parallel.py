"""Attention over rows that are cut over workers (DeepSpeed Ulysses, arXiv:2309.14509).

Outside attention a worker has a slice of every row and all heads; inside it has whole rows and its share of the
heads. One exchange leads in, with queries, keys and values together, and one leads out. Documents may run across the
borders of slices: attention itself sees whole rows.

Shape suffixes: W workers of the group, B batch, T whole row, t a worker's slice of it, H heads, K kv heads,
h and k one worker's share of them, E head dim.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from k2model.model.attention import BlockAttention, DocumentAttention
from k2model.model.parallel import Shard, exchange


@dataclass(frozen=True)
class SequenceParallelAttention:
    """`attend` over whole rows, for a worker that has the slice `context.rank` of each."""

    attend: BlockAttention | DocumentAttention
    context: Shard

    def __call__(self, query_BHtE: Tensor, key_BKtE: Tensor, value_BKtE: Tensor) -> Tensor:
        """[B, H, t, E]. The degree must divide H."""
        copies = math.lcm(key_BKtE.shape[1], self.context.size) // key_BKtE.shape[1]
        query, key, value = (
            self._shares(x) for x in (query_BHtE, _repeat(key_BKtE, copies), _repeat(value_BKtE, copies))
        )
        sizes = [query.shape[2], key.shape[2], value.shape[2]]
        heads_BhTE = self._whole_rows(torch.cat((query, key, value), dim=2))
        return self._slices(self.attend(*heads_BhTE.split(sizes, dim=1)))

    def _shares(self, x_BHtE: Tensor) -> Tensor:
        """[W, B, h, t, E]: the heads each worker is to have."""
        return x_BHtE.unflatten(1, (self.context.size, -1)).transpose(0, 1)

    def _whole_rows(self, shares_WBhtE: Tensor) -> Tensor:
        """[B, h, T, E]: my heads of everybody's slices, in the order of the row."""
        return exchange(shares_WBhtE, self.context).movedim(0, 2).flatten(2, 3)

    def _slices(self, x_BhTE: Tensor) -> Tensor:
        """[B, H, t, E]: everybody's heads of my slice."""
        parts_WBhtE = x_BhTE.unflatten(2, (self.context.size, -1)).movedim(2, 0)
        return exchange(parts_WBhtE, self.context).transpose(0, 1).flatten(1, 2)


def _repeat(x_BKtE: Tensor, copies: int) -> Tensor:
    """Each kv head `copies` times in a row, as few as let every worker have the ones its queries need."""
    return x_BKtE if copies == 1 else x_BKtE.repeat_interleave(copies, dim=1)
