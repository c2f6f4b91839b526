"""The first task of every DAG: recipe and overrides become the plan the other tasks read."""

from flytekit import task

from k2model.planning import LifecyclePlan
from k2model.planning import resolve as resolve_plan
from k2model.settings import store_uri, tracking_uri
from tasks._platform import DATA_IMAGE, RECIPE


@task(container_image=DATA_IMAGE)
def resolve(overrides: dict) -> LifecyclePlan:
    """Never cached: it also looks whether the store still holds what was built."""
    return resolve_plan(RECIPE.name, overrides, store_uri(), tracking_uri())
