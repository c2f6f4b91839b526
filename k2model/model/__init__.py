"""The K2 transformer: architecture, attention, loss, how it is cut over workers, and its counts.

Counts are plain formulas and import at once; whatever needs torch is loaded when first named.
"""

from importlib import import_module
from typing import Any

from k2model.model.counts import (
    count_non_embedding_parameters,
    count_parameters,
    training_flops,
    training_flops_per_token,
)

_LAZY = {
    "K2Model": "k2model.model.transformer",
    "KVCache": "k2model.model.attention",
    "shifted_targets": "k2model.model.loss",
}

__all__ = [
    "K2Model",
    "KVCache",
    "count_non_embedding_parameters",
    "count_parameters",
    "shifted_targets",
    "training_flops",
    "training_flops_per_token",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
