"""Where tasks run: images, retries, pods (`tasks.pods`), local process defaults.

Which phases there are and how many nodes each has is fixed when tasks are registered, so the recipe is chosen here, at
import, by `K2_RECIPE` and `K2_OVERRIDES`; a run's own overrides arrive later and cannot change that.
"""

import functools
import logging
import os
from collections.abc import Callable
from typing import Any

from flytekit import current_context, task
from flytekit.core.context_manager import BranchEvalMode, FlyteContext
from flytekit.core.type_engine import TypeEngine
from flytekit.deck import DeckField

from k2model.errors import K2Error
from k2model.recipe import PhaseConfig, Recipe, chosen_recipe, recipe_digest
from k2model.settings import recipe_name, registered_recipe
from tasks.pods import DEFAULTS, Kind, cpu_pod, evaluation_pod, training_pod
from tasks.pytorch_job import elastic_job, rendezvous


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

EVAL_IMAGE = "{{.image.eval}}"

RENDEZVOUS = rendezvous(RECIPE)


def prepare_local_process() -> None:
    """Set what must be set before torch, tokenizers or mlflow are imported in a local run."""
    if "FLYTE_INTERNAL_EXECUTION_ID" not in os.environ:  # in a pod the template's environment has them
        for name, value in DEFAULTS.items():
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


def data_task(kind: Kind = Kind.WHOLE, **options: Any) -> Callable:
    """A CPU task on the data image; `kind` says what it needs."""
    settings: dict[str, Any] = {"container_image": DATA_IMAGE, "deck_fields": DECK_FIELDS}
    return task(**(settings | cpu_pod(RECIPE, kind).options | options))


def training_task(phase: PhaseConfig) -> Callable:
    """An elastic job sized by the row of its phase."""
    layout = phase.parallelism
    return task(
        container_image=TRAIN_IMAGE,
        task_config=elastic_job(RECIPE, layout.nodes, layout.workers_per_node),
        **training_pod(RECIPE, phase).options,
    )


def evaluation_task() -> Callable:
    """One node that spreads an evaluation over its workers."""
    pod = evaluation_pod(RECIPE)
    return task(container_image=EVAL_IMAGE, task_config=elastic_job(RECIPE, 1, pod.workers), **pod.options)


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


def keep_conditionals_apart() -> None:
    """Let a conditional inside of a branch of another one be followed by more, where a workflow runs in this process.

    flytekit has both share the state that says whether a branch is taken, so when the inner one has ended, the rest of
    the outer one's branch is skipped. With a state of its own for each, the outer one's is as it was.
    """

    def enter(builder: FlyteContext.Builder) -> FlyteContext.Builder:
        entered = enter_as_it_is(builder)
        if entered.execution_state and entered.execution_state.is_local_execution():
            skipped = BranchEvalMode.BRANCH_SKIPPED  # until one of its branches is taken
            entered.execution_state = entered.execution_state.with_params(branch_eval_mode=skipped)
        return entered

    enter_as_it_is = FlyteContext.Builder.enter_conditional_section
    FlyteContext.Builder.enter_conditional_section = enter


prepare_local_process()
remember_dataclass_schemas()
keep_conditionals_apart()
