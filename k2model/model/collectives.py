"""The talk between workers that share a model, as functions autograd can go back through.

Each is the identity when its group is one worker. The copy/reduce pair is Megatron-LM's "f and g"
(arXiv:1909.08053, section 3), the exchange is DeepSpeed Ulysses' (arXiv:2309.14509, section 3). All
workers of a group must call in the same order. Nothing here overlaps with computation.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from k2model.model.parallel import Shard


def copy_to_group(x: Tensor, shard: Shard) -> Tensor:
    """Before a matrix cut by rows: forward nothing, backward the sum of what the workers send back."""
    return x if shard.size == 1 else _CopyToGroup.apply(x, shard)


def reduce_from_group(x: Tensor, shard: Shard) -> Tensor:
    """Behind a matrix cut by columns: the sum of the workers' parts; backward nothing."""
    return x if shard.size == 1 else _ReduceFromGroup.apply(x, shard)


def gather_from_group(x: Tensor, shard: Shard) -> Tensor:
    """The workers' parts side by side in the last dimension; backward each takes the gradient of its own."""
    return x if shard.size == 1 else _GatherFromGroup.apply(x, shard)


def exchange(parts: Tensor, shard: Shard) -> Tensor:
    """[size, ...]: part i goes to worker i, whose part for this worker takes its place (all-to-all)."""
    return parts if shard.size == 1 else _Exchange.apply(parts, shard)


def _all_to_all(parts: Tensor, shard: Shard) -> Tensor:
    received = torch.empty(parts.shape, dtype=parts.dtype, device=parts.device)
    dist.all_to_all_single(received, parts.contiguous(), group=shard.group)
    return received


class _CopyToGroup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shard: Shard) -> Tensor:
        ctx.shard = shard
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        total = grad.clone(memory_format=torch.contiguous_format)  # autograd may use `grad` elsewhere
        dist.all_reduce(total, group=ctx.shard.group)
        return total, None


class _ReduceFromGroup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shard: Shard) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=shard.group)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _GatherFromGroup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shard: Shard) -> Tensor:
        ctx.shard = shard
        parts = [torch.empty(x.shape, dtype=x.dtype, device=x.device) for _ in range(shard.size)]
        dist.all_gather(parts, x.contiguous(), group=shard.group)
        return torch.cat(parts, dim=-1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.shard.cut(grad, grad.dim() - 1), None


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parts: Tensor, shard: Shard) -> Tensor:
        ctx.shard = shard
        return _all_to_all(parts, shard)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _all_to_all(grad, ctx.shard), None  # worker i's part for me came from my part for it
