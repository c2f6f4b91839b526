"""What can be wrong with a corpus and is the user's to mend."""

from k2model.errors import K2Error


class CorpusError(K2Error):
    """A source or a corpus folder is not what was asked for."""
