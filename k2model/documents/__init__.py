"""Documents and evaluation items: their tables, K2's markup, and the task families. Names resolve on use."""

from k2model import lazy_exports
from k2model.documents.markup import EFFORTS, SPECIAL_TOKENS, chat_prompt, plain_prompt, reasoning_prompt

__all__ = ["EFFORTS", "SPECIAL_TOKENS", "chat_prompt", "plain_prompt", "reasoning_prompt"]

__getattr__ = lazy_exports(
    __name__,
    {
        "FAMILIES": "families",
        "DOCUMENT_SCHEMA": "schema",
        "ITEM_SCHEMA": "schema",
        "read_documents": "schema",
        "read_items": "schema",
        "source_file": "schema",
    },
)
