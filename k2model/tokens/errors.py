"""What can go wrong between text and training rows, for the person who can fix it."""

from k2model.errors import K2Error


class TokensError(K2Error):
    """A tokenizer, token shard or packed sequence is not usable as asked."""


class MixtureError(TokensError):
    """A phase's mixture cannot be drawn from the tokens there are."""
