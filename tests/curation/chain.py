"""The steps of curation one after the other on a store, as the table of steps has them."""

import shutil
import tempfile
from pathlib import Path

from k2model.artifacts import ArtifactRef, Store, make
from k2model.curation import (
    clean_step,
    curated_step,
    duplicates_step,
    near_pairs_step,
    signature_matches_step,
    signature_ranges_step,
    sketch_ranges_step,
)
from k2model.curation.comparison import SKETCH_ROWS, SLICE_ROWS
from k2model.recipe.schema import CorpusConfig
from tests.validation.gates import as_artifact


def compare(
    store: Store, config: CorpusConfig, clean: ArtifactRef, workers: int = 1, slice_rows: int = SLICE_ROWS,
    sketch_rows: int = SKETCH_ROWS, known: ArtifactRef | None = None,
) -> ArtifactRef:  # fmt: skip
    ranges = make(store, signature_ranges_step(store, config, clean, slice_rows), workers)
    matches = make(store, signature_matches_step(store, ranges), workers)
    sketches = make(store, sketch_ranges_step(store, config, clean, ranges, matches, sketch_rows), workers)
    near = make(store, near_pairs_step(store, config, sketches), workers)
    return make(store, duplicates_step(store, config, clean, matches, near, known))


def curate(store: Store, config: CorpusConfig, raw: ArtifactRef, workers: int = 1) -> ArtifactRef:
    clean = make(store, clean_step(store, config, raw), workers)
    duplicates = compare(store, config, clean, workers)
    return make(store, curated_step(store, config, raw, clean, duplicates), workers)


def curate_folder(raw: Path, folder: Path, config: CorpusConfig, workers: int = 1) -> dict[str, float]:
    """Curate the corpus in folder `raw` on a store of its own, and copy what bears a digest into `folder`."""
    with tempfile.TemporaryDirectory() as home:
        store = Store.open(home)
        made = curate(store, config, as_artifact(store, "corpus_raw", raw), workers)
        unwanted = shutil.ignore_patterns("attachments", "manifest.json", "artifact.json")
        shutil.copytree(store.fetch(made), folder, ignore=unwanted, dirs_exist_ok=True)
        return made.stats
