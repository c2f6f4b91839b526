"""Tokens: from corpus text to the rows a phase trains on. Imports cheaply; heavy names resolve on use.

tokenizer_step -> tokenizer    byte-level BPE with K2's special tokens and chat template
tokens_step    -> tokens       one Arrow shard per part of a source, ids and targets
sequences_step -> sequences    the rows of one phase in training order
"""

from k2model import lazy_exports
from k2model.errors import MixtureError, TokensError
from k2model.tokens.steps import sequences_step, tokenizer_step, tokens_step

__all__ = ["MixtureError", "TokensError", "sequences_step", "tokenizer_step", "tokens_step"]

__getattr__ = lazy_exports(
    __name__,
    {
        "K2Tokenizer": "tokenizer",
        "PackedSequences": "reader",
        "TokenShard": "shards",
        "open_shard": "shards",
        "read_composition": "reader",
        "read_counts": "shards",
        "pack_folder": "sequences",
    },
)
