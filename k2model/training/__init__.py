"""Training one phase of the table on one or many workers, with checkpoints that survive a kill.

`checkpoint_step` is the step; `open_model_state` gives exporters the weights of a finished checkpoint.
Torch and DeepSpeed are loaded when first needed.
"""

from k2model import lazy_exports
from k2model.errors import CheckpointMismatch, InvalidPhase, TrainingDiverged, TrainingError

__all__ = ["CheckpointMismatch", "InvalidPhase", "TrainingDiverged", "TrainingError"]

__getattr__ = lazy_exports(
    __name__,
    {
        "list_checkpoints": "checkpoint",
        "load_model_state": "checkpoint",
        "open_model_state": "checkpoint",
        "learning_rate": "loop",
        "checkpoint_step": "train",
        "validate_phase": "train",
    },
)
