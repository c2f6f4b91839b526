"""The corpus: sources, families with their solvers, and curation. Imports cheaply; names resolve on use."""

from importlib import import_module
from typing import Any

from k2model.corpus.markup import EFFORTS, SPECIAL_TOKENS, chat_prompt, plain_prompt, reasoning_prompt

_LAZY = {
    "raw_step": "k2model.corpus.build",
    "clean_step": "k2model.corpus.curation.steps",
    "curated_step": "k2model.corpus.curation.steps",
    "source_versions": "k2model.corpus.build",
    "FAMILIES": "k2model.corpus.families",
    "DOCUMENT_SCHEMA": "k2model.corpus.documents",
    "ITEM_SCHEMA": "k2model.corpus.documents",
    "read_documents": "k2model.corpus.documents",
    "read_items": "k2model.corpus.documents",
    "source_file": "k2model.corpus.documents",
}

__all__ = [
    "EFFORTS",
    "SPECIAL_TOKENS",
    "chat_prompt",
    "plain_prompt",
    "reasoning_prompt",
    *_LAZY,
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'k2model.corpus' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
