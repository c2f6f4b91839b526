"""The three steps of this package: what bears their identity, and where their work is done.

Heavy imports happen inside `produce`, so that a cached step costs a look-up and nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    from k2model.artifacts import ArtifactRef, Store
    from k2model.recipe.schema import PhaseConfig, TokenizerConfig

#: Epochs of one source in one phase beyond which a mixture is refused.
MAX_EPOCHS = 60.0


def train_tokenizer(store: Store, config: TokenizerConfig, corpus: ArtifactRef) -> ArtifactRef:
    """Learn the byte-level BPE from `corpus` (kind `corpus` or `corpus_valid`); gives kind `tokenizer`.

    Raises TokensError when the vocabulary is too small for bytes and special tokens.
    """
    from k2model.artifacts import Identity
    from k2model.corpus.markup import SPECIAL_TOKENS

    def produce(folder: Path) -> dict[str, float]:
        from k2model.tokens.bpe import train_folder

        return train_folder(store.fetch(corpus), config, folder)

    settings = {"tokenizer": config, "special_tokens": SPECIAL_TOKENS}
    return store.build(
        Identity(step="tokenizer", version=STEP_VERSIONS["tokenizer"], config=settings, inputs={"corpus": corpus}),
        produce,
    )


def tokenize(store: Store, corpus: ArtifactRef, tokenizer: ArtifactRef) -> ArtifactRef:
    """Encode every training and held-out document of `corpus`; gives kind `tokens`.

    Raises TokensError for a document without tokens or with an unknown special token.
    """
    from k2model.artifacts import Identity

    def produce(folder: Path) -> dict[str, float]:
        from k2model.tokens.shards import tokenize_folder
        from k2model.tokens.tokenizer import K2Tokenizer

        return tokenize_folder(store.fetch(corpus), K2Tokenizer.load(store.fetch(tokenizer)), folder)

    inputs = {"corpus": corpus, "tokenizer": tokenizer}
    return store.build(Identity(step="tokens", version=STEP_VERSIONS["tokens"], config={}, inputs=inputs), produce)


def pack(store: Store, phase: PhaseConfig, tokens: ArtifactRef, max_epochs: float = MAX_EPOCHS) -> ArtifactRef:
    """Draw and pack the rows of `phase`; gives kind `sequences`.

    Only the fields that decide the rows bear identity: a changed learning rate packs nothing again.
    Raises MixtureError when the mixture names a source that `tokens` does not hold, would repeat one more than
    `max_epochs` times, does not fit the phase's length or keeps too little short-context data.
    """
    from k2model.artifacts import Identity

    def produce(folder: Path) -> dict[str, float]:
        from k2model.tokens.sequences import pack_folder

        return pack_folder(store.fetch(tokens), phase, folder, max_epochs)

    settings = {
        "sequence_length": phase.sequence_length,
        "global_batch": phase.global_batch,
        "steps": phase.steps,
        "mixture": phase.mixture,
        "mixing": phase.mixing,
        "packing": phase.packing,
        "long_documents": phase.long_documents,
        "seed": phase.seed,
        "max_epochs": max_epochs,
    }
    return store.build(
        Identity(step="sequences", version=STEP_VERSIONS["sequences"], config=settings, inputs={"tokens": tokens}),
        produce,
    )
