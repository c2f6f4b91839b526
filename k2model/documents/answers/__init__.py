"""Answers: where one stands in a text, and whether it is the one that is wanted. Names resolve on use."""

from k2model import lazy_exports

__all__ = ["bare", "final", "is_accepted", "last_number", "letter_of", "library_versions", "same"]

__getattr__ = lazy_exports(
    __name__,
    {
        "bare": "equality",
        "final": "extraction",
        "last_number": "numbers",
        "letter_of": "equality",
        "library_versions": "verifying",
        "same": "equality",
        "is_accepted": "equality",
    },
)
