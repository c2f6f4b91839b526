"""What can go wrong with an artifact, as errors a person can act on.

Each message names the artifact or file, what was expected, what was found and what to do. Errors
raised by the code that produces an artifact are not wrapped: they say more as they are.
"""

from k2model.errors import K2Error


class ArtifactError(K2Error):
    """The root of the store's errors; raised itself when a store cannot be read."""


class MissingArtifact(ArtifactError):
    """A reference points at something that is not in the store, or is not finished."""


class CorruptArtifact(ArtifactError):
    """What is in the store is not what its manifest or its reference says."""


class InputsChanged(ArtifactError):
    """What a step reads from outside the store is not what it was when its parts were listed."""


class StoreWriteError(ArtifactError):
    """The store does not take what is written to it: full, read-only, forbidden, not reachable."""


class LeaseHeld(ArtifactError):
    """Another live process is making the same artifact."""


class LeaseLost(ArtifactError):
    """This process was taken for dead (its heartbeat stopped) and another one took its work over."""
