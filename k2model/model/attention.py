"""Causal attention over grouped heads that keeps packed documents apart, in memory linear in the row.

Two formulations of one function. `BlockAttention` is for the CPU: it cuts the queries into blocks
and multiplies each with only the keys any of its queries may see, from the start of the earliest
document still open to the block itself. The square of a long row of short documents is never
touched. Backward computes a block's weights again instead of keeping them (as FlashAttention does,
arXiv:2205.14135). `DocumentAttention` is for accelerators: torch's causal kernel, document by document, or its kernel
for documents of different lengths, all of them in one call.

Which keys a block reads depends on the document borders alone, never on tokens, and masked weights
are exactly zero: a document's output cannot change with its neighbours' content.

Shape suffixes: B batch, T queries, S keys, H heads, K kv heads, G = H / K, E head dim,
N = B * K, Q = G * n for the n queries of a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise, zip_longest
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from k2model.model.products import in_own_types

BLOCK = 128  # queries; on CPU smaller blocks lose more to overhead than they save in masked products
KEPT_WEIGHTS = 2**23  # of one layer, kept for backward: short rows are 10-20% faster for it, long ones cost no more
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
    """Queries [first, last) see keys [lowest, highest): each from its `starts` to its `ends`, exclusive."""

    first: int
    last: int
    lowest: int
    highest: int
    starts_BT: Tensor  # of its queries; B may be 1
    ends_BT: Tensor

    def bias_BTS(self, dtype: torch.dtype) -> Tensor:
        """MASKED where a query must not see a key, else 0. Made when needed: all of them are the square of the row."""
        starts_BT = self.starts_BT
        keys_S = torch.arange(self.lowest, self.highest, dtype=starts_BT.dtype, device=starts_BT.device)
        hidden_BTS = (keys_S >= self.ends_BT[:, :, None]) | (keys_S < starts_BT[:, :, None])
        return hidden_BTS.to(dtype).mul_(MASKED)


@dataclass(frozen=True)
class BlockAttention:
    """Attention by blocks of queries; built once per forward pass and shared by all layers."""

    blocks: Sequence[Block]

    @classmethod
    def causal(cls, length: int, document_BT: Tensor | None = None) -> "BlockAttention":
        """For rows of `length` positions, kept apart by document where documents are given."""
        starts_BT = torch.zeros(1, length, dtype=torch.int64) if document_BT is None else document_starts(document_BT)
        ends_BT = torch.arange(1, length + 1, device=starts_BT.device)[None]
        lowest = starts_BT[:, ::BLOCK].amin(dim=0).tolist()
        firsts = [*range(0, length, BLOCK), length]
        return cls(
            [
                Block(first, last, low, last, starts_BT[:, first:last], ends_BT[:, first:last])
                for (first, last), low in zip(pairwise(firsts), lowest, strict=True)
            ]
        )

    def __call__(self, query_BHTE: Tensor, key_BKSE: Tensor, value_BKSE: Tensor) -> Tensor:
        """[B, H, T, E]. The query heads of a group stand side by side, so keys are never repeated."""
        (batch, n_heads, length, size), n_kv = query_BHTE.shape, key_BKSE.shape[1]
        query_NGTE = (query_BHTE * size**-0.5).reshape(batch * n_kv, n_heads // n_kv, length, size)
        out_NGTE = _BlockAttention.apply(
            query_NGTE, key_BKSE.flatten(0, 1), value_BKSE.flatten(0, 1), self.blocks, n_kv
        )
        return out_NGTE.view(batch, n_heads, length, size)


class _BlockAttention(torch.autograd.Function):
    @staticmethod
    @in_own_types
    def forward(
        ctx: Any, query_NGTE: Tensor, key_NSE: Tensor, value_NSE: Tensor, blocks: Sequence[Block], n_kv: int
    ) -> Tensor:
        ctx.blocks, ctx.n_kv = blocks, n_kv
        kept, room = [], KEPT_WEIGHTS
        out_NGTE = torch.empty(query_NGTE.shape, dtype=query_NGTE.dtype, device=query_NGTE.device)
        for block in blocks:
            out = out_NGTE[:, :, block.first : block.last]
            weights_NQS = _weights(block, query_NGTE, key_NSE, n_kv)
            room -= weights_NQS.numel()
            if room >= 0:
                kept.append(weights_NQS)
            out.copy_(torch.bmm(weights_NQS, value_NSE[:, block.lowest : block.highest]).view(out.shape))
        ctx.save_for_backward(query_NGTE, key_NSE, value_NSE, *kept)
        return out_NGTE

    @staticmethod
    @in_own_types
    def backward(ctx: Any, grad_NGTE: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query_NGTE, key_NSE, value_NSE, *kept = ctx.saved_tensors
        query_grad = torch.empty(query_NGTE.shape, dtype=query_NGTE.dtype, device=query_NGTE.device)
        key_grad, value_grad = (
            torch.zeros(x.shape, dtype=_wide(x.dtype), device=x.device) for x in (key_NSE, value_NSE)
        )
        for block, weights_NQS in zip_longest(ctx.blocks, kept):
            queries, keys = slice(block.first, block.last), slice(block.lowest, block.highest)
            if weights_NQS is None:
                weights_NQS = _weights(block, query_NGTE, key_NSE, ctx.n_kv)
            grad_NQE = grad_NGTE[:, :, queries].flatten(1, 2)
            value_grad[:, keys] += torch.bmm(weights_NQS.transpose(1, 2), grad_NQE)
            weights_grad_NQS = torch.bmm(grad_NQE, value_NSE[:, keys].transpose(1, 2))
            scores_grad_NQS = torch._softmax_backward_data(weights_grad_NQS, weights_NQS, -1, weights_NQS.dtype)
            of_block = query_grad[:, :, queries]
            of_block.copy_(torch.bmm(scores_grad_NQS, key_NSE[:, keys]).view(of_block.shape))
            key_grad[:, keys] += torch.bmm(scores_grad_NQS.transpose(1, 2), query_NGTE[:, :, queries].flatten(1, 2))
        return query_grad, key_grad.to(key_NSE.dtype), value_grad.to(value_NSE.dtype), None, None


def _weights(block: Block, query_NGTE: Tensor, key_NSE: Tensor, n_kv: int) -> Tensor:
    """[N, Q, S]: the attention of one block's queries, softmax over its keys."""
    query_NGTE = query_NGTE[:, :, block.first : block.last]
    key_NSE = key_NSE[:, block.lowest : block.highest]
    scores_NQS = torch.bmm(query_NGTE.flatten(1, 2), key_NSE.transpose(1, 2))
    scores_BKGTS = scores_NQS.view(-1, n_kv, *query_NGTE.shape[1:3], key_NSE.shape[1])
    scores_BKGTS += block.bias_BTS(scores_NQS.dtype)[:, None, None]
    return scores_NQS.softmax(dim=-1)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The type in which blocks' shares of a gradient are summed."""
    return torch.promote_types(dtype, torch.float32)


@dataclass(frozen=True)
class DocumentAttention:
    """torch's causal kernel, which needs no mask, called once for each document of each row; with `ends` its kernel for
    many documents (`torch.nn.attention.varlen`, on CUDA and in half precision alone), called once for all."""

    lengths: Sequence[Sequence[int]] | None  # of each row's documents, runs of padding included; None: rows are whole
    ends: Tensor | None = None  # [documents + 1] int32: where each ends in all rows laid end to end, behind a 0

    @classmethod
    def causal(cls, length: int, document_BT: Tensor | None = None, in_one_call: bool = False) -> "DocumentAttention":
        """Reads the document borders, so an accelerator is waited for: once a forward pass."""
        if document_BT is None:
            return cls(None)
        starts_BT = document_starts(document_BT).tolist()
        borders = [[*sorted(set(starts)), len(starts)] for starts in starts_BT]
        lengths = [[last - first for first, last in pairwise(row)] for row in borders]
        if not in_one_call:
            return cls(lengths)
        ends = [0, *accumulate(chain.from_iterable(lengths))]
        return cls(lengths, torch.tensor(ends, dtype=torch.int32, device=document_BT.device))

    def __call__(self, query_BHTE: Tensor, key_BKSE: Tensor, value_BKSE: Tensor) -> Tensor:
        """[B, H, T, E]."""
        if self.lengths is None:
            return _causal(query_BHTE, key_BKSE, value_BKSE)
        if self.ends is not None:
            longest = max(chain.from_iterable(self.lengths))
            return _in_one_call(query_BHTE, key_BKSE, value_BKSE, self.ends, longest)
        rows = zip(query_BHTE.split(1), key_BKSE.split(1), value_BKSE.split(1), self.lengths, strict=True)
        return torch.cat([_by_document(*row) for row in rows])


def _in_one_call(query_BHTE: Tensor, key_BKSE: Tensor, value_BKSE: Tensor, ends: Tensor, longest: int) -> Tensor:
    """The kernel takes positions before heads, [B T, H, E]: of one row a view, of several a copy."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (x.transpose(1, 2).flatten(0, 1) for x in (query_BHTE, key_BKSE, value_BKSE))
    grouped = query.shape[1] != key.shape[1]
    causal = (-1, 0)  # as a window: everything before, nothing behind
    out: Any = varlen_attn(query, key, value, ends, ends, longest, longest, window_size=causal, enable_gqa=grouped)
    return out.unflatten(0, (len(query_BHTE), -1)).transpose(1, 2)


def _by_document(query_1HTE: Tensor, key_1KSE: Tensor, value_1KSE: Tensor, lengths: Sequence[int]) -> Tensor:
    parts = zip(*(x.split(lengths, dim=2) for x in (query_1HTE, key_1KSE, value_1KSE)), strict=True)
    return torch.cat([_causal(*part) for part in parts], dim=2)


def _causal(query_BHTE: Tensor, key_BKSE: Tensor, value_BKSE: Tensor) -> Tensor:
    grouped = query_BHTE.shape[1] != key_BKSE.shape[1]
    return F.scaled_dot_product_attention(query_BHTE, key_BKSE, value_BKSE, is_causal=True, enable_gqa=grouped)
