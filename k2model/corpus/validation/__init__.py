"""The gate before training: Great Expectations suites over the curated corpus, and the quarantine.

Imports cheaply: Great Expectations (seconds) is loaded by the first call of `validate`.
"""

from importlib import import_module
from typing import Any

from k2model.corpus.validation.outcome import Outcome, ValidationFailed

_LAZY = {"validate": "k2model.corpus.validation.step", "validate_folder": "k2model.corpus.validation.step"}

__all__ = ["Outcome", "ValidationFailed", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'k2model.corpus.validation' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
