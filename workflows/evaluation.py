"""The matrix of a recipe's checkpoints and tasks, filled on nodes of their own: beside a training, or long after it.

    pyflyte run workflows/evaluation.py fill_matrix
    pyflyte run workflows/evaluation.py fill_matrix --tasks '["arithmetic", "s3://ours/exam.yaml"]'

Checkpoints that a training keeps (`checkpoints.keep_every`) are found as soon as they are whole. Only cells that are
missing are measured, those of a checkpoint in one pod; run again, it does what was not there the first time. By itself
it is run as often as `evaluation.matrix_schedule` of the recipe says, once the workflows are registered.
"""

import functools

from flytekit import CronSchedule, LaunchPlan, map_task, workflow
from flytekit.models.concurrency import ConcurrencyLimitBehavior, ConcurrencyPolicy

from tasks._platform import RECIPE
from tasks.evaluation import list_missing, measure, tell_matrix
from tasks.run import resolve

CONCURRENCY = 64  # pods at the same time; more wait


@workflow
def fill_matrix(tasks: list[str] = [], checkpoints: list[str] = [], overrides: dict = {}) -> str:  # noqa: B006
    """Measure the cells of the matrix that are missing.

    Args:
        tasks: names of tasks or families, or YAML files of tasks, which pods must reach; all of the recipe's if empty
        checkpoints: references such as mid_1 or mid_1@200; all that are there if empty
        overrides: dotted recipe fields to change, for example {"evaluation.items_per_family": 64}

    Returns:
        how much of the matrix is there
    """
    plan = resolve(overrides=overrides)
    listed = list_missing(plan=plan, tasks=tasks, checkpoints=checkpoints)
    one = functools.partial(measure, plan=plan, tasks=tasks)
    measured = map_task(one, concurrency=CONCURRENCY)(checkpoint=listed).with_overrides(node_name="checkpoints")
    return tell_matrix(plan=plan, tasks=tasks, checkpoints=checkpoints, measured=measured)


#: What fills it by itself, one execution at a time; None where the recipe has no schedule for it.
SCHEDULED = (
    LaunchPlan.get_or_create(
        fill_matrix,
        name=f"{RECIPE.name}.matrix",
        schedule=CronSchedule(schedule=cron),
        fixed_inputs={"tasks": list(RECIPE.evaluation.matrix_tasks), "checkpoints": [], "overrides": {}},
        auto_activate=True,
        concurrency=ConcurrencyPolicy(max_concurrency=1, behavior=ConcurrencyLimitBehavior.SKIP),
    )
    if (cron := RECIPE.evaluation.matrix_schedule)
    else None
)
