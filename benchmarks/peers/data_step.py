"""One step of the data pipeline, for `benchmarks.data_scale`: runs it on a store that holds those before it.

python -m benchmarks.peers.data_step corpus_clean FOLDER
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from k2model.artifacts import ArtifactRef, Store, make
from k2model.recipe.curation import WEB, PhraseRule
from k2model.recipe.schema import (
    CorpusConfig,
    MixtureEntry,
    OptimizerConfig,
    OptimizerName,
    Packing,
    PhaseConfig,
    PhaseKind,
    ScheduleConfig,
    ScheduleShape,
    SourceConfig,
    TokenizerConfig,
    ValidationConfig,
)

WORKERS = 2
ROW, BATCH = 2_048, 8
#: K2's profile for web text; brackets are a matter of course in a text about Python.
PROFILE = replace(WEB, phrases=(PhraseRule("lorem_ipsum", r"(?i)lorem ipsum"),))


def corpus(place: Path) -> CorpusConfig:
    source = SourceConfig("web", location=str(place / "raw"), domain="prose", licence="CC0-1.0", heldout=0.005)
    return CorpusConfig(sources=(source,), heldout_items=16, profiles=(PROFILE,), part_bytes=64_000_000)


def phase(tokens: int) -> PhaseConfig:
    return PhaseConfig(
        name="pretrain",
        kind=PhaseKind.PRETRAIN,
        parent="",
        sequence_length=ROW,
        rope_theta=1e4,
        global_batch=BATCH,
        steps=max(1, int(0.95 * tokens) // (ROW * BATCH)),
        optimizer=OptimizerConfig(OptimizerName.ADAMW, lr=1e-3),
        schedule=ScheduleConfig(ScheduleShape.CONSTANT),
        mixture=(MixtureEntry("web", 1.0),),
        packing=Packing.BEST_FIT,
    )


def made(store: Store, step: str) -> ArtifactRef:
    """The reference of what an earlier step left."""
    record = store.records(step)[-1]
    return ArtifactRef(
        step, f"{store.uri}/{step}/{record['identity'][:16]}", record["digest"], record["identity"], record["stats"]
    )


def run(step: str, place: Path) -> ArtifactRef:
    from k2model.curation import (
        clean_step,
        curated_step,
        duplicates_step,
        near_pairs_step,
        signature_matches_step,
        signature_ranges_step,
        sketch_ranges_step,
    )
    from k2model.ingest.raw import raw_step
    from k2model.tokens import sequences_step, tokenizer_step, tokens_step
    from k2model.validation.documents import valid_step

    store, config = Store.open(place / "store"), corpus(place)

    def before(*steps: str) -> list[ArtifactRef]:
        return [made(store, name) for name in steps]

    if step == "corpus_raw":
        return make(store, raw_step(config), WORKERS)
    if step == "corpus_clean":
        return make(store, clean_step(store, config, *before("corpus_raw")), WORKERS)
    if step == "duplicates":
        (clean,) = before("corpus_clean")
        ranges = make(store, signature_ranges_step(store, config, clean), WORKERS)
        matches = make(store, signature_matches_step(store, ranges), WORKERS)
        sketches = make(store, sketch_ranges_step(store, config, clean, ranges, matches), WORKERS)
        near = make(store, near_pairs_step(store, config, sketches), WORKERS)
        return make(store, duplicates_step(store, config, clean, matches, near))
    if step == "corpus":
        return make(store, curated_step(store, config, *before("corpus_raw", "corpus_clean", "duplicates")), WORKERS)
    if step == "corpus_valid":
        bounds = ValidationConfig(min_ascii_fraction=0.0)
        return make(store, valid_step(store, bounds, {}, *before("corpus"), max_characters=config.max_characters))
    if step == "tokenizer":
        return make(store, tokenizer_step(store, TokenizerConfig(vocab_size=16_384), *before("corpus_valid")))
    if step == "tokens":
        return make(store, tokens_step(store, *before("corpus_valid", "tokenizer")))
    (tokens,) = before("tokens")
    return make(store, sequences_step(store, phase(int(tokens.stats["tokens"])), tokens))


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], Path(sys.argv[2])).stats))
