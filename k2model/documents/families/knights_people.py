"""Knights and Knaves of two to eight people, told in words: `Ada says: "Ben is a knave or Cleo is a knight."`

Statements are drawn as those of the K&K benchmark (Xie et al. 2024) are, by the same sampler (reasoning-gym's) at the
same depth and width, 2 and 2, and kept when one assignment alone fits; that is found here over all of them at once, a
bit for each. Two people have too few such puzzles to hold some out, so theirs are as deep as those of the trained
family `knights`, whose key and split they share. Wording, names and the form of the answer are ours: K2's published
KK-8 was asked in words and with sampling that are not published.
"""

import json
import re
from functools import lru_cache, partial
from random import Random
from typing import Any

from k2model.documents.families.generated import Puzzle
from k2model.documents.families.knights import DIFFICULTIES, Dice, Statement, key_of
from k2model.documents.families.task import gym_module
from k2model.documents.schema import Item

ORIGIN, LICENCE = "reasoning-gym knights_knaves", "Apache-2.0"
DEPTH, WIDTH = 2, 2
PEOPLE = (
    "Ada", "Ben", "Cleo", "Dan", "Edith", "Finn", "Greta", "Hugo", "Iris", "Jonas", "Kira", "Leo", "Mona", "Nils",
    "Olga", "Paul", "Rosa", "Sam", "Tess", "Udo", "Vera", "Walt",
)  # fmt: skip
KINDS = ("knave", "knight")
_JOINTS = {"and": " and ", "or": " or ", "<=>": " if and only if "}


def draw(rng: Random, level: int) -> Puzzle | None:
    """A puzzle of `level` people; None where the statements drawn have no solution, or several."""
    depth, width = (DEPTH, WIDTH) if level > 2 else rng.choice(DIFFICULTIES)
    statements = _sampler(level, depth, width)(rng)
    fitting = solutions(statements)
    if len(fitting) != 1:
        return None
    names = rng.sample(PEOPLE, level)
    verdicts = [KINDS[truthful] for truthful in fitting[0]]
    answer = ", ".join(f"{name}: {kind}" for name, kind in zip(names, verdicts, strict=True))
    meta = {"people": dict(zip(names, verdicts, strict=True))}
    return Puzzle(key_of(statements), _told(names, statements), answer, 0.5**level, meta=meta)


def solutions(statements: tuple[Statement, ...]) -> list[tuple[int, ...]]:
    """Every assignment (1 = knight) under which each statement is as true as its speaker is truthful.

    An assignment is a bit of a number of 2^people bits, so that a statement's truth under all of them is one number.
    """
    people = len(statements)
    every = (1 << (1 << people)) - 1
    knights = [sum(1 << a for a in range(1 << people) if a >> person & 1) for person in range(people)]
    fitting = every
    for person, statement in enumerate(statements):
        fitting &= ~(knights[person] ^ _truth(statement, knights, every))
    return [
        tuple(assignment >> person & 1 for person in range(people))
        for assignment in range(1 << people)
        if fitting >> assignment & 1
    ]


def check(item: Item, answer: str) -> bool:
    """Whether the last that is said of each person is right: `Ada: knight`, `Ada is a knight`, `**Ada** - a knight`."""
    people: dict[str, str] = json.loads(item["meta"])["people"]
    return all(_verdict(name, answer) == kind for name, kind in people.items())


def _verdict(name: str, answer: str) -> str | None:
    said = re.findall(
        rf"\b{name}\b[\s*_`\"']*(?:is|[:=-])?[\s*_`\"']*(?:an?\s+)?[*_`\"']*(knight|knave)\b", answer, re.I
    )
    return said[-1].lower() if said else None


@lru_cache(maxsize=16)
def _sampler(people: int, depth: int, width: int) -> Any:
    sampler = gym_module("logic.knights_knaves").KKProblemSampler(0, people, depth, width)

    def sample(sampler: Any, rng: Random) -> tuple[Statement, ...]:
        sampler.rng = Dice(rng)
        statements: tuple[Statement, ...] = sampler.sample()
        return statements

    return partial(sample, sampler)


def _truth(statement: Statement, knights: list[int], every: int) -> int:
    kind, *parts = statement
    if kind in ("telling-truth", "lying"):
        return knights[parts[0]] if kind == "telling-truth" else every & ~knights[parts[0]]
    first, *others = (_truth(part, knights, every) for part in parts)
    match kind:
        case "not":
            return every & ~first
        case "->":
            return every & (~first | others[0])
        case "<=>":
            return every & ~(first ^ others[0])
    for other in others:
        first = first & other if kind == "and" else first | other
    return first


def _told(names: list[str], statements: tuple[Statement, ...]) -> str:
    spoken = [_words(statement, names) for statement in statements]
    said = "\n".join(f'{name} says: "{s[0].upper()}{s[1:]}."' for name, s in zip(names, spoken, strict=True))
    return (
        "On an island live knights, who say nothing but the truth, and knaves, who say nothing that is true. You meet "
        f"{len(names)} of its people, {', '.join(names[:-1])} and {names[-1]}.\n{said}\n"
        "Here \"or\" includes both, and \"if ..., then ...\" is false only where the first part is true and the second "
        "is not. Who is a knight, and who is a knave? Close with one line that names each of them, as in "
        '"Xenia: knight, Yves: knave".\n'
    )  # fmt: skip


def _words(statement: Statement, names: list[str]) -> str:
    kind, *parts = statement
    if kind in ("telling-truth", "lying"):
        return f"{names[parts[0]]} is a {KINDS[kind == 'telling-truth']}"
    written = [_words(part, names) for part in parts]
    if kind == "not":
        return f"it is not true that {_apart(parts[0], written[0])}"
    apart = [_apart(part, text) for part, text in zip(parts, written, strict=True)]
    return f"if {apart[0]}, then {apart[1]}" if kind == "->" else _JOINTS[kind].join(apart)


def _apart(part: Statement, text: str) -> str:
    """A part of a statement, in brackets where it has parts itself."""
    return text if part[0] in ("telling-truth", "lying") else f"({text})"
