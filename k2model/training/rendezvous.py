"""How the workers of a job find each other.

On one machine they need no network for it: torch's own rendezvous (c10d) listens on every interface, and its agents
unpickle what anyone writes there. So the agent of a one-node job keeps what it notes to itself, and its workers meet
in a file of a folder that only their user may enter. Its address stands where that of the first node stands in a job
of several, in MASTER_ADDR. What then connects the workers (gloo, NCCL) listens on the loopback interface alone.
"""

import itertools
import os
import sys
import tempfile
from pathlib import Path

import torch.distributed as dist
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)
from torch.distributed.rendezvous import rendezvous

_FILE = "file://"
_BACKEND = "one_node"
_LOOPBACK = "lo" if sys.platform == "linux" else "lo0"
_groups = itertools.count()  # workers form their groups in one order, so they count alike


def form_group(backend: str, rank: int, size: int) -> None:
    """Make the process group of all `size` workers of this job, the next one of perhaps several.

    Over several nodes their agents must run with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1: the agents' own store outlives
    a restart of the workers, and gloo's keys are the same each time, so that restarted workers would read each other's
    addresses of the attempt before and wait for ever.
    """
    address = os.environ["MASTER_ADDR"] if size > 1 else ""
    if size > 1 and not address.startswith(_FILE):
        store: dist.Store = next(iter(rendezvous("env://")))[0]
    else:
        os.environ |= {"GLOO_SOCKET_IFNAME": _LOOPBACK, "NCCL_SOCKET_IFNAME": _LOOPBACK}
        store = dist.FileStore(address.removeprefix(_FILE)) if size > 1 else dist.HashStore()
    named = dist.PrefixStore(f"group-{next(_groups)}", store)
    dist.init_process_group(backend, rank=rank, world_size=size, store=named)


def one_node_backend() -> str:
    """The name under which torch elastic finds `OneNode`."""
    rendezvous_handler_registry.register(_BACKEND, OneNode)
    return _BACKEND


class OneNode(RendezvousHandler):
    """The agent of a one-node job, which nobody joins; each attempt's workers meet in a file of their own."""

    def __init__(self, parameters: RendezvousParameters) -> None:
        assert parameters.max_nodes == 1, "several nodes meet over the network (c10d)"
        self._run_id = parameters.run_id
        self._folder = tempfile.TemporaryDirectory(prefix="k2-workers-", ignore_cleanup_errors=True)
        self._attempts = itertools.count()
        self._closed = False

    def get_backend(self) -> str:
        return _BACKEND

    def get_run_id(self) -> str:
        return self._run_id

    def next_rendezvous(self) -> RendezvousInfo:
        file = Path(self._folder.name, f"attempt-{next(self._attempts)}")
        return RendezvousInfo(dist.HashStore(), 0, 1, RendezvousStoreInfo(f"{_FILE}{file}", 0))

    def num_nodes_waiting(self) -> int:
        return 0

    def is_closed(self) -> bool:
        return self._closed

    def set_closed(self) -> None:
        self._closed = True

    def shutdown(self) -> bool:
        self._closed = True
        self._folder.cleanup()
        return True
