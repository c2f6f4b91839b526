"""The first task of every DAG: recipe and overrides become the plan the other tasks read."""

from flytekit import task

from k2model.errors import K2Error
from k2model.lifecycle import LifecyclePlan
from k2model.lifecycle import resolve as resolve_plan
from k2model.recipe import Recipe
from k2model.settings import recipe_name, store_uri
from tasks._platform import DATA_IMAGE, RECIPE


class FixedAtRegistration(K2Error):
    """An override names a field that was fixed when the workflow was registered."""


@task(container_image=DATA_IMAGE)
def resolve(overrides: dict) -> LifecyclePlan:
    """Raises FixedAtRegistration for an override of what the registered tasks have taken from the recipe."""
    plan = resolve_plan(recipe_name(), overrides, store_uri())
    for registered, asked in zip(_workers(RECIPE), _workers(plan.recipe), strict=True):
        if registered != asked:
            raise FixedAtRegistration(
                f"{asked[0]} cannot be overridden to {asked[1]}: tasks were sized by the recipe '{RECIPE.name}' when "
                f"they were registered ({registered[1]}); change it in the recipe"
            )
    return plan


def _workers(recipe: Recipe) -> list[tuple[str, object]]:
    """Every field that sizes a task, by its dotted name."""
    layouts = [(f"phases.{phase.name}.parallelism", phase.parallelism) for phase in recipe.phases]
    counts = [
        (f"{name}.{field}", getattr(layout, field))
        for name, layout in layouts
        for field in ("nodes", "workers_per_node")
    ]
    return [*counts, ("evaluation.workers", recipe.evaluation.workers), ("cluster", recipe.cluster)]
