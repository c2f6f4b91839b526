"""Training one phase of the table on one or many workers, with checkpoints that survive a kill.

`checkpoint_step` is the step; `load_model_state` gives exporters the weights of a finished checkpoint.
Torch and DeepSpeed are loaded when first needed.
"""

from importlib import import_module
from typing import Any

from k2model.errors import CheckpointMismatch, InvalidPhase, TrainingDiverged, TrainingError

_LAZY = {
    "list_checkpoints": "k2model.training.checkpoint",
    "load_model_state": "k2model.training.checkpoint",
    "learning_rate": "k2model.training.loop",
    "checkpoint_step": "k2model.training.train",
    "validate_phase": "k2model.training.train",
}

__all__ = ["CheckpointMismatch", "InvalidPhase", "TrainingDiverged", "TrainingError", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'k2model.training' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
