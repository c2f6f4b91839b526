"""Small mistakes, as a careless writer makes them: for teachers that are to be caught, and for guesses that a
reasoning behaviour corrects."""

import re
from collections.abc import Callable
from random import Random

_OPPOSITES = {"yes": "No", "no": "Yes", "true": "False", "false": "True"}
TRIES = 8
LAME = "something else"


def slip(text: str, rng: Random) -> str:
    """The last number changed by a few, else the last yes or no turned, else the last word turned round; `text`
    without a word comes back empty."""
    if numbers := list(re.finditer(r"\d+", text)):
        last = numbers[-1]
        return f"{text[: last.start()]}{int(last[0]) + rng.randint(1, 9)}{text[last.end() :]}"
    words = list(re.finditer(r"\w+", text))
    if not words:
        return ""
    last = words[-1]
    changed = _OPPOSITES.get(last[0].lower(), last[0][::-1] if last[0] != last[0][::-1] else last[0] + "s")
    return text[: last.start()] + changed + text[last.end() :]


def near_miss(answer: str, check: Callable[[str], bool], rng: Random) -> str:
    """Something that looks like the answer and is wrong; `LAME` when no slip makes it wrong."""
    tries = (slip(answer, rng) for _ in range(TRIES))
    return next((guess for guess in tries if guess and not check(guess)), LAME)
