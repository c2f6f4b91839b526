"""Tokenizer, and the packed sequences of one phase."""

from k2model.artifacts import ArtifactRef
from k2model.planning import DataPlan, StoreRef
from k2model.recipe.schema import PhaseConfig, ValidationConfig
from tasks._platform import cached, data_task
from tasks._types import Artifact


@data_task(cache=False)
def train_tokenizer(store: StoreRef, data: DataPlan, corpus: ArtifactRef) -> Artifact:
    """Not cached: a recipe may name a place to adopt one from, and the store knows whether that is what it has."""
    from k2model.tokens import train_tokenizer

    return train_tokenizer(store.open(), data.tokenizer, corpus)


@data_task(cache=cached("sequences"))
def pack(store: StoreRef, phase: PhaseConfig, tokens: ArtifactRef, max_epochs: float) -> Artifact:
    from k2model.tokens import pack

    return pack(store.open(), phase, tokens, max_epochs)


@data_task(cache=cached("sequences_checks"))
def validate_sequences(
    store: StoreRef, config: ValidationConfig, phase: PhaseConfig, sequences: ArtifactRef
) -> Artifact:
    """Gives back `sequences` when they pass, so that training waits for the gate."""
    from k2model.tokens.validation import validate_sequences

    validate_sequences(store.open(), config, phase, sequences)
    return sequences
