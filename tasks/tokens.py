"""Tokenizer, and the packed sequences of one phase."""

from k2model.artifacts import ArtifactRef
from k2model.planning import StoreRef
from k2model.recipe.schema import PhaseConfig, TokenizerConfig, ValidationConfig
from tasks._platform import data_task
from tasks._types import Artifact


@data_task()
def train_tokenizer(store: StoreRef, config: TokenizerConfig, corpus: ArtifactRef) -> Artifact:
    from k2model.tokens import train_tokenizer

    return train_tokenizer(store.open(), config, corpus)


@data_task()
def pack(store: StoreRef, phase: PhaseConfig, tokens: ArtifactRef, max_epochs: float) -> Artifact:
    from k2model.tokens import pack

    return pack(store.open(), phase, tokens, max_epochs)


@data_task()
def validate_sequences(
    store: StoreRef, config: ValidationConfig, phase: PhaseConfig, sequences: ArtifactRef
) -> Artifact:
    """Gives back `sequences` when they pass, so that training waits for the gate."""
    from k2model.tokens.validation import validate_sequences

    validate_sequences(store.open(), config, phase, sequences)
    return sequences
