"""What can be wrong with a synthesis job, its teacher or its record, and is the user's to mend."""

from k2model.corpus.errors import CorpusError


class SynthesisError(CorpusError):
    """A job asks for something that cannot be made as it is written."""


class TeacherError(SynthesisError):
    """A teacher cannot be used at all: a wrong address, a missing or refused key, an unknown model."""


class RecordError(SynthesisError):
    """The record of calls cannot be read, or another run is writing it."""
