"""The `smoke` recipe: the laptop's DAG at a size for tests. It shows that everything runs, not learning."""

from dataclasses import replace

from k2model.recipe.laptop import laptop
from k2model.recipe.schema import (
    Cadence,
    CorpusConfig,
    EvaluationConfig,
    MixtureEntry,
    ModelConfig,
    PhaseConfig,
    Recipe,
    SourceConfig,
    TokenizerConfig,
    ValidationConfig,
)

DOCUMENTS_PER_SOURCE = 120
STEPS = 6


def smoke() -> Recipe:
    """Six phases of six steps with a 70k-parameter model."""
    base = laptop()
    return replace(
        base,
        name="smoke",
        description="The whole DAG in a few minutes on little data; for tests",
        model=ModelConfig(
            vocab_size=512, hidden_size=32, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=16, ffn_size=64, init_std=0.02
        ),
        corpus=CorpusConfig(
            sources=tuple(
                SourceConfig(s.name, documents=DOCUMENTS_PER_SOURCE, context=min(s.context, 256))
                for s in base.corpus.sources
                if s.name not in ("retrieval/512", "retrieval/1024")
            ),
            heldout_items=16,
        ),
        validation=ValidationConfig(min_documents_per_source=10, max_epochs=200.0),
        tokenizer=TokenizerConfig(vocab_size=512, sample_bytes=200_000),
        phases=tuple(_shrink(phase) for phase in base.phases),
        evaluation=EvaluationConfig(
            items_per_family=8, retrieval_documents=2, retrieval_queries=2, loss_tokens=1024, batch_size=8
        ),
    )


def _shrink(phase: PhaseConfig) -> PhaseConfig:
    length = min(phase.sequence_length, 256)
    kept = {"retrieval/512": "retrieval/256", "retrieval/1024": "retrieval/256"}
    weights: dict[str, float] = {}
    for entry in phase.mixture:
        source = kept.get(entry.source, entry.source)
        weights[source] = weights.get(source, 0.0) + entry.weight
    return replace(
        phase,
        sequence_length=length,
        global_batch=1024 // length,
        steps=STEPS,
        schedule=replace(phase.schedule, warmup_steps=min(phase.schedule.warmup_steps, 2)),
        mixture=tuple(MixtureEntry(source, weight) for source, weight in weights.items()),
        cadence=Cadence(save_every=3),
    )
