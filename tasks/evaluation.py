"""The tasks of the matrix: which of its cells are missing, measuring those of one checkpoint, the table at the end.

A checkpoint is the item of the map task: its model is loaded once, on a node of its own, and the workers there share
its cells. What a pod had answered when it was lost is kept (`k2model.evals.answers`), so a retry goes on from there.
All of it runs on the image of evaluations: which cells there are follows from checkpoints and versions of graders.
"""

from collections.abc import Sequence

from k2model.artifacts import Store
from k2model.errors import EvaluationError
from k2model.evals.cells import CellsFailed, failures_told
from k2model.evals.choice import Questions
from k2model.evals.matrix import chosen_checkpoints, entries
from k2model.evals.references import Known
from k2model.lifecycle import LifecyclePlan
from k2model.lifecycle.plan import known_artifacts
from k2model.recipe.task_files import questions_of
from tasks._platform import EVAL_IMAGE, RECIPE, data_task, evaluation_task
from tasks.pods import Kind, check_gpus, evaluation_pod


@data_task(Kind.ASK, container_image=EVAL_IMAGE)
def list_missing(plan: LifecyclePlan, tasks: list[str], checkpoints: list[str]) -> list[str]:
    """The checkpoints of which a cell is missing, as references."""
    store, known = _known(plan)
    wanted = chosen_checkpoints(known, checkpoints)
    found, _ = entries(store, _questions(store, known, tasks), wanted)  # `tell_matrix` says what is damaged
    return list(dict.fromkeys(entry.checkpoint.reference for entry in found if entry.ref is None))


@evaluation_task()
def measure(plan: LifecyclePlan, tasks: list[str], checkpoint: str) -> str:
    """Measures the cells that a checkpoint lacks, by all workers of the node. Gives what went wrong, "" for nothing: a
    cell that fails ends no other checkpoint's pod."""
    from k2model.evals.step import measure_together

    check_gpus(evaluation_pod(RECIPE))
    store, known = _known(plan)
    found, _ = entries(store, _questions(store, known, tasks), chosen_checkpoints(known, [checkpoint]))
    try:
        measure_together(store, [entry.cell for entry in found], known.recipe.evaluation.tensor)
    except CellsFailed as failed:
        return str(failed)
    return ""


@data_task(Kind.ASK, container_image=EVAL_IMAGE)
def tell_matrix(plan: LifecyclePlan, tasks: list[str], checkpoints: list[str], measured: list[str]) -> str:
    """How much of the matrix is there, and what of public suites lacks data. `measured`: what went wrong with each
    checkpoint that it waits for. Raises EvaluationError with all of that, and with every checkpoint that cannot be
    read."""
    store, known = _known(plan)
    questions = _questions(store, known, tasks)
    found, damaged = entries(store, questions, chosen_checkpoints(known, checkpoints))
    there = [entry for entry in found if entry.ref is not None]
    told = (
        f"{len(there)} of {len(found)} cells of {len({entry.checkpoint for entry in found})} checkpoints measured, "
        f"{len(measured)} checkpoints anew; `k2 eval matrix --store {plan.store}` shows them"
    )
    told = "\n".join([told, *(f"absent: {name}: {why}" for name, why in questions.absent.items())])
    if failed := [one for one in (*measured, failures_told(damaged, len(found) + len(damaged))) if one]:
        raise EvaluationError("\n".join([told, *failed]))
    return told


def _known(plan: LifecyclePlan) -> tuple[Store, Known]:
    store = Store.open(plan.store)
    return store, known_artifacts(store, plan.recipe)


def _questions(store: Store, known: Known, tasks: Sequence[str]) -> Questions:
    chosen, own = questions_of(tasks)
    return Questions(known, store, chosen, own)
