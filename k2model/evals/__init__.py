"""Evaluation of a phase's model on held-out items and documents.

`evaluate` is the step. A score is measured by free generation that is verified (`questions`), by
likelihood (`next_line`, `losses`) or by teacher forcing (`retrieval`); `groups` says which phase has
which. Loads torch when a name is first used.
"""

from importlib import import_module
from typing import Any

_LAZY = {
    "EvaluationError": "k2model.evals.errors",
    "evaluate": "k2model.evals.step",
    "evaluation_identity": "k2model.evals.step",
    "generate": "k2model.evals.generation",
    "mean_interval": "k2model.evals.intervals",
    "wilson": "k2model.evals.intervals",
}

__all__ = ["EvaluationError", "evaluate", "evaluation_identity", "generate", "mean_interval", "wilson"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
