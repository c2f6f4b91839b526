"""Tokens: from corpus text to the rows a phase trains on. Imports cheaply; heavy names resolve on use.

tokenizer_step -> tokenizer    byte-level BPE with K2's special tokens and chat template
tokens_step    -> tokens       one Arrow shard per part of a source, ids and targets
sequences_step -> sequences    the rows of one phase in training order
"""

from importlib import import_module
from typing import Any

from k2model.errors import MixtureError, TokensError
from k2model.tokens.steps import sequences_step, tokenizer_step, tokens_step

_LAZY = {
    "K2Tokenizer": "k2model.tokens.tokenizer",
    "PackedSequences": "k2model.tokens.reader",
    "TokenShard": "k2model.tokens.shards",
    "open_shard": "k2model.tokens.shards",
    "read_composition": "k2model.tokens.reader",
    "read_counts": "k2model.tokens.shards",
    "pack_folder": "k2model.tokens.sequences",
}

__all__ = ["MixtureError", "TokensError", "sequences_step", "tokenizer_step", "tokens_step", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'k2model.tokens' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
