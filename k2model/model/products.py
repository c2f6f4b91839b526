"""Matrix products in the phase's precision, on whatever instructions the processor has, and the layers made of them.

Under bf16 autocast a product takes bf16 operands and sums in fp32. Torch has kernels for that on
accelerators and on CPUs with AVX-512 or AMX; on any other CPU it falls back to a scalar loop many times
slower than fp32. There the operands are rounded to bf16 and multiplied in fp32: the same products, with
results that are not rounded; attention, whose operands are such results, is fp32 altogether. `linear`
is where parameters are multiplied; several matrices that read one input are multiplied at once, and where the workers
of `tensor` have a slice of the input each, it is gathered for the product alone and kept in slices. Layers do not draw
their weights: `K2Model.initialise` draws every parameter whole and cuts it, since how a model is spread over workers
must not move the random generator.

Shape suffixes: B batch, T positions, t a worker's slice of them, P all positions, D in, N out, V (local) vocabulary.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from k2model.model.parallel import WHOLE, Shard, all_gather, reduce_scatter, sum_to_slices

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
        return cls.wanted(torch.get_autocast_dtype(device), device)

    @classmethod
    def wanted(cls, dtype: torch.dtype, device: str) -> "Products":
        """In `dtype`, on a kind of device."""
        rounding = dtype is torch.bfloat16 and not multiplies_bf16(device)
        return cls(torch.float32, rounding=True) if rounding else cls(dtype)

    def kept(self, x: Tensor) -> Tensor:
        """`x` as an operand in its smallest form: what is worth saving for backward."""
        return x.to(torch.bfloat16 if self.rounding else self.dtype)

    def operand(self, x: Tensor) -> Tensor:
        """`x` ready to be multiplied."""
        return self.kept(x).to(self.dtype)

    def joined(self, weights: Sequence[Tensor]) -> Tensor:
        """[sum N_i, D]: weights one below the other, ready to be multiplied."""
        small = [self.kept(weight) for weight in weights]
        return (torch.cat(small) if len(small) > 1 else small[0]).to(self.dtype)


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


def linear(x: Tensor, *weights: Tensor, tensor: Shard = WHOLE, again: Callable[[], Tensor] | None = None) -> Tensor:
    """x [..., D] times the transpose of each weight [N_i, D], side by side: [..., sum N_i], in one product.

    The result is bf16 under autocast where the device multiplies bf16, else of the parameters' type.

    Args:
        tensor: the workers that have a slice of x [B, t, D] each; the result is of all positions, [B, T, sum N_i].
        again: makes x once more in backward, where it then is not kept.
    """
    return _Linear.apply(x, Products.of(x, weights[0]), tensor, again, *weights)


class _Linear(torch.autograd.Function):
    @staticmethod
    @in_own_types
    def forward(
        ctx: Any,
        x: Tensor,
        products: Products,
        tensor: Shard,
        again: Callable[[], Tensor] | None,
        *weights: Tensor,
    ) -> Tensor:
        kept = products.kept(x)
        ctx.save_for_backward(*weights, *([] if again else [kept]))
        ctx.products, ctx.tensor, ctx.again, ctx.dtype, ctx.count = products, tensor, again, x.dtype, len(weights)
        return all_gather(kept, tensor).to(products.dtype) @ products.joined(weights).T

    @staticmethod
    @in_own_types
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, kept = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        products, grad, x_grad = ctx.products, ctx.products.operand(grad), None
        if ctx.needs_input_grad[0]:
            x_grad = reduce_scatter((grad @ products.joined(weights)).to(ctx.dtype), ctx.tensor)
        x = kept[0] if kept else products.kept(ctx.again())
        ctx.again = None  # with what it held
        x_PD = all_gather(x, ctx.tensor).flatten(0, -2).to(products.dtype)
        weight_grads = (grad.flatten(0, -2).T @ x_PD).to(weights[0].dtype).split([len(weight) for weight in weights])
        return x_grad, None, None, None, *weight_grads


class Linear(nn.Linear):
    """Without bias; its memory is undefined until it is drawn or loaded."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, bias=False)

    def forward(self, input: Tensor, again: Callable[[], Tensor] | None = None) -> Tensor:
        return linear(input, self.weight, again=again)

    def reset_parameters(self) -> None:
        pass


class Embedding(nn.Embedding):
    """Over `tensor` each worker holds an equal part of the vocabulary's rows. Its memory is undefined until it is drawn
    or loaded."""

    def __init__(self, vocab_size: int, hidden_size: int, tensor: Shard) -> None:
        self.tensor = tensor
        super().__init__(vocab_size // tensor.size, hidden_size)

    def forward(self, tokens_BT: Tensor, dtype: torch.dtype) -> Tensor:  # type: ignore[override]
        """[B, t, D] of `dtype`: this worker's slice of the tokens' rows, of tokens that all of `tensor` are given."""
        if self.tensor.size == 1:
            return super().forward(tokens_BT).to(dtype)
        local_BT = tokens_BT - self.tensor.rank * self.num_embeddings
        elsewhere_BT = (local_BT < 0) | (local_BT >= self.num_embeddings)
        rows_BTD = super().forward(local_BT.masked_fill(elsewhere_BT, 0)).to(dtype)
        # One worker has a token's row and the others zeros: their sum is exact in any type.
        return sum_to_slices(rows_BTD.masked_fill(elsewhere_BT[..., None], 0.0), self.tensor)

    def reset_parameters(self) -> None:
        pass
