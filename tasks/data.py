"""What is done with the data as a whole; steps made part by part are in `tasks.parts`."""

from flytekit import task

from k2model.artifacts import ArtifactRef
from k2model.planning import StoreRef
from k2model.recipe.schema import CorpusConfig
from tasks._platform import DATA_IMAGE, cached, data_task
from tasks._types import Artifact


@data_task(cache=cached("duplicates"))
def find_duplicates(
    store: StoreRef, config: CorpusConfig, clean: ArtifactRef, exact: ArtifactRef, bands: ArtifactRef
) -> Artifact:
    """Which documents copy which, from the links of all slices: memory is bounded by the documents that have one."""
    from k2model.corpus.curation.comparison import settle

    return settle(store.open(), config, clean, exact, bands)


@task(container_image=DATA_IMAGE)
def summarize_data(artifacts: list[ArtifactRef]) -> str:
    """What a data run ends with: each artifact's counts and place; never cached, so that it is always said."""
    return "\n".join(f"{ref.kind:14} {_counts(ref)}  {ref.uri}" for ref in artifacts)


def _counts(ref: ArtifactRef) -> str:
    return ", ".join(f"{value:,.0f} {name}" for name, value in ref.stats.items())
