"""Torch elastic as a Flyte task that costs nothing to declare and says what went wrong.

The plugin's own task class imports torch when a task is decorated, which would add seconds to every
`pyflyte` command, `--help` included; this one defers that to execution. Where workers fail it tells of the
first failure first and of the others behind it, where torch elastic knows one of them, not always the first; an
interrupt by hand ends the run and SIGTERM (preemption) asks the orchestrator for a retry, where the plugin takes
both for a worker without outputs. All else is the plugin's.
"""

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flytekit.core.python_function_task import PythonFunctionTask
from flytekit.exceptions.user import FlyteRecoverableException, FlyteUserRuntimeException
from flytekit.extend import IgnoreOutputs, TaskPlugins
from flytekitplugins.kfpytorch import Elastic
from flytekitplugins.kfpytorch.task import PytorchElasticFunctionTask

from k2model.errors import K2Error
from k2model.training.errors import Preempted
from k2model.training.failures import Failure, read_failures

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

_AGENT = "torch.distributed.elastic.multiprocessing.api"  # logs the traceback of a worker that need not be the first


class WorkerFailed(K2Error):
    """Workers of an elastic job failed; the text begins with the first failure."""


@dataclass
class TorchElastic(Elastic):
    """`Elastic` with a fixed number of nodes (an int, no range)."""

    nnodes: int = 1
    monitor_interval: float = 5.0  # torch takes fractions of a second
    increase_shared_mem: bool = False  # the pod template mounts /dev/shm


class TorchElasticTask(PytorchElasticFunctionTask):
    def __init__(self, task_config: TorchElastic, task_function: Callable, **kwargs: Any) -> None:
        multi_node = task_config.nnodes > 1
        # Past the direct parent, whose constructor imports torch only to parse a node range.
        PythonFunctionTask.__init__(
            self,
            task_config=task_config,
            task_type=self._ELASTIC_TASK_TYPE if multi_node else self._ELASTIC_TASK_TYPE_STANDALONE,
            task_function=task_function,
            task_type_version=1,
            **kwargs,
        )
        self.min_nodes = self.max_nodes = task_config.nnodes
        self.rdzv_backend = "c10d"

    def execute(self, **kwargs: Any) -> Any:
        if self.max_nodes == 1:
            from k2model.training.rendezvous import one_node_backend

            self.rdzv_backend = one_node_backend()
        elif "PET_NNODES" not in os.environ:  # which the training operator sets
            raise K2Error(
                f"{self.name} is a job of {self.max_nodes} nodes, which meet over the network of a cluster, and this is "
                "a single machine: register the workflow there, or choose a recipe of one node (K2_RECIPE)"
            )
        try:
            with _silent(_AGENT):
                return super().execute(**kwargs)
        except FlyteUserRuntimeException as error:
            told = _tell(error.value)
            if told is None:
                raise
            if told.passing:
                raise FlyteRecoverableException(f"{self.name}: {told.text}") from None
            raise WorkerFailed(f"{self.name}: {told.text}") from None
        except IgnoreOutputs as ignored:
            if _signal_behind(ignored) == signal.SIGTERM:
                raise FlyteRecoverableException(
                    f"{self.name} was told to stop (SIGTERM) and has saved what it had time for; a retry goes on there"
                ) from None
            if self.min_nodes == 1:  # a lone node always has rank 0: no outputs means that it was stopped
                logging.getLogger("k2model").warning("%s was stopped; run the same command again to go on", self.name)
                raise KeyboardInterrupt from None
            raise


def _signal_behind(ignored: IgnoreOutputs) -> int | None:
    """The signal that ended the agent, None when it ended by itself without outputs."""
    from torch.distributed.elastic.multiprocessing.api import SignalException

    cause = ignored.__context__
    return int(cause.sigval) if isinstance(cause, SignalException) else None


@contextlib.contextmanager
def _silent(logger: str) -> Iterator[None]:
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


@dataclass
class _Told:
    """`passing`: not the work's own fault, so that a retry may go on where the last checkpoint is."""

    text: str
    passing: bool


def _tell(error: BaseException) -> _Told | None:
    """What happened to the workers, first failure first; None when all that is known is what `error` says itself."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    if not isinstance(error, ChildFailedError):
        return None
    rank, seen = error.get_first_failure()
    if seen.exitcode < 0:
        return _Told(
            f"rank {rank}: killed by {seen.signal_name()}; a retry goes on at the newest checkpoint",
            True,
        )
    failures = read_failures(seen.error_file)
    if not failures:  # outside a process group no worker can pull another one down
        return _told_by_torch(error)
    first, others = failures[0], failures[1:]
    after = "".join(_after(first, other) for other in others if other.message != first.message)
    if first.lost_another:
        return _Told(
            f"rank {first.rank} lost its connection to a worker that left no word: it was killed (out of memory?) or "
            f"its machine is gone. A retry goes on at the newest checkpoint. {first.type}: {first.message}{after}",
            True,
        )
    what = f"{first.type}: {first.message}" if first.ours else f"failed first\n{first.traceback.rstrip()}"
    return _Told(f"rank {first.rank}: {what}{after}", first.type == Preempted.__name__)


def _after(first: Failure, other: Failure) -> str:
    """The failure of another rank, every line with its prefix."""
    what = "lost its connection to a worker" if other.lost_another else f"{other.type}: {other.message}".strip()
    text = f"{other.time - first.time:.1f} s later: {what}"
    return "".join(f"\n[rank {other.rank}] {line}" for line in text.splitlines())


def _told_by_torch(error: "ChildFailedError") -> _Told | None:
    """An error of ours in its own words; None for a bug, whose traceback torch elastic reports."""
    rank, failure = error.get_first_failure()
    report: Any = failure.message
    if not isinstance(report, dict) or "\nk2model." not in report.get("extraInfo", {}).get("py_callstack", ""):
        return None
    return _Told(f"rank {rank}: {report['message']}", False)


TaskPlugins.register_pythontask_plugin(TorchElastic, TorchElasticTask)
