"""The workers of an evaluation job, joined over gloo for as long as they measure.

Roles and agreement are those of `k2model.training.world`; joining is not, since that loads DeepSpeed.
The group is taken down again: a process that ends with gloo's threads alive may abort.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator

from k2model.training.failures import prefixed_stderr, reported
from k2model.training.world import World

_GROUPS = itertools.count()


@contextlib.contextmanager
def joined_workers() -> Iterator[World]:
    """The world of this job, with a process group inside the block when it has several workers."""
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    # One thread a worker: they share the cores, and sums in one order give the same numbers everywhere.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    world = World.from_environment()
    if world.size == 1 or dist.is_initialized():
        yield world
        return
    store = next(iter(rendezvous("env://")))[0]
    # An agent keeps one store over all restarts of its workers, who must not read the keys of the last attempt.
    prefix = f"evaluation-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}-{next(_GROUPS)}"
    dist.init_process_group("gloo", store=dist.PrefixStore(prefix, store), rank=world.rank, world_size=world.size)
    try:
        with reported(world.rank), prefixed_stderr(world.rank):
            yield world
    finally:
        dist.destroy_process_group()
