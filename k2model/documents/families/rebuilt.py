"""Items of a family made again from what somebody was asked, so that whatever was answered can be checked.

A prompt is read for the problem alone: `What is 4-1+4?` and `Compute 4-1+4=` are one sum. The answer is found by the
family's own solver, or, of puzzles, by trying all assignments. Families whose items cannot be told from a prompt (the
facts and look-ups of which several wordings are held out, lines of code, contexts with keys) are not here.
"""

import re
from collections.abc import Callable

from k2model.documents.families import arithmetic, spelling
from k2model.documents.families.knights import ASSIGNMENTS, NAMES
from k2model.documents.schema import Item, make_item
from k2model.errors import CorpusError, nearest

_SUM = re.compile(r"(?<![\w.+\-*/])[1-9](?:[+-][1-9])+(?![\w.+\-*/])")
_WORD = re.compile(r"[Rr]everse (?:the word )?['\"]?([a-z]{2,})\b")
_COUNTDOWN = re.compile(r"(\d+(?: \d+)+) to (-?\d+)\b")
_PUZZLE = re.compile(r"A:([AB!&|>=()]+);B:([AB!&|>=()]+)")


def rebuilt(family: str, prompt: str) -> Item | None:
    """The item that a prompt asks; None where it asks none, or several.

    Raises CorpusError naming the families there are for one whose items cannot be told from a prompt.
    """
    if family not in REBUILT:
        raise CorpusError(
            f"answers cannot be checked against '{family}': its items are not told from a prompt; "
            f"{nearest(family, [*REBUILT])}. Name one of these as the batch's verifier, or none"
        )
    return REBUILT[family](prompt)


def _arithmetic(prompt: str) -> Item | None:
    found = _SUM.findall(prompt)
    if len(found) != 1:
        return None
    task = arithmetic.solve(found[0])
    return make_item("arithmetic", task.key, task.prompt, task.answer)


def _spelling(prompt: str) -> Item | None:
    found = _WORD.findall(prompt)
    if len(found) != 1:
        return None
    task = spelling.solve(found[0])
    return make_item("spelling", task.key, task.prompt, task.answer)


def _countdown(prompt: str) -> Item | None:
    """Any expression that makes the target is right, so there is no answer to give."""
    found = _COUNTDOWN.findall(prompt)
    if len(found) != 1:
        return None
    numbers, target = found[0]
    key = f"{' '.join(sorted(numbers.split(), key=int))} to {target}"
    return make_item("countdown", key, f"Countdown {numbers} to {target}:", "")


def _knights(prompt: str) -> Item | None:
    found = _PUZZLE.findall(prompt)
    if len(found) != 1:
        return None
    try:
        fitting = [
            one for one in ASSIGNMENTS
            if "".join(f"{_Formula(said, one).value():d}" for said in found[0]) == one
        ]  # fmt: skip
    except ValueError:
        return None
    formula = ";".join(f"{name}:{said}" for name, said in zip(NAMES, found[0], strict=True))
    return make_item("knights", formula, f"Knights {formula}?", fitting[0]) if len(fitting) == 1 else None


class _Formula:
    """A statement of `knights` under an assignment, read from left to right. Compound parts stand in brackets, so that
    no operator binds closer than another, but for `!`."""

    def __init__(self, text: str, assumed: str):
        self.text, self.at = text, 0
        self.truth = dict(zip(NAMES, (one == "1" for one in assumed), strict=True))

    def value(self) -> bool:
        """Raises ValueError for what is no statement."""
        found = self._joined()
        if self.at != len(self.text):
            raise ValueError(f"'{self.text[self.at :]}' is left of {self.text}")
        return found

    def _joined(self) -> bool:
        found = self._single()
        while self.at < len(self.text) and self.text[self.at] in "&|>=":
            operator = self._next()
            other = self._single()
            found = {"&": found and other, "|": found or other, ">": not found or other, "=": found == other}[operator]
        return found

    def _single(self) -> bool:
        sign = self._next()
        if sign == "!":
            return not self._single()
        if sign != "(":
            if sign not in self.truth:
                raise ValueError(f"'{sign}' is nobody of {self.text}")
            return self.truth[sign]
        found = self._joined()
        if self._next() != ")":
            raise ValueError(f"a bracket of {self.text} is not closed")
        return found

    def _next(self) -> str:
        if self.at >= len(self.text):
            raise ValueError(f"{self.text} ends too soon")
        self.at += 1
        return self.text[self.at - 1]


REBUILT: dict[str, Callable[[str], Item | None]] = {
    "arithmetic": _arithmetic,
    "spelling": _spelling,
    "countdown": _countdown,
    "knights": _knights,
}
