"""Where an answer stands in what a model says: in a box, behind a mark, on the last line, as the last number.

A model that was told to close with one line mostly does, with some typography around it. What is read here is the last
of what could be meant, never the first: what comes before it is how the model got there.
"""

import re
from collections.abc import Iterator

from k2model.documents.answers.numbers import one_form

LONGEST_WHOLE = 4_000  # characters; Python reads no whole number of more than 4,300 digits

_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "∕": "/"})
_TEX = (("\\times", "*"), ("\\cdot", "*"), ("\\div", "/"), ("\\left", ""), ("\\right", ""), ("\\,", ""))
_FRACTION = re.compile(r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}")
#: A box and its brace, or a brace; \{ and \} are no braces of a box.
_BRACES = re.compile(
    r"(?P<box>\\(?:boxed|fbox)(?![a-zA-Z])\s*(?:(?P<brace>\{)|(?=[^\s{}])))|\\(?:[{}]|\\(?!boxed|fbox))|[{}]"
)
_WHOLE = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?![\w]|\.\d|,\d)")
_MARKED = re.compile(r"^[ \t]*####[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_SAID = re.compile(r"\banswer(?:\s+is\b|\s*:)[\s:*]*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<!\b[DM]r)(?<!\bMrs)(?<!\b[MS]t)(?<!\bProf)(?<!\bGen)\.\s|\n")


def boxes(text: str) -> Iterator[str]:
    """What stands in each box, from the last to the first, braces in it balanced; a box that is not closed is none. In
    time linear in the text, whatever is in it."""
    found: list[tuple[int, int]] = []
    opened: list[int] = []  # where the content of each brace begins that is not closed; of those that are no box, -1
    for mark in _BRACES.finditer(text):
        if mark["box"]:
            found += [] if mark["brace"] else [(mark.end(), mark.end() + 1)]
            opened += [mark.end()] if mark["brace"] else []
        elif mark[0] == "{":
            opened.append(-1)
        elif mark[0] == "}" and opened and (start := opened.pop()) >= 0:
            found.append((start, mark.start()))
    yield from (text[start:end] for start, end in sorted(found, reverse=True))


def boxed(text: str) -> str | None:
    """What stands in the last box that is closed; None where there is none."""
    return next(boxes(text), None)


def final(answer: str) -> str | None:
    """The final answer in a text: in its last box; behind its last `####`; behind the last "answer is" or "answer:" up
    to the end of the sentence; or the text itself where it is a single line of at most 100 characters. None where there
    is none of these."""
    if filled := next((box for box in boxes(answer) if box.strip()), None):
        return filled.strip()
    if marked := _MARKED.findall(answer):
        return _trimmed(marked[-1])
    if said := _SENTENCE_END.split(_SAID.split(answer)[-1])[0] if _SAID.search(answer) else "":
        return _trimmed(said)
    text = answer.strip()
    return _trimmed(text) if text and "\n" not in text and len(text) <= 100 else None


def _trimmed(text: str) -> str:
    """Without the marks of Markdown and the full stop around an answer."""
    return text.strip().strip("*").rstrip(".").strip("* ")


def closing(text: str) -> str:
    """What is in the last box, else the last line that says something, without typography around it."""
    inside = boxed(text)
    if inside is None:
        lines = [line for line in text.splitlines() if re.search(r"\w", line)]
        inside = lines[-1] if lines else ""
    return inside.strip().strip("*`$_ ").removesuffix(".").strip("*`$_ ")


def whole_number(text: str) -> int | None:
    """The last box where it is one whole number (leading zeros and `1,234` are read), else the last whole number that
    is said; None where there is none."""
    inside = boxed(text)
    found = _WHOLE.findall(one_form(text if inside is None else inside))
    if not found or (inside is not None and len(found) > 1) or len(found[-1]) > LONGEST_WHOLE:
        return None
    return int(found[-1].replace(",", ""))


def expression(text: str) -> str:
    """The arithmetic that a closing line states, in Python's signs: `x = 3 × (2 + 1) = 9` gives `3 * (2 + 1)`. Not
    checked; "" where there is none."""
    line = closing(text).translate(_SIGNS)
    line = _FRACTION.sub(r"((\1)/(\2))", line)
    for written, sign in _TEX:
        line = line.replace(written, sign)
    sides = [side.split(":")[-1].strip(" $`*.") for side in line.split("=")]
    return next((side for side in reversed(sides) if re.search(r"\d\s*\)*\s*[-+*/]", side)), "")
