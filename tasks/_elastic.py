"""Torch elastic as a Flyte task that costs nothing to declare and says what went wrong.

The plugin's own task class imports torch when a task is decorated, which would add seconds to every
`pyflyte` command, `--help` included; this one defers that to execution. Where workers fail it tells of the
first failure first and of the others behind it, where torch elastic knows one of them, not always the first; an
interrupt by hand ends the run and SIGTERM (preemption) asks the orchestrator for a retry, where the plugin takes
both for a worker without outputs. The workers of one node meet without a network, several nodes watch each other
(`k2model.training.rendezvous`), and one that is lost asks for a retry. All else is the plugin's.
"""

import contextlib
import errno
import functools
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flytekit import current_context
from flytekit.core.python_function_task import PythonFunctionTask
from flytekit.exceptions.user import FlyteRecoverableException, FlyteUserRuntimeException
from flytekit.extend import IgnoreOutputs, TaskPlugins
from flytekitplugins.kfpytorch import Elastic
from flytekitplugins.kfpytorch.task import PytorchElasticFunctionTask

from k2model.errors import K2Error, Preempted, disk_full, full_disks
from k2model.settings import traceback_wanted
from k2model.training.crash_loop import Ending, note_for_workers
from k2model.training.failures import FOLDER, Failure, read_failures, reported
from k2model.training.world import World
from tasks._temporary import temporary_folder

# They log the traceback of a worker that need not be the first, and of an interrupt, and whom they stop.
_LOGS = (
    "torch.distributed.elastic.multiprocessing.api", "torch.distributed.elastic.agent.server.api",
    "torch.multiprocessing.spawn", "flytekit",
)  # fmt: skip
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)  # which the agent handles


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
        from k2model.training.rendezvous import one_node_backend, several_nodes_backend

        self.rdzv_backend = one_node_backend() if self.max_nodes == 1 else several_nodes_backend()
        if self.max_nodes > 1 and "PET_NNODES" not in os.environ:  # which the training operator sets
            raise K2Error(
                f"{self.name} is a job of {self.max_nodes} nodes, which meet over the network of a cluster; this is "
                "a single machine: register the workflow there, or choose a recipe of one node (K2_RECIPE)"
            )
        with temporary_folder("k2-job-") as failures:
            attempt = failures / str(self.task_config.max_restarts)
            try:
                with _silent(), _handlers_restored(), _worker_of(self, failures):
                    return super().execute(**kwargs)
            except FlyteUserRuntimeException as error:
                if (told := _tell(error.value, attempt)) is None:
                    note_for_workers(failures, Ending.FINAL, str(error.value))
                    raise
                note_for_workers(failures, told.ending, told.text)
                raise told.error(self.name) from None
            except IgnoreOutputs as ignored:
                if (number := _signal_behind(ignored)) is not None:
                    stopped_by = _Told(signal.Signals(number).name, Ending.STOPPED)
                    told = _tell_of_workers(read_failures(attempt)) or stopped_by  # what went wrong before the signal
                    note_for_workers(failures, told.ending, told.text)
                if number == signal.SIGTERM:
                    stopped = "was told to stop (SIGTERM) and has saved what it had time for; a retry goes on there"
                    raise FlyteRecoverableException(f"{self.name} {stopped}") from None
                if self.min_nodes == 1:  # a lone node always has rank 0: no outputs means that it was stopped
                    raise KeyboardInterrupt from None
                raise
            except Exception as error:
                if (told := _tell_of_nodes(error, attempt)) is None:
                    raise
                note_for_workers(failures, told.ending, told.text)
                raise told.error(self.name) from None


@contextlib.contextmanager
def _worker_of(job: TorchElasticTask, failures: Path) -> Iterator[None]:
    """Inside, the job's workers write down in `failures` what made them fail."""
    function = job._task_function
    job._task_function = functools.partial(_work, function)
    os.environ[FOLDER] = str(failures)
    try:
        yield
    finally:
        job._task_function = function
        del os.environ[FOLDER]


def _work(function: Callable, **kwargs: Any) -> Any:
    # What a worker was forked with is not its to show: the plugin adds a worker's decks to those of the process that
    # runs a workflow, whose pages would double with every job, to gigabytes in a lifecycle.
    current_context().decks.clear()
    try:
        with reported(World.from_environment().rank):
            return function(**kwargs)
    except Exception as error:
        raise SystemExit(1) from error  # it is told: torch elastic need not try to, perhaps on a full disk


def _signal_behind(ignored: IgnoreOutputs) -> int | None:
    """The signal that ended the agent, None when it ended by itself without outputs."""
    from torch.distributed.elastic.multiprocessing.api import SignalException

    cause = ignored.__context__
    return int(cause.sigval) if isinstance(cause, SignalException) else None


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    import torch.distributed.launcher.api  # noqa: F401  which sets the levels anew

    logs = [logging.getLogger(name) for name in _LOGS]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


@contextlib.contextmanager
def _handlers_restored() -> Iterator[None]:
    """The agent leaves handlers of its own behind, which would take an interrupt of what comes after for an error."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)


@dataclass
class _Told:
    """`ending`: final where it is the work's own fault; else a retry may go on where the last checkpoint is."""

    text: str
    ending: Ending

    def error(self, task: str) -> Exception:
        """What the orchestrator gets."""
        text = f"{task}: {self.text}"
        return WorkerFailed(text) if self.ending is Ending.FINAL else FlyteRecoverableException(text)


def _tell_of_nodes(error: Exception, attempt: Path) -> _Told | None:
    """Why the agents of several nodes do not meet any more; None for any other error. A failure of this node's own
    workers comes first, since the others may only have seen it sooner than this node's agent."""
    from torch.distributed import DistError
    from torch.distributed.elastic.rendezvous import RendezvousError

    if not isinstance(error, (RendezvousError, DistError)):
        return None
    told = _tell_of_workers(read_failures(attempt))
    what = f"{type(error).__name__}: {error}"
    if told is None:
        return _Told(f"{what}. A retry goes on at the newest checkpoint", Ending.FAILED)
    return _Told(f"{told.text}\n{what}", told.ending)


def _tell(error: BaseException, attempt: Path) -> _Told | None:
    """What happened to the workers in their last attempt, first failure first; None when all that is known is what
    `error` says itself."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    if not isinstance(error, ChildFailedError):
        return None
    rank, seen = error.get_first_failure()
    if seen.exitcode < 0:
        return _Told(
            f"rank {rank}: killed by {seen.signal_name()}; a retry goes on at the newest checkpoint",
            Ending.FAILED,
        )
    failures = read_failures(attempt)
    if full_disks() and (not failures or failures[0].lost_another):  # who failed first could not write it down
        return _Told(f"rank {rank}: {disk_full(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))}", Ending.FINAL)
    return _tell_of_workers(failures)


def _tell_of_workers(failures: list[Failure]) -> _Told | None:
    """Of what workers wrote down, oldest first; None where they did not."""
    if not failures:
        return None
    first, others = failures[0], failures[1:]
    after = "".join(_after(first, other) for other in others if other.message != first.message)
    if first.lost_another:
        return _Told(
            f"rank {first.rank} lost its connection to a worker that left no word: it was killed (out of memory?) or "
            f"its machine is gone. A retry goes on at the newest checkpoint. {first.type}: {first.message}{after}",
            Ending.FAILED,
        )
    brief = first.ours and not traceback_wanted()
    what = f"{first.type}: {first.message}" if brief else f"failed first\n{first.traceback.rstrip()}"
    stopped = first.type == Preempted.__name__
    return _Told(f"rank {first.rank}: {what}{after}", Ending.STOPPED if stopped else Ending.FINAL)


def _after(first: Failure, other: Failure) -> str:
    """The failure of another rank, every line with its prefix."""
    what = "lost its connection to a worker" if other.lost_another else f"{other.type}: {other.message}".strip()
    text = f"{other.time - first.time:.1f} s later: {what}"
    return "".join(f"\n[rank {other.rank}] {line}" for line in text.splitlines())


TaskPlugins.register_pythontask_plugin(TorchElastic, TorchElasticTask)
