"""What can go wrong while training, each with the place and the remedy in its message."""

from k2model.errors import K2Error


class TrainingError(K2Error):
    """Root of this package's errors."""


class InvalidPhase(TrainingError, ValueError):
    """A phase that cannot be trained as laid out: found before the first step."""


class TrainingDiverged(TrainingError):
    """Spikes came back more often than the phase's policy undoes; the message holds the evidence."""


class Preempted(TrainingError):
    """The job was told to end (SIGTERM) and left a checkpoint: run it again to go on."""


class CheckpointMismatch(TrainingError):
    """A checkpoint's tensors do not fit the model or optimizer that should start from them."""
