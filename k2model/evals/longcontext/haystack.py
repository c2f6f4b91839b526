"""Texts made to measure: how much filling brings a prompt to a length in tokens, exact to a few and never over.

How long a text is, only its model can tell (`Backend.tokens`), so the amount of filling is searched for. That is nearly
linear in tokens, so a straight line through the two nearest known amounts finds it in a handful of readings, which is
what 512K tokens cost: a reading is a second or two.
"""

from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import TYPE_CHECKING

from k2model.errors import EvaluationError

if TYPE_CHECKING:
    from k2model.documents.schema import Document

SLACK = 4  # tokens that a text may be short of its length
MOST_READINGS = 60  # of one text; a monotone text takes four to eight
SENTENCE_WITHIN = 40  # words around a depth in which a sentence's end is looked for


def fitted(tokens: Callable[[int], int], length: int, what: str) -> int:
    """How much filling, in whatever units, gives the longest text of at most `length` tokens, or one within `SLACK`.

    tokens: of the text with so much filling; more filling never makes it shorter by much. Raises EvaluationError where
    the text is too long without any.
    """
    low, low_tokens = 0, tokens(0)
    if low_tokens > length:
        raise EvaluationError(
            f"{what} takes {low_tokens} tokens without any filling, and {length} are there; ask at greater lengths"
        )
    high, high_tokens = None, 0
    size = max(1, length - low_tokens)
    for reading in range(MOST_READINGS):
        found = tokens(size)
        if found <= length:
            low, low_tokens = size, found
            if length - found <= SLACK:
                return size
        else:
            high, high_tokens = size, found
        if high is None:
            size = 2 * low
        elif high - low <= 1:
            return low
        elif reading % 4 == 3:  # a text that is far from linear is halved instead
            size = (low + high) // 2
        else:
            step = (high - low) * (length - low_tokens) // (high_tokens - low_tokens)
            size = min(max(low + step, low + 1), high - 1)
    return low


@cache
def prose() -> tuple[tuple[str, ...], int]:
    """(Words of the standard library's documentation, those held out first; how many are held out)."""
    from k2model.documents.families.retrieval import filler
    from k2model.documents.spans import segments_of

    trained, heldout = (filler(segments_of(one)[1]["text"] for one in part) for part in _documents())
    return (*heldout, *trained), len(heldout)


@cache
def vocabulary() -> tuple[str, ...]:
    """Frequent words, each of which a small vocabulary has as one token: those of the trained retrieval documents."""
    from k2model.documents.families.retrieval import vocabulary as frequent

    return tuple(frequent(one["text"] for one in _documents()[0]))


@cache
def prose_digest() -> str:
    """Of what texts are filled with, which differs between versions of Python."""
    from k2model.documents.standard_library import digest

    return digest()


@cache
def _documents() -> "tuple[list[Document], list[Document]]":
    from k2model.documents.standard_library import prose_documents

    return prose_documents()


def start_of(rng: Random) -> int:
    """Where in `prose` a text begins: among the words that are held out, so that a short one has no others."""
    return rng.randrange(prose()[1])


def with_pieces(start: int, size: int, pieces: Sequence[tuple[float, str]], sentences: bool) -> str:
    """`size` words of prose from `start` on, over and over, with each piece at its depth (0 = in front, 1 = behind).

    sentences: pieces are sentences, and stand where one of the prose ends, if one does nearby; else they are entries,
    which begin with a semicolon that nothing stands between.
    """
    words, _ = prose()
    filling = [words[(start + number) % len(words)] for number in range(size)]
    placed: dict[int, list[str]] = {}
    for depth, piece in sorted(pieces, key=lambda one: one[0]):
        place = round(depth * size)
        placed.setdefault(_sentence_end(filling, place) if sentences else place, []).append(piece)
    parts: list[str] = []
    before = 0
    for place in sorted(placed):
        parts += [*filling[before:place], *placed[place]]
        before = place
    text = " ".join([*parts, *filling[before:]])
    return text if sentences else text.replace(" ;", ";")  # as in the documents that entries are learned from


def _sentence_end(filling: Sequence[str], place: int) -> int:
    """The nearest place behind a full stop, or the place itself; both ends count as such."""
    for distance in range(SENTENCE_WITHIN):
        for near in (place - distance, place + distance):
            if near in (0, len(filling)) or (0 < near < len(filling) and filling[near - 1].endswith(".")):
                return near
    return place
