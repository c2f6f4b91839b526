"""The workers of a job: which rank this process has, the process group, small messages between ranks.

Reads the variables torch-elastic sets; without them the process is a world of its own. CPU workers
talk over gloo. Which machine a worker runs on and how it is started is left to the task.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from k2model.errors import TrainingError
from k2model.settings import deterministic_kernels
from k2model.training.failures import prefixed_stderr, reported

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup

T = TypeVar("T")
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")


@dataclass(frozen=True)
class World:
    """This process among the workers of a job; alone, rank 0 of 1."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    group: "ProcessGroup | None" = None  # of some of the job's workers, who are a world of their own; None: all of them

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @staticmethod
    def from_environment() -> "World":
        """From RANK, WORLD_SIZE, LOCAL_RANK when a launcher set them, else one process alone."""
        if not all(name in os.environ for name in LAUNCHED):
            return World()
        rank, size, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        return World(rank, size, local_rank)

    @property
    def device(self) -> "torch.device":
        """Where this worker computes: the GPU of its number on this machine where torch sees GPUs, else the CPU.

        Raises TrainingError when the machine has GPUs and this worker none.
        """
        import torch

        if not torch.cuda.is_available():
            return torch.device("cpu")
        if self.local_rank >= (seen := torch.cuda.device_count()):
            raise TrainingError(
                f"worker {self.local_rank} of this machine has no GPU: torch sees {seen}, and each worker takes one. "
                f"Start {seen} workers here at most, or none on GPUs (CUDA_VISIBLE_DEVICES empty)"
            )
        return torch.device("cuda", self.local_rank)

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Inside, a process group over all workers, with DeepSpeed quiet and no compiled operators.

        None is left behind: forks of this process would inherit it, and a process that ends with
        gloo's threads alive may abort.
        """
        _configure_deepspeed()
        import torch
        import torch.distributed as dist
        from deepspeed import comm

        from k2model.training.rendezvous import form_group

        joining = not dist.is_initialized()
        if deterministic_kernels():
            _take_deterministic_kernels()
        if (device := self.device).type == "cuda":
            torch.cuda.set_device(device)
        elif self.size > 1:
            # Two threads each on shared cores are slower than one, and forked threads can deadlock.
            torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        if joining:
            form_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", self.rank, self.size)
            comm.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False)
        assert dist.get_world_size() == self.size, "the process group and the launcher's environment differ"
        try:
            with reported(self.rank), prefixed_stderr(self.rank):
                yield
        finally:
            if joining:
                comm.destroy_process_group()

    def broadcast(self, work: Callable[[], T]) -> T:
        """Rank 0's result of `work` on every rank, or its exception. Collective; `work` runs on rank 0 alone."""
        if self.size == 1:
            return work()
        import torch.distributed as dist

        message: list[object] = [None, None]
        if self.first:
            try:
                message[0] = work()
            except Exception as error:
                message[1] = error
        dist.broadcast_object_list(message, group=self.group, group_src=0)
        if isinstance(message[1], Exception):
            raise message[1]
        return message[0]  # type: ignore[return-value]

    def on_rank_0(self, work: Callable[[], T]) -> T | None:
        """Run `work` on rank 0, which keeps the result (None on the others); its exception reaches all. Collective."""
        kept: list[T] = []
        self.broadcast(lambda: kept.append(work()))
        return kept[0] if kept else None

    def all_gather(self, work: Callable[[], T]) -> list[T]:
        """Every rank's result of `work`, in rank order, on every rank, or the first exception of any. Collective."""
        if self.size == 1:
            return [work()]
        import torch.distributed as dist

        mine: tuple[T | None, Exception | None]
        try:
            mine = (work(), None)
        except Exception as error:
            mine = (None, error)
        everyone: list[tuple[T, Exception | None] | None] = [None] * self.size
        dist.all_gather_object(everyone, mine, group=self.group)
        results = []
        for entry in everyone:
            assert entry is not None
            if entry[1] is not None:
                raise entry[1]
            results.append(entry[0])
        return results


@contextlib.contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Makes `import module` fail inside, unless it is loaded already."""
    hide = module not in sys.modules
    if hide:
        sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hide:
            del sys.modules[module]


def _take_deterministic_kernels() -> None:
    """For the rest of the process. On a GPU the backward pass of attention sums in any order otherwise; an operation
    that has no such kernel raises RuntimeError. Before the first matrix product, whose workspace it fixes."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # of what is written next anyway
    torch.use_deterministic_algorithms(True)


def _configure_deepspeed() -> None:
    """Settings DeepSpeed only takes before its first use."""
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("LOCAL_RANK", "0")  # the engine reads it without a default
    for name in ("DeepSpeed", "deepspeed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with _hidden("mlflow"):  # its autotuner, unused here, would import all of it: 2 s
        import deepspeed.ops
    from deepspeed.utils import logger

    logger.setLevel(logging.ERROR)
    # Its shared-memory collectives are compiled on first use; gloo needs no compiler.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
