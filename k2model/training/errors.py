"""What can go wrong while training, each with the place and the remedy in its message."""

from k2model.errors import K2Error


class TrainingError(K2Error):
    """Root of this package's errors."""


class InvalidPhase(TrainingError, ValueError):
    """A phase that cannot be trained as laid out: found before the first step."""


class TrainingDiverged(TrainingError):
    """The loss or the gradient norm stopped being a number; nothing of that step was saved."""


class CheckpointMismatch(TrainingError):
    """A checkpoint's tensors do not fit the model or optimizer that should start from them."""
