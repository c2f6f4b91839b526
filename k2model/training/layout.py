"""How the workers of a job share a phase: data-parallel, context-parallel and tensor-parallel groups.

Ranks count tensor first, then context, then data, so that the workers that talk most are neighbours on
one node. The replicas of a parameter's gradient are all workers of one tensor rank: a piece of a
sequence is to the gradient what other rows are.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from k2model.model.parallel import WHOLE, Shard
from k2model.recipe.schema import Parallelism
from k2model.training.world import World


@dataclass(frozen=True)
class Layout:
    """One worker's place. `data`: which rows of a batch (no group: rows are shared out without a word);
    `context`: which part of each row; `tensor`: which part of each matrix; `replicas`: the workers whose
    gradients are summed, data x context, always with a group."""

    world: World
    data: Shard
    context: Shard
    tensor: Shard
    replicas: Shard
    replica_ranks: list[int]

    @classmethod
    def of(cls, world: World, parallelism: Parallelism) -> "Layout":
        """Form the groups. Collective; the world must be joined and of a size that fits (`layout_problem`)."""
        tensor, context = parallelism.tensor, parallelism.context
        data = world.size // (tensor * context)
        assert data * tensor * context == world.size, f"{world.size} workers for tensor {tensor} x context {context}"
        ranks = torch.arange(world.size).view(data, context, tensor)
        d, c, t = (int(index) for index in (ranks == world.rank).nonzero()[0])
        replica_ranks, replicas = _group(world, ranks.permute(2, 0, 1).reshape(tensor, -1))
        return cls(
            world,
            data=Shard(d, data),
            context=_shard(world, c, ranks.transpose(1, 2).reshape(-1, context)),
            tensor=_shard(world, t, ranks.reshape(-1, tensor)),
            replicas=Shard(d * context + c, data * context, replicas),
            replica_ranks=replica_ranks,
        )


def _shard(world: World, rank: int, members: Tensor) -> Shard:
    """`members` [groups, size]; no group is formed for one worker alone."""
    return Shard(rank, members.shape[1], _group(world, members)[1]) if members.shape[1] > 1 else WHOLE


def _group(world: World, members: Tensor) -> tuple[list[int], Any]:
    """The ranks and the process group that hold this worker. Every worker forms all groups, in one order."""
    import torch.distributed as dist

    mine: tuple[list[int], Any] = ([], None)
    for ranks in members.tolist():
        group = dist.group.WORLD if len(ranks) == world.size else dist.new_group(ranks)
        if world.rank in ranks:
            mine = (ranks, group)
    return mine
