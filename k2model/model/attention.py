"""Causal attention over grouped heads that keeps packed documents apart.

Two formulations of one function. `BlockAttention` is for the CPU: it cuts the queries into blocks
and multiplies each with only the keys any of its queries may see, from the start of the earliest
document still open to the block itself. The square of a long row of short documents is never
touched. `FusedAttention` hands a boolean mask to torch's kernel, for accelerators.

Which keys a block reads depends on the document borders alone, never on tokens, and masked weights
are exactly zero: a document's output cannot change with its neighbours' content.

Shape suffixes: B batch, T queries, S keys, H heads, K kv heads, G = H / K, E head dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 128  # queries; on CPU smaller blocks lose more to overhead than they save in masked products
MASKED = -1e30  # finite, so that a row of them cannot make NaN; its exponential is exactly zero


def document_starts(document_BT: Tensor) -> Tensor:
    """[B, T] int64: where the document (or run of padding) of each position begins in its row.

    A document is a contiguous run of one number. Padding is treated as a document of its own, so
    that no query is without a key.
    """
    index_T = torch.arange(document_BT.shape[1], device=document_BT.device)
    begins_BT = torch.ones_like(document_BT, dtype=torch.bool)
    begins_BT[:, 1:] = document_BT[:, 1:] != document_BT[:, :-1]
    return torch.where(begins_BT, index_T, 0).cummax(dim=1).values


@dataclass(frozen=True)
class Block:
    """Queries [first, last) see keys [lowest, highest), less what `bias` (0 or MASKED) hides."""

    first: int
    last: int
    lowest: int
    highest: int
    bias_B11TS: Tensor  # B may be 1

    @classmethod
    def of(cls, first: int, last: int, lowest: int, starts_BT: Tensor, dtype: torch.dtype) -> "Block":
        keys_S = torch.arange(lowest, last)
        queries_T1 = torch.arange(first, last)[:, None]
        hidden_BTS = (keys_S > queries_T1) | (keys_S < starts_BT[:, first:last, None])
        return cls(first, last, lowest, last, additive(hidden_BTS, dtype))


def additive(hidden_BTS: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, 1, 1, T, S]: MASKED where hidden, else 0."""
    return torch.zeros(hidden_BTS.shape, dtype=dtype).masked_fill_(hidden_BTS, MASKED)[:, None, None]


@dataclass(frozen=True)
class BlockAttention:
    """Attention by blocks of queries; built once per forward pass and shared by all layers."""

    blocks: Sequence[Block]

    @classmethod
    def causal(cls, length: int, document_BT: Tensor | None, dtype: torch.dtype) -> "BlockAttention":
        """For rows of `length` positions, kept apart by document where documents are given."""
        starts_BT = torch.zeros(1, length, dtype=torch.int64) if document_BT is None else document_starts(document_BT)
        lowest = starts_BT[:, ::BLOCK].amin(dim=0).tolist()
        firsts = range(0, length, BLOCK)
        return cls(
            [
                Block.of(first, min(first + BLOCK, length), low, starts_BT, dtype)
                for first, low in zip(firsts, lowest, strict=True)
            ]
        )

    @classmethod
    def cached(cls, positions_BT: Tensor, dtype: torch.dtype) -> "BlockAttention":
        """For queries at `positions_BT` that see every cached position up to their own."""
        n_keys = int(positions_BT.max()) + 1
        hidden_BTS = torch.arange(n_keys) > positions_BT[:, :, None]
        return cls([Block(0, positions_BT.shape[1], 0, n_keys, additive(hidden_BTS, dtype))])

    def __call__(self, query_BHTE: Tensor, key_BKSE: Tensor, value_BKSE: Tensor) -> Tensor:
        """[B, H, T, E]. The query heads of a group stand side by side, so keys are never repeated."""
        batch, n_heads, length, size = query_BHTE.shape
        n_kv, group = key_BKSE.shape[1], n_heads // key_BKSE.shape[1]
        query_BKGTE = (query_BHTE * size**-0.5).view(batch, n_kv, group, length, size)
        outputs = []
        for block in self.blocks:
            n_queries, n_keys = block.last - block.first, block.highest - block.lowest
            query = query_BKGTE[:, :, :, block.first : block.last].reshape(batch * n_kv, group * n_queries, size)
            key = key_BKSE[:, :, block.lowest : block.highest].reshape(batch * n_kv, n_keys, size)
            value = value_BKSE[:, :, block.lowest : block.highest].reshape(batch * n_kv, n_keys, size)
            scores = torch.bmm(query, key.transpose(1, 2)).view(batch, n_kv, group, n_queries, n_keys)
            scores += block.bias_B11TS
            weights = scores.softmax(dim=-1).view(batch * n_kv, group * n_queries, n_keys)
            outputs.append(torch.bmm(weights, value).view(batch, n_kv, group, n_queries, size))
        return torch.cat(outputs, dim=3).view(batch, n_heads, length, size)


@dataclass(frozen=True)
class FusedAttention:
    """torch's kernel with a boolean mask, True where a query may see a key; None is plain causal."""

    mask_B1TS: Tensor | None

    @classmethod
    def causal(cls, document_BT: Tensor | None) -> "FusedAttention":
        if document_BT is None:
            return cls(None)
        starts_BT = document_starts(document_BT)
        index_T = torch.arange(document_BT.shape[1], device=document_BT.device)
        visible_BTS = (index_T <= index_T[:, None]) & (index_T >= starts_BT[:, :, None])
        return cls(visible_BTS[:, None])

    def __call__(self, query_BHTE: Tensor, key_BKSE: Tensor, value_BKSE: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(
            query_BHTE,
            key_BKSE,
            value_BKSE,
            attn_mask=self.mask_B1TS,
            is_causal=self.mask_B1TS is None,
            enable_gqa=query_BHTE.shape[1] != key_BKSE.shape[1],
        )
