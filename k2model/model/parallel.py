"""How one model is cut over workers: which parameters and positions where, and the collectives in between.

Context parallelism cuts every row of tokens (DeepSpeed Ulysses, arXiv:2309.14509). Tensor parallelism cuts every matrix
(Megatron-LM, arXiv:1909.08053) and, between the matrices, the positions of a context worker's slice: the residual
stream, the norms and what is kept of them for backward are on each worker 1/tensor (Megatron's sequence parallelism,
arXiv:2205.05198, section 4.2.2). Into a matrix that is cut by rows lead all positions, gathered; out of one that is cut
by columns come sums over the workers, of which each takes its positions. A gain is whole on each worker and sees its
positions alone, so its gradient is summed over the workers.

The groups are formed by `k2model.training.layout`. The collectives are functions autograd can go back through, each the
identity when its group is one worker. All workers of a group must call in the same order. Nothing overlaps with
computation.

Shape suffixes: W workers of the group, B batch, T whole row, t a worker's slice of it, D hidden, H heads, K kv heads,
h and k one worker's share of them, E head dim.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from k2model.recipe.schema import ModelConfig

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_CUT_ROWS = (
    "embedding.weight", "query.weight", "key.weight", "value.weight", "gate.weight", "up.weight", "head.weight",
)  # fmt: skip
_CUT_COLUMNS = ("attention.output.weight", "mlp.down.weight")


@dataclass(frozen=True)
class Shard:
    """This worker's place among those that share something: `rank` of `size`, talking over `group`."""

    rank: int = 0
    size: int = 1
    group: "ProcessGroup | None" = None  # None when size is 1

    def cut(self, whole: Tensor, dim: int) -> Tensor:
        """This worker's equal part of `whole` along `dim`, a view. The size must divide that dimension."""
        length = whole.shape[dim] // self.size
        assert length * self.size == whole.shape[dim], f"{list(whole.shape)} cannot be cut in {self.size} along {dim}"
        return whole.narrow(dim, self.rank * length, length)


WHOLE = Shard()


def tensor_dim(name: str) -> int | None:
    """The dimension along which tensor parallelism cuts the parameter `name`; None: every worker has it whole.

    `name` may carry a prefix (`model.blocks.0.mlp.up.weight`). Rows (0) of the matrices that read the
    residual stream, of the embedding and of the head; columns (1) of those that write to the stream.
    """
    if name.endswith(_CUT_ROWS):
        return 0
    return 1 if name.endswith(_CUT_COLUMNS) else None


def check_divides(config: ModelConfig, tensor: Shard, context: Shard) -> None:
    """Raise ValueError naming the first dimension that cannot be shared out evenly."""
    for name in ("n_heads", "n_kv_heads", "ffn_size", "vocab_size"):
        if getattr(config, name) % tensor.size:
            raise ValueError(
                f"tensor parallelism over {tensor.size} workers cannot share out {name}={getattr(config, name)} "
                "evenly: choose a degree that divides it"
            )
    heads = config.n_heads // tensor.size
    if heads % context.size:
        raise ValueError(
            f"context parallelism over {context.size} workers cannot share out {heads} query heads evenly "
            f"(n_heads={config.n_heads} over tensor={tensor.size}): choose a degree that divides them"
        )


def copy_to_group(x: Tensor, shard: Shard) -> Tensor:
    """Of what all workers hold alike: forward nothing, backward the sum of what they send back."""
    return _collective(x, shard, _same, _sum)


def gather_positions(x_BtD: Tensor, shard: Shard) -> Tensor:
    """[B, T, D]: the workers' slices, before a matrix cut by rows; backward the sum of what they send back to mine."""
    return _collective(x_BtD, shard, all_gather, reduce_scatter)


def sum_to_slices(x_BTD: Tensor, shard: Shard) -> Tensor:
    """[B, t, D]: of the sum over workers my slice, behind a matrix cut by columns; backward everybody's gradients."""
    return _collective(x_BTD, shard, reduce_scatter, all_gather)


def gather_vocabulary(logits_BTV: Tensor, shard: Shard) -> Tensor:
    """The workers' parts side by side in the last dimension; backward each takes the gradient of its own."""
    return _collective(
        logits_BTV, shard, lambda x, s: _parts(x, s).movedim(0, -2).flatten(-2), lambda grad, s: s.cut(grad, 2)
    )


def all_to_all(parts: Tensor, shard: Shard) -> Tensor:
    """[size, ...]: part i goes to worker i, whose part for this worker takes its place; backward the same again."""
    return _collective(parts, shard, _exchange, _exchange)


Collective = Callable[[Tensor, Shard], Tensor]


def _collective(x: Tensor, shard: Shard, forward: Collective, backward: Collective) -> Tensor:
    return x if shard.size == 1 else _Collective.apply(x, shard, forward, backward)


class _Collective(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shard: Shard, forward: Collective, backward: Collective) -> Tensor:
        ctx.shard, ctx.pass_back = shard, backward
        return forward(x, shard)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.pass_back(grad, ctx.shard), None, None, None


def _same(x: Tensor, shard: Shard) -> Tensor:
    return x.view_as(x)


def _sum(x: Tensor, shard: Shard) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)  # autograd may use `x` elsewhere
    dist.all_reduce(total, group=shard.group)
    return total


def all_gather(x_BtD: Tensor, shard: Shard) -> Tensor:
    """[B, T, D]: all workers' slices in the order of the row. Without history; no copy of the gathered for one row."""
    return x_BtD if shard.size == 1 else _parts(x_BtD, shard).movedim(0, 1).flatten(1, 2)


def reduce_scatter(x_BTD: Tensor, shard: Shard) -> Tensor:
    """[B, t, D]: my slice of the workers' sum, in the type of `x_BTD`. Without history."""
    if shard.size == 1:
        return x_BTD
    parts_WBtD = x_BTD.unflatten(1, (shard.size, -1)).movedim(1, 0).contiguous()
    mine_BtD = torch.empty(parts_WBtD.shape[1:], dtype=x_BTD.dtype, device=x_BTD.device)
    dist.reduce_scatter_single(mine_BtD, parts_WBtD.flatten(0, 1), group=shard.group)
    return mine_BtD


def all_reduce(x: Tensor, shard: Shard) -> Tensor:
    """The workers' sum, in the memory of `x`. Without history."""
    if shard.size > 1:
        dist.all_reduce(x, group=shard.group)
    return x


def smallest(number: int, shard: Shard, device: torch.device) -> int:
    """The least of the workers' numbers; `device`: where the group's tensors lie."""
    if shard.size == 1:
        return number
    found = torch.tensor([number], device=device)
    dist.all_reduce(found, dist.ReduceOp.MIN, group=shard.group)
    return int(found)


def _parts(x: Tensor, shard: Shard) -> Tensor:
    """[W, ...]: everybody's `x`."""
    parts = torch.empty((shard.size, *x.shape), dtype=x.dtype, device=x.device)
    dist.all_gather_single(parts.flatten(0, 1), x.contiguous(), group=shard.group)
    return parts


def _exchange(parts: Tensor, shard: Shard) -> Tensor:
    received = torch.empty(parts.shape, dtype=parts.dtype, device=parts.device)
    dist.all_to_all_single(received, parts.contiguous(), group=shard.group)
    return received


@dataclass(frozen=True)
class ContextParallelAttention:
    """`attend` over whole rows, for a worker that has the slice `context.rank` of each.

    Outside attention a worker has a slice of every row and all heads, inside it whole rows and its share of the heads,
    so documents may run across the borders of slices. One all-to-all leads in, with queries, keys and values together,
    and one leads out.
    """

    attend: Callable[[Tensor, Tensor, Tensor], Tensor]
    context: Shard

    def __call__(self, query_BHtE: Tensor, key_BKtE: Tensor, value_BKtE: Tensor) -> Tensor:
        """[B, H, t, E]. The degree must divide H."""
        copies = math.lcm(key_BKtE.shape[1], self.context.size) // key_BKtE.shape[1]
        # Each kv head several times in a row, as few as let every worker have the ones its queries need.
        repeated = (x if copies == 1 else x.repeat_interleave(copies, dim=1) for x in (key_BKtE, value_BKtE))
        query, key, value = (self._shares(x) for x in (query_BHtE, *repeated))
        sizes = [query.shape[2], key.shape[2], value.shape[2]]
        heads_BhTE = self._whole_rows(torch.cat((query, key, value), dim=2))
        return self._slices(self.attend(*heads_BhTE.split(sizes, dim=1)))

    def _shares(self, x_BHtE: Tensor) -> Tensor:
        """[W, B, h, t, E]: the heads each worker is to have."""
        return x_BHtE.unflatten(1, (self.context.size, -1)).transpose(0, 1)

    def _whole_rows(self, shares_WBhtE: Tensor) -> Tensor:
        """[B, h, T, E]: my heads of everybody's slices, in the order of the row."""
        return all_to_all(shares_WBhtE, self.context).movedim(0, 2).flatten(2, 3)

    def _slices(self, x_BhTE: Tensor) -> Tensor:
        """[B, H, t, E]: everybody's heads of my slice."""
        parts_WBhtE = x_BhTE.unflatten(2, (self.context.size, -1)).movedim(2, 0)
        return all_to_all(parts_WBhtE, self.context).transpose(0, 1).flatten(1, 2)
