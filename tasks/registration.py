"""Registration of a phase's checkpoint in MLflow, with its lineage and the verdicts of its gates."""

from flytekit import task

from k2model.artifacts import ArtifactRef
from k2model.planning import StoreRef
from k2model.recipe import PhaseConfig, Recipe
from k2model.registry import Registration
from k2model.settings import tracking_uri
from tasks._platform import DATA_IMAGE


@task(container_image=DATA_IMAGE, retries=2)
def register(
    store: StoreRef,
    recipe: Recipe,
    phase: PhaseConfig,
    corpus: ArtifactRef,
    sequences: ArtifactRef,
    checkpoint: ArtifactRef,
    export: ArtifactRef,
    scores: ArtifactRef,
    parent: Registration | None = None,
) -> Registration:
    """Not cached: the tracking store may have been replaced since. A phase that it holds is left as it is."""
    from k2model.registry import register_phase

    return register_phase(
        tracking_uri=tracking_uri(),
        store=store.open(),
        recipe_name=recipe.name,
        model=recipe.model,
        phase=phase,
        gates=recipe.gates,
        sequences=sequences,
        corpus=corpus,
        checkpoint=checkpoint,
        export=export,
        scores=scores,
        parent=parent,
    )
