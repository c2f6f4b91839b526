"""How the workers of a job find each other.

On one machine they need no network for it: torch's own rendezvous (c10d) listens on every interface, and its agents
unpickle what anyone writes there. So the agent of a one-node job keeps what it notes to itself, and its workers meet
in a file of a folder that only their user may enter. Its address stands where that of the first node stands in a job
of several, in MASTER_ADDR. What then connects the workers (gloo, NCCL) listens on the loopback interface alone.

Several nodes meet over torch's c10d, and from then on tell each other that they are alive (`SeveralNodes`): a node that
is gone without a word (power, network, kernel) leaves the others' connections open, so that gloo waits half an hour for
it, NCCL ten minutes, and torch's own agents until the kernel gives up a store that does not answer, some fifteen. Here
it ends the job after `LOST_SECONDS`, and a node that ended with an error after two beats.
"""

import contextlib
import itertools
import os
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
from torch.distributed.elastic.rendezvous import (
    RendezvousError,
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import create_backend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler, create_handler
from torch.distributed.rendezvous import rendezvous

LOST_SECONDS = 60.0  # without a sign of life, after which a node counts as lost: longer than any pause of a live one
BEAT_SECONDS = 5.0  # between two signs of life

_FILE = "file://"
_BACKEND = "one_node"
_BACKEND_OF_SEVERAL = "several_nodes"
_SILENT, _LEFT = b"-", b"left"  # before the first sign of life, and behind the last
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


def several_nodes_backend() -> str:
    """The name under which torch elastic finds `SeveralNodes`."""
    rendezvous_handler_registry.register(_BACKEND_OF_SEVERAL, SeveralNodes.of)
    return _BACKEND_OF_SEVERAL


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


class NodeLost(RendezvousError):
    """Another node of the job is gone, or this one was cut off from the others."""


class SeveralNodes(RendezvousHandler):
    """The agent of one of several nodes, a fixed number of them; none joins later, so a lost one ends the job."""

    def __init__(self, inner: DynamicRendezvousHandler, store: dist.TCPStore, nodes: int) -> None:
        self._inner, self._store, self._nodes = inner, store, nodes
        self._signs: _SignsOfLife | None = None

    @classmethod
    def of(cls, parameters: RendezvousParameters) -> "SeveralNodes":
        """As torch's registry makes it. Raises RendezvousError where the first node cannot be reached."""
        c10d, store = create_backend(parameters)
        assert isinstance(store, dist.TCPStore), "nodes meet over TCP"
        return cls(create_handler(store, c10d, parameters), store, parameters.min_nodes)

    def get_backend(self) -> str:
        return _BACKEND_OF_SEVERAL

    def get_run_id(self) -> str:
        return self._inner.get_run_id()

    def next_rendezvous(self) -> RendezvousInfo:
        info = self._inner.next_rendezvous()
        # Torch's own heartbeats stop here: nothing comes of one that is missed, they go by the clocks of different
        # machines, and one that gets no answer would hold this agent until the kernel gives up its connection.
        self._inner._stop_heartbeats()
        if info.world_size != self._nodes:
            raise NodeLost(f"{info.world_size} of {self._nodes} nodes have met")
        if self._signs is not None:
            self._signs.leave()
        prefix = f"k2.alive.{self._inner._state_holder.state.round}"
        self._signs = _SignsOfLife(self._store, prefix, info.rank, info.world_size)
        return info

    def num_nodes_waiting(self) -> int:
        """0, as none joins later; the agent asks time and again while its workers run. Raises NodeLost."""
        if self._signs is not None:
            self._signs.check()
        return 0

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None:
        pass

    def shutdown(self) -> bool:
        if self._signs is not None:
            self._signs.leave()
        return True


class _SignsOfLife:
    """Each node's agent counts up a number of its own in the agents' store. The first looks at all of them, the others
    at the first's: whoever misses one fails, and as the first goes, so do all. Elapsed time is measured on one machine,
    so clocks need not agree.

    All talk to the store is a thread's, which may hang where the network is cut, on a connection of its own.
    """

    def __init__(self, store: dist.TCPStore, prefix: str, rank: int, size: int) -> None:
        self._rank, self._size = rank, size
        # The thread's own connection: others must not wait behind it.
        own = dist.TCPStore(store.host, store.port, is_master=False, timeout=timedelta(seconds=LOST_SECONDS))
        self._store = dist.PrefixStore(prefix, own)
        self._watched = [str(other) for other in range(size) if other != rank] if rank == 0 else ["0"]
        self._seen = dict.fromkeys(self._watched, (_SILENT, time.monotonic()))
        self._trouble = ""
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="signs of life", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises NodeLost when a node was not heard of for LOST_SECONDS, or has ended."""
        now = time.monotonic()
        lost = [node for node, (_, heard) in self._seen.items() if now - heard > LOST_SECONDS]
        if self._trouble or lost:
            self._leaving.set()  # the others need not wait until this node's workers have ended
            which = ", ".join(lost[:8]) + (", ..." if len(lost) > 8 else "")
            raise NodeLost(
                self._trouble
                or f"node {which} of {self._size} (counted from 0; this is {self._rank}) gave no sign of life for "
                f"{LOST_SECONDS:g} s: it is gone, stands still, or the network between them is cut"
            )

    def leave(self) -> None:
        """Tell the others that this node ends, as far as they can be reached."""
        self._leaving.set()
        self._thread.join(timeout=1.0)

    def _beat(self) -> None:
        for count in itertools.count():
            try:
                if count == 0:
                    for node in self._watched:  # to read what nobody has written yet would wait for it
                        self._store.compare_set(node, "", _SILENT.decode())
                self._store.set(str(self._rank), str(count))
                for node, value in zip(self._watched, self._store.multi_get(self._watched), strict=True):
                    if value == _LEFT:
                        self._trouble = f"node {node} of {self._size} has ended; its own log tells why"
                    elif value != self._seen[node][0]:
                        self._seen[node] = (value, time.monotonic())
            except Exception as error:  # whatever the store's client raises
                said = str(error).partition("\n")[0][:200]
                self._trouble = (
                    "the node where the nodes of the job met has ended or cannot be reached: "
                    f"{type(error).__name__}: {said}"
                )
                return
            if self._trouble or self._leaving.wait(BEAT_SECONDS):
                break
        with contextlib.suppress(Exception):  # there may be nobody to tell
            self._store.set(str(self._rank), _LEFT.decode())
