"""Where tasks run: images, resources, pod templates, local process defaults.

Which phases there are and how many nodes each has is fixed when tasks are registered, so the recipe is chosen here, at
import, by `K2_RECIPE` and `K2_OVERRIDES`; a run's own overrides arrive later and cannot change that.
"""

import functools
import logging
import math
import os
import sys
from collections.abc import Callable
from typing import Any

from flytekit import PodTemplate, current_context, task
from flytekit.core.type_engine import TypeEngine
from flytekit.deck import DeckField

from k2model.errors import K2Error
from k2model.recipe import PhaseConfig, Recipe, chosen_recipe, recipe_digest
from k2model.settings import recipe_name, registered_recipe
from tasks._elastic import TorchElastic


class RecipeChanged(K2Error):
    """What a pod takes for its recipe is not what the tasks were registered for."""


def registered(recipe: Recipe) -> Recipe:
    """The recipe itself. Raises RecipeChanged in a pod that was registered for another one."""
    wanted, found = registered_recipe(), recipe_digest(recipe)
    if wanted and wanted != found:
        raise RecipeChanged(
            f"recipe '{recipe_name()}' is not what was registered ({found[:12]}, expected {wanted[:12]}): its file, "
            "what that reads, or the project's code has changed since `make package`. Package and register it again, "
            "or give the pods what was packaged"
        )
    return recipe


RECIPE: Recipe = registered(chosen_recipe(recipe_name()))

# The list of packages is left out of decks: it starts pip twice, which asks for git, and an artifact's record has it.
DECK_FIELDS = tuple(field for field in DeckField if field != DeckField.DEPENDENCIES)

DATA_IMAGE = "{{.image.data}}"
TRAIN_IMAGE = "{{.image.train}}"

# Rendezvous waits: long enough for nodes to be scheduled one by one, far below a hung day.
RENDEZVOUS = {"timeout": 900, "join_timeout": 900, "read_timeout": 900}

LOCAL_DEFAULTS = {
    "OMP_NUM_THREADS": "1",  # one thread a worker: two workers fill two cores
    "TOKENIZERS_PARALLELISM": "false",  # workers are forked; a thread pool would not survive it
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


def prepare_local_process() -> None:
    """Set what must be set before torch, tokenizers or mlflow are imported in a local run."""
    if "FLYTE_INTERNAL_EXECUTION_ID" in os.environ:
        return  # in a pod: the pod template's environment decides
    for name, value in LOCAL_DEFAULTS.items():
        os.environ.setdefault(name, value)
    show_progress()


def show_progress() -> None:
    """One line on stderr for each step that makes something."""
    log = logging.getLogger("k2model")
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False


def data_task(**options: Any) -> Callable:
    """A CPU task on the data image, retried when its pod is lost."""
    settings: dict[str, Any] = {"container_image": DATA_IMAGE, "retries": 2, "deck_fields": DECK_FIELDS}
    return task(**(settings | options))


def training_task(phase: PhaseConfig) -> Callable:
    """An elastic job sized by the row of its phase."""
    layout = phase.parallelism
    return task(
        container_image=TRAIN_IMAGE,
        retries=3,
        task_config=_elastic(layout.nodes, layout.workers_per_node),
        pod_template=_gpu_pod() if RECIPE.cluster.gpus_per_node else None,
    )


def evaluation_task() -> Callable:
    """One node that spreads an evaluation over its workers."""
    workers = RECIPE.cluster.gpus_per_node or RECIPE.evaluation.workers
    return task(
        container_image=TRAIN_IMAGE,
        retries=2,
        task_config=_elastic(1, workers),
        pod_template=_gpu_pod() if RECIPE.cluster.gpus_per_node else None,
    )


def _elastic(nodes: int, workers: int) -> TorchElastic:
    # After a restart the agent's shared store still holds the dead workers' addresses; each attempt of a
    # multi-node job must meet in a store of its own. The agent reads this, not the workers.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_shutdown_seconds()))
    laptop = not RECIPE.cluster.gpus_per_node
    return TorchElastic(
        nnodes=nodes,
        nproc_per_node=workers,
        # A forked worker has torch imported already; CUDA forbids forking, and so does macOS.
        start_method="fork" if laptop and sys.platform == "linux" else "spawn",
        monitor_interval=0.1 if laptop else 5.0,
        rdzv_configs=RENDEZVOUS,
    )


def _shutdown_seconds() -> int:
    """What workers have between SIGTERM and SIGKILL: their last checkpoint's time, and a little to end in."""
    return math.ceil(max(phase.checkpoints.preemption_seconds for phase in RECIPE.phases)) + 5


def _gpu_pod() -> PodTemplate:
    """GPUs, InfiniBand and shared memory of one training pod.

    Everything stands in the template: a task's `requests` would replace the container's resources and
    drop the InfiniBand devices.
    """
    from kubernetes.client import (
        V1Container,
        V1EmptyDirVolumeSource,
        V1EnvVar,
        V1PodSpec,
        V1ResourceRequirements,
        V1Volume,
        V1VolumeMount,
    )

    cluster = RECIPE.cluster
    amounts = {"cpu": str(cluster.cpus_per_node), "nvidia.com/gpu": str(cluster.gpus_per_node)}
    if cluster.infiniband_devices_per_node:
        amounts["rdma/ib"] = str(cluster.infiniband_devices_per_node)
    container = V1Container(
        name="primary",
        resources=V1ResourceRequirements(requests=amounts, limits=amounts),
        volume_mounts=[V1VolumeMount(name="shared-memory", mount_path="/dev/shm")],
        # Without a heartbeat timeout a lost peer leaves NCCL waiting for its default of many minutes.
        env=[V1EnvVar(name="TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC", value="300")],
    )
    memory = V1EmptyDirVolumeSource(medium="Memory", size_limit=cluster.shared_memory)
    return PodTemplate(
        primary_container_name="primary",
        pod_spec=V1PodSpec(
            containers=[container],
            # The agent waits for its workers, the pod for its agent.
            termination_grace_period_seconds=_shutdown_seconds() + 10,
            volumes=[V1Volume(name="shared-memory", empty_dir=memory)],
        ),
    )


def show_deck(title: str, html: str) -> None:
    """Attach a page to the running task's deck."""
    from flytekit import Deck

    if current_context() is not None:
        Deck(title, html)


def remember_dataclass_schemas() -> None:
    """Let flytekit answer from memory when the same dataclass is described again in this process.

    It derives a JSON schema of a dataclass anew wherever a task names it. The recipe is a deep type and many tasks
    take it, so that alone would cost every `pyflyte` command seconds.
    """
    transformer = TypeEngine._DATACLASS_TRANSFORMER
    transformer.get_literal_type = functools.cache(transformer.get_literal_type)


prepare_local_process()
remember_dataclass_schemas()
