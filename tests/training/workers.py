"""Any number of real worker processes on one function, without an elastic agent around them."""

import json
import multiprocessing
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def run_workers(count: int, folder: Path, work: Callable[..., Any], *arguments: Any, killed: bool = False) -> list[Any]:
    """`work(world, *arguments)` on `count` workers that have joined each other; what each returned, in rank order.

    With `killed`, the workers are expected to die by SIGKILL and nothing is returned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["k2model.training.attempt", "torch.distributed.launcher.api", "tests.training.job", __name__]
    )
    workers = [
        context.Process(target=_worker, args=(rank, count, str(folder), work, arguments)) for rank in range(count)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=240)
        if worker.exitcode is None or worker.exitcode > 0:
            for other in workers:
                other.kill()
    if killed:
        assert all(worker.exitcode == -9 for worker in workers)
        return []
    errors = [path.read_text() for path in sorted(folder.glob("error-*.txt"))]
    assert not errors and all(worker.exitcode == 0 for worker in workers), "\n".join(errors)
    return [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(count)]


def _worker(rank: int, count: int, folder: str, work: Callable[..., Any], arguments: tuple) -> None:
    launched = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": f"file://{folder}/workers"}
    os.environ.update({name: str(value) for name, value in launched.items()})
    from k2model.training.world import World

    world = World.from_environment()
    try:
        with world.joined():
            result = work(world, *arguments)
        Path(folder, f"result-{rank}.json").write_text(json.dumps(result))
    except BaseException:
        Path(folder, f"error-{rank}.txt").write_text(traceback.format_exc())
        raise
