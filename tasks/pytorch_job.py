"""What a job of Kubeflow's Training Operator (PyTorchJob) is told, and what its nodes do to meet.

Beside `tasks/_elastic.py`, which runs the agent of one node, this is all that knows of PyTorchJob: a move to JobSet or
TrainJob changes these two. A job of one node is a plain pod.
"""

import os
import resource
import sys
from pathlib import Path

from flytekitplugins.kfpytorch import CleanPodPolicy, RunPolicy

from k2model.errors import K2Error
from k2model.recipe import Recipe
from k2model.units import readable_size
from tasks._elastic import TorchElastic
from tasks.pods import Pod, shutdown_seconds

#: A node that ends, by whatever error, ends with 0: the operator then counts the job as done, and would leave the
#: others waiting in it. Those that still run are removed; those that ended stay a day, for their logs.
RUN_POLICY = RunPolicy(clean_pod_policy=CleanPodPolicy.RUNNING, ttl_seconds_after_finished=24 * 3600)


def elastic_job(recipe: Recipe, nodes: int, workers: int) -> TorchElastic:
    """The configuration of a task that runs in `workers` processes on each of `nodes`."""
    # After a restart the agent's shared store still holds the dead workers' addresses; each attempt of a
    # multi-node job must meet in a store of its own. The agent reads this, not the workers.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(shutdown_seconds(recipe)))
    laptop = not recipe.cluster.gpus_per_node
    return TorchElastic(
        nnodes=nodes,
        nproc_per_node=workers,
        # A forked worker has torch imported already; CUDA forbids forking, and so does macOS.
        start_method="fork" if laptop and sys.platform == "linux" else "spawn",
        monitor_interval=0.1 if laptop else 5.0,
        rdzv_configs=rendezvous(recipe),
        run_policy=RUN_POLICY,
    )


def rendezvous(recipe: Recipe) -> dict[str, int]:
    """How long nodes wait for each other, in seconds: pods start one by one, and some pull the image first."""
    wait = recipe.cluster.join_seconds
    return {"timeout": wait, "join_timeout": wait, "read_timeout": wait}


def check_pinned_memory(pod: Pod) -> None:
    """Raises K2Error where InfiniBand could not pin memory, which NCCL would tell of as one that cannot be allocated.

    A pod that is not root does not have the IPC_LOCK it was given (Kubernetes sets no ambient capabilities), so what
    counts is the limit that the node's container runtime hands down.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if not pod.infiniband or soft == resource.RLIM_INFINITY or _has_ipc_lock():
        return
    raise K2Error(
        f"this node lets a pod pin {readable_size(soft)} of memory, and InfiniBand pins all that it sends; give the "
        "container runtime of the nodes with GPUs LimitMEMLOCK=infinity (docs/cluster.md), or set "
        "cluster.infiniband_devices_per_node to 0 to do without"
    )


def _has_ipc_lock() -> bool:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    return bool(int(effective, 16) >> 14 & 1)  # CAP_IPC_LOCK of linux/capability.h
