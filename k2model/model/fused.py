"""Autograd functions written by hand: the work between matrix products, and activation checkpointing.

Fewer passes over memory than autograd takes; on a CPU these passes cost as much as a fifth of a training step. Each
function is plain torch on any device; what is cheap is computed again in backward instead of kept. Gradients of
gradients are left out.

`recomputed` keeps a block's input alone and computes the block again in the backward pass. torch's own `checkpoint`
imports torch._dynamo, which costs seconds of a worker's start. Randomness is left out, there is no dropout here. The
block is called as a module both times, so that DeepSpeed's hooks gather its parameters; collectives inside are repeated
on all workers of a group alike.

Shape suffixes: B batch, T sequence, N all heads of one product, H heads, K kv heads, E head dim, D hidden, F ffn.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from k2model.model.products import in_own_types, without_autocast


def rms_norm(x: Tensor, centred_gain_D: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * (1 + centred_gain) over the last dimension; computed in fp32, given in `dtype`."""
    return _RMSNorm.apply(x, centred_gain_D, eps, dtype)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    @in_own_types
    def forward(ctx: Any, x: Tensor, centred_gain_D: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        wide = x.to(centred_gain_D.dtype)
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, centred_gain_D, scale)
        return (wide * scale).mul_(centred_gain_D + 1.0).to(dtype)

    @staticmethod
    @in_own_types
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, centred_gain_D, scale = ctx.saved_tensors
        gain_D, grad = centred_gain_D + 1.0, grad.to(centred_gain_D.dtype)
        normed = x * scale
        product = (grad * normed).flatten(0, -2)
        gain_grad_D = product.sum(dim=0)
        along = torch.mv(product, gain_D / len(gain_D)).view(scale.shape)  # mean of grad * gain * normed
        x_grad = (grad * gain_D).sub_(normed.mul_(along)).mul_(scale)
        return x_grad.to(x.dtype), gain_grad_D, None, None


def swiglu(gate_and_up: Tensor) -> Tensor:
    """silu(gate) * up of [..., 2F], gate first; [..., F]."""
    return _SwiGLU.apply(gate_and_up)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    @in_own_types
    def forward(ctx: Any, gate_and_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_and_up)
        gate, up = gate_and_up.chunk(2, dim=-1)
        return torch.nn.functional.silu(gate).mul_(up)

    @staticmethod
    @in_own_types
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (gate_and_up,) = ctx.saved_tensors
        gate, up = gate_and_up.chunk(2, dim=-1)
        result = torch.empty_like(gate_and_up)
        gate_grad, up_grad = result.chunk(2, dim=-1)
        torch.mul(grad, torch.nn.functional.silu(gate), out=up_grad)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=gate_grad)
        return result


def split_and_rotate(
    heads_BTNE: Tensor, cos: Tensor, sin: Tensor, n_heads: int, n_kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [B, H, T, E], keys and values [B, K, T, E], contiguous, of heads that lie side by side (N = H + 2K).

    Queries and keys get rotary positions ("half rotation"); `cos` and `sin` [T, E] or [B, 1, T, E], fp32, hold the
    same angles in both halves of E.
    """
    return _SplitAndRotate.apply(heads_BTNE, cos, sin, (n_heads, n_kv_heads, n_kv_heads))


class _SplitAndRotate(torch.autograd.Function):
    @staticmethod
    @in_own_types
    def forward(
        ctx: Any, heads_BTNE: Tensor, cos: Tensor, sin: Tensor, sizes: tuple[int, int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        ctx.sizes = sizes
        query, key, value = heads_BTNE.transpose(1, 2).split(sizes, dim=1)
        return rotated(query, cos, sin), rotated(key, cos, sin), value.contiguous()

    @staticmethod
    @in_own_types
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        query, key, value = grads
        batch, _, length, size = query.shape
        result = torch.empty(batch, length, sum(ctx.sizes), size, dtype=query.dtype, device=query.device)
        query_grad, key_grad, value_grad = result.transpose(1, 2).split(ctx.sizes, dim=1)
        query_grad.copy_(rotated(query, cos, -sin))  # the transpose of a rotation turns back
        key_grad.copy_(rotated(key, cos, -sin))
        value_grad.copy_(value)
        return result, None, None, None


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x * cos + (-second half, first half of x) * sin, contiguous and in the type of x [..., E]."""
    half = x.shape[-1] // 2
    wide = torch.promote_types(x.dtype, cos.dtype)
    result = torch.empty(x.shape, dtype=wide, device=x.device)
    torch.mul(x, cos, out=result)
    result[..., :half].addcmul_(x[..., half:], sin[..., half:], value=-1.0)
    result[..., half:].addcmul_(x[..., :half], sin[..., :half])
    return result.to(x.dtype)


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
        # The meta device, on which sizes are counted, knows no autocast.
        ctx.autocast = torch.amp.is_autocast_available(ctx.device) and torch.is_autocast_enabled(ctx.device)
        return run(x, *arguments)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
        x = ctx.saved_tensors[0].detach().requires_grad_()
        # No cache: it may hold casts of the weights made in the first pass, which have no gradient.
        autocast = (
            torch.autocast(ctx.device, torch.get_autocast_dtype(ctx.device), cache_enabled=False)
            if ctx.autocast
            else without_autocast(ctx.device)
        )
        with torch.enable_grad(), autocast:
            y = ctx.run(x, *ctx.arguments)
        torch.autograd.backward(y, grad)
        return x.grad, None, None
