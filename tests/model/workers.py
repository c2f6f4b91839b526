"""Real worker processes that run one function together over gloo, for tests of what they say to each other."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def together(folder: Path, size: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(rank, *arguments)` returned on each of `size` workers, in rank order.

    `work` is a function of a module; its result goes through `torch.save`.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, work.__module__])
    folder.mkdir(parents=True, exist_ok=True)
    workers = [context.Process(target=_worker, args=(str(folder), rank, size, work, arguments)) for rank in range(size)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=300)
    assert [worker.exitcode for worker in workers] == [0] * size, f"a worker failed, see its traceback ({folder})"
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


def _worker(folder: str, rank: int, size: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    import torch.distributed as dist

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", size)
    dist.init_process_group("gloo", rank=rank, world_size=size, store=store)
    try:
        torch.save(work(rank, *arguments), Path(folder, f"{rank}.pt"))
    finally:
        dist.destroy_process_group()
