"""Torch elastic as a Flyte task that costs nothing to declare and says what went wrong.

The plugin's own task class imports torch when a task is decorated, which would add seconds to every
`pyflyte` command, `--help` included; this one defers that to execution. Where a worker fails it puts the
first failure's own words in front, and an interrupt by hand ends the run instead of passing for a worker
without outputs. Everything else is the plugin's.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flytekit.core.python_function_task import PythonFunctionTask
from flytekit.exceptions.user import FlyteUserRuntimeException
from flytekit.extend import IgnoreOutputs, TaskPlugins
from flytekitplugins.kfpytorch import Elastic
from flytekitplugins.kfpytorch.task import PytorchElasticFunctionTask

from k2model.errors import K2Error


class WorkerFailed(K2Error):
    """A worker of an elastic job raised; the text is that of the first failure."""


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
        try:
            return super().execute(**kwargs)
        except FlyteUserRuntimeException as error:
            failed = _first_failure(error.value)
            if failed is None:
                raise
            raise WorkerFailed(f"{self.name}: {failed}") from error
        except IgnoreOutputs:
            if self.min_nodes == 1:  # a lone node always has rank 0: no outputs means that it was stopped
                logging.getLogger("k2model").warning("%s was stopped; run the same command again to go on", self.name)
                raise KeyboardInterrupt from None
            raise


def _first_failure(error: BaseException) -> str | None:
    """`rank 1: CorruptArtifact: ...` when the worker that failed first raised an error of ours.

    None for anything else: a bug needs the whole traceback that torch elastic reports.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    if not isinstance(error, ChildFailedError):
        return None
    rank, failure = error.get_first_failure()
    report: Any = failure.message
    if not isinstance(report, dict):
        return None
    raised = report.get("extraInfo", {}).get("py_callstack", "")
    return f"rank {rank}: {report['message']}" if "\nk2model." in raised else None


TaskPlugins.register_pythontask_plugin(TorchElastic, TorchElasticTask)
