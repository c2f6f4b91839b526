"""Activation checkpointing: a block keeps its input alone and is computed again in the backward pass.

torch's own `checkpoint` imports torch._dynamo, which costs seconds of a worker's start. Randomness is
left out, there is no dropout here. The block is called as a module both times, so that DeepSpeed's hooks gather
its parameters; collectives inside are repeated on all workers of a group alike.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def recomputed(run: Callable[..., Tensor], x: Tensor, *arguments: Any) -> Tensor:
    """`run(x, *arguments)`; of what it computes only x is kept for backward.

    The gradients are those of the plain call, bit for bit. `x` must require a gradient where `run` has
    parameters to train. Tensors among `arguments` get none.
    """
    if not torch.is_grad_enabled():
        return run(x, *arguments)
    return _Recomputed.apply(x, run, arguments)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[..., Tensor], arguments: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.run, ctx.arguments, ctx.device = run, arguments, x.device.type
        ctx.autocast = torch.is_autocast_enabled(ctx.device)
        ctx.dtype = torch.get_autocast_dtype(ctx.device)
        return run(x, *arguments)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
        x = ctx.saved_tensors[0].detach().requires_grad_()
        # No cache: it may hold casts of the weights made in the first pass, which have no gradient.
        autocast = torch.autocast(ctx.device, ctx.dtype, enabled=ctx.autocast, cache_enabled=False)
        with torch.enable_grad(), autocast:
            y = ctx.run(x, *ctx.arguments)
        torch.autograd.backward(y, grad)
        return x.grad, None, None
