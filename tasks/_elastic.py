"""Torch elastic as a Flyte task that costs nothing to declare.

The plugin's own task class imports torch when a task is decorated, which would add seconds to every
`pyflyte` command, `--help` included. This one defers that to execution; everything else is the plugin's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flytekit.core.python_function_task import PythonFunctionTask
from flytekit.extend import TaskPlugins
from flytekitplugins.kfpytorch import Elastic
from flytekitplugins.kfpytorch.task import PytorchElasticFunctionTask


@dataclass
class TorchElastic(Elastic):
    """`Elastic` with a fixed number of nodes (an int, no range)."""

    nnodes: int = 1
    monitor_interval: float = 5.0  # type: ignore[assignment]  # torch takes fractions of a second
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


TaskPlugins.register_pythontask_plugin(TorchElastic, TorchElasticTask)
