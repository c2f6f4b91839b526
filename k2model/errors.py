"""The root of every error that is meant for the person who runs the pipeline.

A message says what was wrong, where (file, field, row), what was expected and what to do about it.
Bugs are not `K2Error`s: they keep Python's own types.
"""

from k2model.settings import masked_text


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
