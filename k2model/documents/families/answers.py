"""Where an answer stands in what a model says at the end: in a box, on the last line, as the last whole number.

A model that was told to close with one line mostly does, with some typography around it. What is read here is the last
of what could be meant, never the first: what comes before it is how the model got there.
"""

import re
from collections.abc import Iterator

_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "∕": "/"})
_TEX = (("\\times", "*"), ("\\cdot", "*"), ("\\div", "/"), ("\\left", ""), ("\\right", ""), ("\\,", ""))
_FRACTION = re.compile(r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|(?=[^\s{]))")
_WHOLE = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?![\w]|\.\d)")


def boxes(text: str) -> Iterator[str]:
    """What stands in each box, braces in it balanced; a box that is not closed is none."""
    for start in _BOX.finditer(text):
        if not start[0].endswith("{"):
            yield text[start.end()]
            continue
        depth, place = 1, start.end()
        while place < len(text) and depth:
            if text[place] == "\\":
                place += 1  # \{ and \} are no braces of a box
            else:
                depth += {"{": 1, "}": -1}.get(text[place], 0)
            place += 1
        if not depth:
            yield text[start.end() : place - 1]


def boxed(text: str) -> str | None:
    """What stands in the last box that is closed; None where there is none."""
    *_, last = (None, *boxes(text))
    return last


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
    found = _WHOLE.findall(text if inside is None else inside)
    if not found or (inside is not None and len(found) > 1):
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
