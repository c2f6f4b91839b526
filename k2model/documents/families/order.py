"""Who stands where? Four to eight people, runners or books in a row, told by clues that compare them.

A row is drawn, then clues that are true of it, one by one until no other row fits, and then those that are not needed
go again: what is left has exactly one solution, and none with a clue less. That is found by holding every clue against
every order there is, 40,320 of eight.
"""

import itertools
import json
import math
import re
from collections.abc import Mapping
from functools import cache
from random import Random
from typing import NamedTuple

import numpy as np

from k2model.documents.answers.extraction import closing
from k2model.documents.families.generated import Puzzle
from k2model.documents.families.knights_people import PEOPLE
from k2model.documents.schema import Item

ORIGIN, LICENCE = "k2model order puzzles", "Apache-2.0"
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "grey", "brown", "orange", "violet", "pink", "silver")

Clue = tuple[str, int, int, int]  # kind, one, the other (or -1), number


class Theme(NamedTuple):
    """What a row is made of, what is asked, and how each kind of clue is put."""

    names: tuple[str, ...]
    opening: str
    asked: str
    clues: Mapping[str, str]


THEMES = (
    Theme(
        PEOPLE,
        "{n} people, {names}, wait in one line.",
        "Name them from the front of the line to its end",
        {
            "before": "{a} waits somewhere in front of {b}.",
            "directly": "{a} waits directly in front of {b}.",
            "beside": "{a} and {b} wait directly behind one another, in whichever order.",
            "between": "Exactly {k} of the others wait{s} between {a} and {b}.",
            "not": "{a} is not the {nth} in the line.",
            "end": "{a} is the first or the last in the line.",
        },
    ),
    Theme(
        PEOPLE,
        "{n} runners, {names}, finish a race one after another.",
        "Name them from the winner to the last",
        {
            "before": "{a} finishes earlier than {b}.",
            "directly": "{b} is the next to finish after {a}.",
            "beside": "Nobody finishes between {a} and {b}.",
            "between": "Exactly {k} of the others finish{es} between {a} and {b}.",
            "not": "{a} does not finish {nth}.",
            "end": "{a} finishes first or last.",
        },
    ),
    Theme(
        COLOURS,
        "{n} books stand on a shelf, and each has another colour: {names}.",
        "Name the colours from left to right",
        {
            "before": "The {a} book stands somewhere to the left of the {b} one.",
            "directly": "The {a} book stands directly to the left of the {b} one.",
            "beside": "The {a} book and the {b} one stand side by side.",
            "between": "Exactly {k} of the other books stand{s} between the {a} one and the {b} one.",
            "not": "The {a} book is not the {nth} from the left.",
            "end": "The {a} book stands at one of the two ends.",
        },
    ),
)


def draw(rng: Random, level: int) -> Puzzle:
    """A puzzle of `level` things in a row. They are numbered by their place in the only row that fits."""
    clues = _needed(rng, level)
    theme = rng.choice(THEMES)
    names = rng.sample(theme.names, level)
    listed = rng.sample(names, level)
    told = "\n".join(_words(rng, theme, names, clue) for clue in rng.sample(clues, len(clues)))
    opening = theme.opening.format(n=level, names=f"{', '.join(listed[:-1])} and {listed[-1]}")
    prompt = (
        f"{opening}\n{told}\n{theme.asked}. Close with one line that holds nothing but the {level} names, in that "
        "order and separated by commas.\n"
    )
    key = f"order {level} " + ";".join("{} {} {} {}".format(*clue) for clue in sorted(clues))
    return Puzzle(key, prompt, ", ".join(names), 1 / math.factorial(level), meta={"names": names})


def check(item: Item, answer: str) -> bool:
    """Whether the closing line has every name once, in the right order; words between them do not count."""
    names: list[str] = json.loads(item["meta"])["names"]
    found = re.findall("|".join(rf"\b{name}\b" for name in names), closing(answer), re.IGNORECASE)
    return [name.lower() for name in found] == [name.lower() for name in names]


@cache
def orders(size: int) -> np.ndarray:
    """[size!, size] int8: the place of each thing in every order there is; the first is the right one."""
    return np.array(list(itertools.permutations(range(size))), dtype=np.int8)


@cache
def true_clues(size: int) -> tuple[tuple[Clue, np.ndarray], ...]:
    """Every clue that is true where thing i stands at place i, with the orders [size!] that it allows."""
    places = orders(size)
    found: list[tuple[Clue, np.ndarray]] = []
    for a, b in itertools.combinations(range(size), 2):
        distance = np.abs(places[:, a] - places[:, b])
        found.append((("before", a, b, 0), places[:, a] < places[:, b]))
        if b - a == 1:
            found.append((("directly", a, b, 0), places[:, b] - places[:, a] == 1))
            found.append((("beside", a, b, 0), distance == 1))
        else:
            found.append((("between", a, b, b - a - 1), distance == b - a))
    for a in range(size):
        found += [(("not", a, -1, place), places[:, a] != place) for place in range(size) if place != a]
        if a in (0, size - 1):
            found.append((("end", a, -1, 0), (places[:, a] == 0) | (places[:, a] == size - 1)))
    return tuple(found)


def _needed(rng: Random, size: int) -> list[Clue]:
    """Clues that only the right order fits, none of which can be spared."""
    known = true_clues(size)
    taken: list[tuple[Clue, np.ndarray]] = []
    left = np.ones(math.factorial(size), dtype=bool)
    for clue, allowed in rng.sample(known, len(known)):
        if not allowed[left].all():  # it tells something that is not told yet
            taken.append((clue, allowed))
            left &= allowed
        if left.sum() == 1:
            break
    for one in list(taken):
        others = [allowed for clue, allowed in taken if clue != one[0]]
        if others and np.logical_and.reduce(others).sum() == 1:
            taken = [other for other in taken if other[0] != one[0]]
    return [clue for clue, _ in taken]


def _words(rng: Random, theme: Theme, names: list[str], clue: Clue) -> str:
    kind, a, b, number = clue
    one, other = names[a], names[b] if b >= 0 else ""
    if kind in ("beside", "between") and rng.random() < 0.5:  # which of the two is named first tells nothing
        one, other = other, one
    said = theme.clues[kind].format(
        a=one, b=other, k=number, nth=ORDINALS[number], s="s" if number == 1 else "", es="es" if number == 1 else ""
    )
    return said[0].upper() + said[1:]
