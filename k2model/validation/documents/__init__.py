"""The gate before training: Great Expectations suites over the corpus, statistics, drift and the quarantine.

Imports cheaply: Great Expectations (seconds) is loaded by the first part that is looked at.
"""

from importlib import import_module
from typing import Any

from k2model.validation import Outcome, ValidationFailed

_STEP = "k2model.validation.documents.step"
_LAZY = {
    "valid_step": _STEP,
    "raw_checks_step": _STEP,
    "Bounds": "k2model.validation.documents.suites",
    "drift": "k2model.validation.documents.tables",
}

__all__ = ["Outcome", "ValidationFailed", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'k2model.validation.documents' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
