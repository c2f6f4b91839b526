"""Evaluation of a phase's model on held-out items and documents.

`scores_step` is the step. A score is measured by free generation that is verified (`questions`), by
likelihood (`likelihood`) or by teacher forcing (`retrieval`); `groups` says which phase has which, and
`scores` writes and reads the rows. Loads torch when a name is first used.
"""

from importlib import import_module
from typing import Any

_LAZY = {
    "EvaluationError": "k2model.errors",
    "scores_step": "k2model.evals.step",
    "generate": "k2model.evals.generation",
    "mean_interval": "k2model.evals.scores",
    "wilson": "k2model.evals.scores",
}

__all__ = ["EvaluationError", "generate", "mean_interval", "scores_step", "wilson"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
