"""The errors that are meant for the person who runs the pipeline, whatever room raises them.

A message says what was wrong, where (file, field, row), what was expected and what to do about it.
Bugs are not `K2Error`s: they keep Python's own types.
"""

import difflib
from collections.abc import Collection

from k2model.settings import masked_text

LISTED = 24  # names in a message


class K2Error(Exception):
    """Something a user can act on. Its texts are shown and recorded, so secrets of addresses in them are masked."""

    def __init__(self, *parts: object) -> None:
        super().__init__(*(masked_text(part) if isinstance(part, str) else part for part in parts))


def showable(error: BaseException) -> BaseException | None:
    """`error` as the cause of a `K2Error`; None where it, or a cause of its own, tells a secret: a traceback shows all
    of them."""
    one: BaseException | None = error
    while one is not None:
        if masked_text(str(one)) != str(one):
            return None
        one = one.__cause__ or one.__context__
    return error


def nearest(name: str, known: Collection[str]) -> str:
    """What to offer for a `name` that is none of `known`: `did you mean 'a'? There are a, b, c`.

    A name that only lacks what stands before a last `/` is offered whole, all of them where there are several. Of more
    than `LISTED` names the first are listed.
    """
    near = [one for one in known if one.endswith(f"/{name}")] or difflib.get_close_matches(name, known, 1, cutoff=0.5)
    listed = ", ".join([*known][:LISTED]) + (", ..." if len(known) > LISTED else "")
    if not near:
        return f"there are {listed or 'none'}"
    return f"did you mean {' or '.join(repr(one) for one in near)}? There are {listed}"


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


class CorpusError(K2Error):
    """A source or a corpus folder is not what was asked for."""


class SynthesisError(CorpusError):
    """A job asks for something that cannot be made as it is written."""


class TeacherError(SynthesisError):
    """A teacher cannot be used at all: a wrong address, a missing or refused key, an unknown model."""


class RecordError(SynthesisError):
    """The record of calls cannot be read, or another run is writing it."""


class TokensError(K2Error):
    """A tokenizer, token shard or packed sequence is not usable as asked."""


class MixtureError(TokensError):
    """A phase's mixture cannot be drawn from the tokens there are."""


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


class EvaluationError(K2Error):
    """An input of the evaluation lacks what a score is measured on."""
