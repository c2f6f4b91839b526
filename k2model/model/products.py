"""Matrix products in the phase's precision, on whatever instructions the processor has, and the layers made of them.

Under bf16 autocast a product takes bf16 operands and sums in fp32. Torch has kernels for that on
accelerators and on CPUs with AVX-512 or AMX; on any other CPU it falls back to a scalar loop many times
slower than fp32. There the operands are rounded to bf16 and multiplied in fp32: the same products, with
results that are not rounded; attention, whose operands are such results, is fp32 altogether. `linear`
is where parameters are multiplied; several matrices that read one input are multiplied at once. Layers do not draw
their weights: `K2Model.initialise` draws every parameter whole and cuts it, since how a model is spread over workers
must not move the random generator.

Shape suffixes: P positions, D in, N out.
"""

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class Products:
    """`dtype`: of the operands as they are multiplied; `rounding`: they hold values of bf16 all the same."""

    dtype: torch.dtype
    rounding: bool = False

    @classmethod
    def of(cls, x: Tensor, weight: Tensor) -> "Products":
        """As autocast wants them where it is on for the device of `x`, else in the type of the parameters."""
        device = x.device.type
        if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
            return cls(weight.dtype)
        wanted = torch.get_autocast_dtype(device)
        rounding = wanted is torch.bfloat16 and not multiplies_bf16(device)
        return cls(torch.float32, rounding=True) if rounding else cls(wanted)

    def kept(self, x: Tensor) -> Tensor:
        """`x` as an operand in its smallest form: what is worth saving for backward."""
        return x.to(torch.bfloat16 if self.rounding else self.dtype)

    def operand(self, x: Tensor) -> Tensor:
        """`x` ready to be multiplied."""
        return self.kept(x).to(self.dtype)


@functools.cache
def multiplies_bf16(device: str) -> bool:
    """Whether torch has a fast kernel for products of bf16 matrices there."""
    return device != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def without_autocast(device: str) -> contextlib.AbstractContextManager[None]:
    """Inside, the operands' own types decide. The meta device, on which shapes are counted, knows no autocast."""
    return (
        torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else contextlib.nullcontext()
    )


def in_own_types(run: Callable[..., T]) -> Callable[..., T]:
    """A pass of an autograd function, `run(ctx, tensor, ...)`, outside any autocast: backward may be called inside."""

    @functools.wraps(run)
    def plainly(ctx: Any, x: Tensor, *rest: Any) -> T:
        with without_autocast(x.device.type):
            return run(ctx, x, *rest)

    return plainly


def linear(x: Tensor, *weights: Tensor) -> Tensor:
    """x [..., D] times the transpose of each weight [N_i, D], side by side: [..., sum N_i], in one product.

    The result is bf16 under autocast where the device multiplies bf16, else of the parameters' type.
    """
    return _Linear.apply(x, Products.of(x, weights[0]), *weights)


class _Linear(torch.autograd.Function):
    @staticmethod
    @in_own_types
    def forward(ctx: Any, x: Tensor, products: Products, *weights: Tensor) -> Tensor:
        kept = products.kept(x)
        # Joined they are saved, not the parameters: under ZeRO 3 those are elsewhere when backward comes.
        small = [products.kept(weight) for weight in weights]
        weight_ND = (torch.cat(small) if len(small) > 1 else small[0]).to(products.dtype)
        ctx.save_for_backward(kept, weight_ND)
        ctx.products, ctx.dtype = products, x.dtype
        ctx.rows, ctx.parameters = [len(weight) for weight in weights], weights[0].dtype
        return kept.to(products.dtype) @ weight_ND.T

    @staticmethod
    @in_own_types
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        kept, weight_ND = ctx.saved_tensors
        grad = ctx.products.operand(grad)
        grad_PN, x_PD = grad.flatten(0, -2), kept.flatten(0, -2).to(ctx.products.dtype)
        x_grad = (grad @ weight_ND).to(ctx.dtype) if ctx.needs_input_grad[0] else None
        weight_grads = (grad_PN.T @ x_PD).to(ctx.parameters).split(ctx.rows)
        return x_grad, None, *weight_grads


class Linear(nn.Linear):
    """Without bias; its memory is undefined until it is drawn or loaded."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight)

    def reset_parameters(self) -> None:
        pass


class Embedding(nn.Embedding):
    """Its memory is undefined until it is drawn or loaded."""

    def reset_parameters(self) -> None:
        pass
