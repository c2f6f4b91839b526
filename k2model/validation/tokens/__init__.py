"""The gates behind the tokenizer: token shards before packing, packed rows before training.

Imports cheaply: Great Expectations (seconds) is loaded by the first call.
"""

from importlib import import_module
from typing import Any

_STEP = "k2model.validation.tokens.step"
_NAMES = ("tokens_checks_step", "sequences_checks_step")
_LAZY = {name: _STEP for name in _NAMES}

__all__ = list(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'k2model.validation.tokens' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
