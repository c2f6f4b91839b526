"""Documents and evaluation items: their tables, K2's markup, and the task families. Names resolve on use."""

from importlib import import_module
from typing import Any

from k2model.documents.markup import EFFORTS, SPECIAL_TOKENS, chat_prompt, plain_prompt, reasoning_prompt

_LAZY = {
    "FAMILIES": "k2model.documents.families",
    "DOCUMENT_SCHEMA": "k2model.documents.schema",
    "ITEM_SCHEMA": "k2model.documents.schema",
    "read_documents": "k2model.documents.schema",
    "read_items": "k2model.documents.schema",
    "source_file": "k2model.documents.schema",
}

__all__ = ["EFFORTS", "SPECIAL_TOKENS", "chat_prompt", "plain_prompt", "reasoning_prompt", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
