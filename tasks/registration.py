"""Registration of a phase's checkpoint in MLflow, with its lineage and the results of its gates."""

from flytekit import task

from k2model.artifacts import ArtifactRef, Store
from k2model.lifecycle import LifecyclePlan
from k2model.registry import Registration
from k2model.settings import tracking_uri
from tasks._platform import DATA_IMAGE


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
) -> Registration:
    """A phase that the tracking store holds is left as it is."""
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
    )
