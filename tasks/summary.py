"""How a run ends for the person who started it: what was made, and where it is."""

from flytekit import task

from k2model.artifacts import ArtifactRef, Store
from k2model.artifacts.result import LifecycleResult
from k2model.lifecycle import LifecyclePlan
from k2model.registry import Registration
from k2model.settings import tracking_uri
from tasks._platform import DATA_IMAGE


@task(container_image=DATA_IMAGE)
def summarize(plan: LifecyclePlan, made: dict[str, ArtifactRef], registrations: list[Registration]) -> str:
    """Print the scores, say where everything is and what was promoted."""
    from k2model.reporting import print_summary

    result = LifecycleResult(plan.recipe, made)
    return print_summary(Store.open(plan.store), tracking_uri(), result, registrations)


@task(container_image=DATA_IMAGE)
def summarize_data(made: dict[str, ArtifactRef]) -> str:
    """What a data run ends with: each artifact's counts and place."""
    return "\n".join(f"{name:14} {_counts(ref)}  {ref.uri}" for name, ref in made.items())


def _counts(ref: ArtifactRef) -> str:
    return ", ".join(f"{value:,.0f} {name}" for name, value in ref.stats.items())
