"""The steps of curation one after the other on one store, as the table of steps has them."""

from k2model.artifacts import ArtifactRef, Store, make
from k2model.curation import clean_step, curated_step
from k2model.curation.comparison import band_step, duplicates_step, exact_step
from k2model.curation.duplicates import SLICE_ROWS
from k2model.recipe.schema import CorpusConfig


def compare(
    store: Store, config: CorpusConfig, clean: ArtifactRef, workers: int = 1, slice_rows: int = SLICE_ROWS
) -> ArtifactRef:
    exact = make(store, exact_step(store, clean, slice_rows), workers)
    bands = make(store, band_step(store, config, clean, exact, slice_rows), workers)
    return make(store, duplicates_step(store, config, clean, exact, bands))


def curate(store: Store, config: CorpusConfig, raw: ArtifactRef, workers: int = 1) -> ArtifactRef:
    clean = make(store, clean_step(store, config, raw), workers)
    duplicates = compare(store, config, clean, workers)
    return make(store, curated_step(store, config, raw, clean, duplicates), workers)
