"""One elastic job for each phase of the recipe, sized by its row.

Flyte fixes a task's node count at registration and names a task by a function of a module. So every row gets a
function of its own here, `train_<phase>`, all of them with one body.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any

from k2model.artifacts import ArtifactRef
from k2model.artifacts import make as make_step
from k2model.lifecycle import LifecyclePlan
from k2model.recipe import PhaseConfig
from tasks._platform import RECIPE, training_task
from tasks.pods import check_gpus, training_pod
from tasks.pytorch_job import check_pinned_memory


def _train(step: str, phase: str, plan: LifecyclePlan, inputs: dict[str, ArtifactRef]) -> ArtifactRef:
    """Trains a phase in all workers of the job."""
    pod = training_pod(RECIPE, RECIPE.phase(phase))
    check_gpus(pod)
    check_pinned_memory(pod)
    return make_step(*plan.build(step, phase, inputs))


def _task_of(phase: PhaseConfig) -> Any:
    function = FunctionType(_train.__code__, globals(), f"train_{phase.name}")
    function.__annotations__, function.__doc__ = _train.__annotations__, f"Trains the phase '{phase.name}'."
    function.__qualname__ = function.__name__
    return training_task(phase)(function)


TRAIN_TASKS = {phase.name: _task_of(phase) for phase in RECIPE.phases}
globals().update({task.task_function.__name__: task for task in TRAIN_TASKS.values()})


def train_task(phase: PhaseConfig) -> Callable[..., Any]:
    """The task that trains `phase`."""
    return TRAIN_TASKS[phase.name]
