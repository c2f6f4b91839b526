"""The tasks of a run that make no artifact: its plan at the beginning, a phase's registration, what the person who
started it is told at the end."""

from flytekit import task

from k2model.artifacts import ArtifactRef, Store
from k2model.artifacts.result import LifecycleResult
from k2model.errors import K2Error
from k2model.lifecycle import LifecyclePlan
from k2model.lifecycle import resolve as resolve_plan
from k2model.lifecycle.missing import MissingData, missing_data
from k2model.lifecycle.steps import gate_identities
from k2model.recipe import Recipe
from k2model.registry import Registration
from k2model.settings import recipe_name, store_uri, tracking_uri
from tasks._platform import DATA_IMAGE, RECIPE


class FixedAtRegistration(K2Error):
    """An override names a field that was fixed when the workflow was registered."""


@task(container_image=DATA_IMAGE)
def resolve(overrides: dict) -> LifecyclePlan:
    """Raises FixedAtRegistration for an override of what the registered tasks have taken from the recipe, MissingData
    where it does not say where its data lie."""
    plan = resolve_plan(recipe_name(), overrides, store_uri())
    for registered, asked in zip(_workers(RECIPE), _workers(plan.recipe), strict=True):
        if registered != asked:
            raise FixedAtRegistration(
                f"{asked[0]} cannot be overridden to {asked[1]}: tasks were sized by the recipe '{RECIPE.name}' when "
                f"they were registered ({registered[1]}); change it in the recipe"
            )
    if problem := missing_data(plan.recipe):
        raise MissingData(problem)
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


@task(container_image=DATA_IMAGE, retries=2)
def register(
    plan: LifecyclePlan,
    phase: str,
    corpus: ArtifactRef,
    sequences: ArtifactRef,
    checkpoint: ArtifactRef,
    export: ArtifactRef,
    scores: ArtifactRef,
    parent: Registration | None = None,
    adopted: ArtifactRef | None = None,
) -> Registration:
    """A phase that the tracking store holds is left as it is. `adopted`: the checkpoint of the model from outside that
    its weights descend from, if any."""
    from k2model.registry import register_phase

    return register_phase(
        tracking_uri=tracking_uri(),
        store=Store.open(plan.store),
        recipe_name=plan.recipe.name,
        model=plan.recipe.model,
        phase=plan.recipe.phase(phase),
        gates=plan.recipe.gates,
        sequences=sequences,
        corpus=corpus,
        checkpoint=checkpoint,
        export=export,
        scores=scores,
        parent=parent,
        origin=plan.recipe.origin(phase),
        adopted=adopted,
    )


@task(container_image=DATA_IMAGE)
def summarize(plan: LifecyclePlan, made: dict[str, ArtifactRef], registrations: list[Registration]) -> str:
    """Print what was kept of the data and the scores, say where everything is and what was promoted."""
    from k2model.reporting import print_summary

    store, result = Store.open(plan.store), LifecycleResult(plan.recipe, made)
    gates = gate_identities(store, plan.recipe, made)
    return print_summary(store, tracking_uri(), result, registrations, gates)


@task(container_image=DATA_IMAGE)
def summarize_data(made: dict[str, ArtifactRef]) -> str:
    """What a data run ends with: each artifact's counts and place."""
    return "\n".join(f"{name:14} {_counts(ref)}  {ref.uri}" for name, ref in made.items())


def _counts(ref: ArtifactRef) -> str:
    return ", ".join(f"{value:,.0f} {name}" for name, value in ref.stats.items())
