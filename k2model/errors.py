"""The root of every error that is meant for the person who runs the pipeline.

A message says what was wrong, where (file, field, row), what was expected and what to do about it.
Bugs are not `K2Error`s: they keep Python's own types.
"""


class K2Error(Exception):
    """Something a user can act on."""
