"""How the workers of a job share a phase: data-parallel, sequence-parallel and tensor-parallel groups.

Ranks count tensor first, then context, then data, so that the workers that talk most are neighbours on
one node. The replicas of a row's gradients are all workers of one tensor rank: a piece of a sequence is
to the gradient what other rows are.
"""

from dataclasses import dataclass

from k2model.model.parallel import WHOLE, Shard
from k2model.recipe.schema import Parallelism
from k2model.training.world import World


@dataclass(frozen=True)
class Layout:
    """One worker's place. `data`: which rows of a batch; `context`: which part of each row; `tensor`: which
    part of each matrix; `replicas`: the workers whose gradients are summed (data x context)."""

    world: World
    data: Shard = WHOLE
    context: Shard = WHOLE
    tensor: Shard = WHOLE
    replicas: Shard = WHOLE

    @classmethod
    def of(cls, world: World, parallelism: Parallelism) -> "Layout":
        """Form the groups. Collective; the world must be joined and its size fit (see `validate`)."""
        tensor, context = parallelism.tensor, parallelism.context
        data = world.size // (tensor * context)

        def rank(d: int, c: int, t: int) -> int:
            return (d * context + c) * tensor + t

        every = [(d, c, t) for d in range(data) for c in range(context) for t in range(tensor)]
        me = every[world.rank]

        def shard(index: int, size: int, members: list[list[int]]) -> Shard:
            return Shard(index, size, _group(world, members) if size > 1 else None)

        d, c, t = me
        return cls(
            world,
            data=Shard(d, data),  # rows are shared out without a word
            context=shard(c, context, [[rank(i, k, j) for k in range(context)] for i in range(data) for j in range(tensor)]),
            tensor=shard(t, tensor, [[rank(i, k, j) for j in range(tensor)] for i in range(data) for k in range(context)]),
            replicas=shard(
                d * context + c,
                data * context,
                [[rank(i, k, j) for i in range(data) for k in range(context)] for j in range(tensor)],
            ),
        )  # fmt: skip


def _group(world: World, members: list[list[int]]):  # noqa: ANN202  torch's type, which is not imported here
    """The process group among `members` that holds this worker. Every worker forms all of them, in one order."""
    import torch.distributed as dist

    mine = None
    for ranks in members:
        group = dist.group.WORLD if len(ranks) == world.size else dist.new_group(ranks)
        if world.rank in ranks:
            mine = group
    return mine
