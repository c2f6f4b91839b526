"""What a text is taken apart into, whichever backend wrote it, and the windows a long one is read in.

Trace and answer are told apart by K2's tags. What opens no trace and is not asked to has none, so that a model which
does not think is read as well.
"""

import re
from collections.abc import Iterator, Sequence

from k2model.documents.markup import EFFORTS
from k2model.evals.backend import Finish, Generation

_HALF = re.compile("[\ud800-\udfff]")


def cut(answer: str, stops: Sequence[str]) -> tuple[str, bool]:
    """An answer up to the first of the texts that end it, and whether there was one."""
    places = [place for stop in stops if stop and (place := answer.find(stop)) >= 0]
    return (answer[: min(places)], True) if places else (answer, False)


def take_apart(text: str, closing: str) -> tuple[str | None, str | None]:
    """(Trace, answer) of what was written. `closing` ends the trace that its prompt opened; where that opened none, a
    text that itself begins with an opening tag has one. No answer where a trace was not closed."""
    if not closing:
        begun = text.lstrip()
        tags = next(((first, last) for first, last in EFFORTS.values() if begun.startswith(first)), None)
        if tags is None:
            return None, text
        text, closing = begun.removeprefix(tags[0]), tags[1]
    trace, closed, answer = text.partition(closing)
    return trace, answer if closed else None


def generation(
    text: str, parts: tuple[str | None, str | None], stops: Sequence[str], finish: Finish, tokens: int,
    thinking_tokens: int | None = None,
) -> Generation:  # fmt: skip
    """What was written: `text`, of which `parts` are trace and answer, up to the first of `stops` in the answer.

    thinking_tokens: of `tokens`, those in the trace; None where nobody counted, so that its share of the characters
    tells. Half a character, as JSON can name it and a server that cuts between tokens does, is U+FFFD.
    """
    text = _HALF.sub("\ufffd", text)
    trace, answer = (one if one is None else _HALF.sub("\ufffd", one) for one in parts)
    if answer is not None:
        short, stopped = cut(answer, stops)
        text = text[: len(text) - len(answer)] + short
        answer, finish = short, Finish.END if stopped else finish
    if thinking_tokens is None:
        thinking_tokens = round(tokens * len(trace or "") / max(1, len(text)))
    return Generation(text, trace, answer, tokens, min(tokens, thinking_tokens), finish)


def windows(length: int, room: int) -> Iterator[tuple[int, int, int]]:
    """(start, first, last) of windows over `length` tokens, of which all but token 0 are predicted once: a window reads
    `start` to `last - 1`, at most `room` tokens, and predicts `first` to `last`. The last one reaches back as far as
    the others (lm-evaluation-harness' rolling likelihood, context of one token)."""
    for first in range(1, length, room):
        last = min(first + room, length)
        yield max(0, last - 1 - room), first, last
