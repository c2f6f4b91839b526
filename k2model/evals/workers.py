"""The workers of an evaluation job, joined over gloo for as long as they measure.

Roles and agreement are those of `k2model.training.world`; joining is not, since that loads DeepSpeed.
The group is taken down again: a process that ends with gloo's threads alive may abort.
"""

import contextlib
import os
from collections.abc import Iterator

from k2model.training.failures import prefixed_stderr, reported
from k2model.training.world import World


@contextlib.contextmanager
def joined_workers() -> Iterator[World]:
    """The world of this job, with a process group inside the block when it has several workers."""
    import torch
    import torch.distributed as dist

    from k2model.training.rendezvous import form_group

    # One thread a worker: they share the cores, and sums in one order give the same numbers everywhere.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    world = World.from_environment()
    if world.size == 1 or dist.is_initialized():
        yield world
        return
    form_group("gloo", world.rank, world.size)
    try:
        with reported(world.rank), prefixed_stderr(world.rank):
            yield world
    finally:
        dist.destroy_process_group()
