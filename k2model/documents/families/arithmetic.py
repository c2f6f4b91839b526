"""Chain sums of two to four one-digit terms: `Compute 4-1+4-8=`.

The trace adds one term at a time: `4-1=3;3+4=7;7-8=-1`. At medium effort the running result is not
repeated: `4-1=3+4=7-8=-1`. The trace of a sum begins with the whole trace of every shorter sum it
begins with, so no trained sum begins with a held-out one.
"""

import itertools
from collections.abc import Sequence
from random import Random

from k2model.documents.families.task import Task
from k2model.documents.schema import Item

ORIGIN, LICENCE = "k2model chain sums", "Apache-2.0"
MAX_POOL = 25_000


def pool(rng: Random, size: int) -> list[Task]:
    """Up to `size` distinct sums (at most `MAX_POOL`): all short ones, the rest of four terms."""
    size = min(size, MAX_POOL)
    short = [_random_form(rng, terms, size // 4) for terms in (2, 3)]
    expressions = [expression for forms in short for expression in forms]
    expressions += _random_form(rng, 4, size - len(expressions))
    rng.shuffle(expressions)
    return [solve(expression) for expression in expressions]


def solve(expression: str) -> Task:
    """The task of `expression`, e.g. `4-1+4-8`, with its worked steps."""
    value = int(expression[0])
    steps, running = [], expression[0]
    for operator, digit in zip(expression[1::2], expression[2::2], strict=True):
        result = value + int(digit) if operator == "+" else value - int(digit)
        steps.append(f"{value}{operator}{digit}={result}")
        running += f"{operator}{digit}={result}"
        value = result
    beginnings = tuple(expression[:end] for end in range(3, len(expression), 2))
    return Task(expression, f"Compute {expression}=", str(value), ";".join(steps), running, reveals=beginnings)


def check(item: Item, answer: str) -> bool:
    return answer.strip() == item["answer"]


def _random_form(rng: Random, terms: int, count: int) -> list[str]:
    """`count` distinct sums of `terms` terms, or all there are when they are fewer."""
    possible = 9**terms * 2 ** (terms - 1)
    if possible <= count:
        digits = list(itertools.product("123456789", repeat=terms))
        return [_join(d, o) for o in itertools.product("+-", repeat=terms - 1) for d in digits]
    found: dict[str, None] = {}
    while len(found) < count:
        found[_join(rng.choices("123456789", k=terms), rng.choices("+-", k=terms - 1))] = None
    return list(found)


def _join(digits: Sequence[str], operators: Sequence[str]) -> str:
    return digits[0] + "".join(o + d for o, d in zip(operators, digits[1:], strict=True))
