"""Two workers under torch elastic, as the Flyte tasks start them, for each round of each contestant.

The agent is forked from a server that has loaded torch once, so that a round costs seconds; what starting
costs a user is the business of `benchmarks.startup`.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.peers.workload import WORKERS

T = TypeVar("T")
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "DS_ACCELERATOR": "cpu",
    "HF_HUB_OFFLINE": "1",
}
PRELOADED = ["torch", "torch.distributed.launcher.api", "k2model.tokens"]


def on_workers(work: Callable[..., T], *arguments: Any) -> list[T]:
    """`work(*arguments)` on every worker of a fresh job; the results in rank order.

    Raises RuntimeError when a worker fails; its traceback is on stderr.
    """
    os.environ.update(ENVIRONMENT)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    receiving, sending = context.Pipe(duplex=False)
    agent = context.Process(target=_agent, args=(sending, work, arguments))
    agent.start()
    sending.close()
    try:
        return receiving.recv()
    except EOFError:
        raise RuntimeError(f"{work.__module__}: a worker failed, see its traceback above") from None
    finally:
        agent.join()


def join() -> None:
    """The process group of a contestant's workers, as those of the lifecycle form theirs."""
    from k2model.training.rendezvous import form_group

    form_group("gloo", int(os.environ["RANK"]), WORKERS)


def _agent(results: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from k2model.training.rendezvous import one_node_backend

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=WORKERS,
        start_method="fork",
        max_restarts=0,
        monitor_interval=0.1,
        rdzv_backend=one_node_backend(),
    )
    with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as folder:
        returned = elastic_launch(config, _worker)(folder, work, arguments)
    results.send([returned[rank] for rank in range(WORKERS)])


def _worker(folder: str, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    import torch

    torch.set_num_threads(1)
    os.chdir(Path(folder))  # whatever a contestant leaves behind goes with the job
    return work(*arguments)
