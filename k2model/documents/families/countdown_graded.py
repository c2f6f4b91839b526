"""Countdown at three levels of difficulty, told in words: every number once, + - * / and brackets, to make a target.

A level says how many numbers there are, how large they and the target may be, and which operations there are. A target
is what a random way of joining the numbers gives, so that there is an answer: the way itself, which is checked as any
answer is. Many answers may be right: an answer is judged by its exact value and the numbers in it. The three digits of
`easy` are the trained family's, which it shares its split with: they are held out in any order, with any target.
"""

import json
from collections import Counter
from random import Random
from typing import NamedTuple

from k2model.documents.answers.extraction import expression
from k2model.documents.families.countdown import evaluate
from k2model.documents.families.generated import Puzzle
from k2model.documents.schema import Item

ORIGIN, LICENCE = "k2model countdown", "Apache-2.0"
LONGEST = 200  # characters of an answer; six numbers in as many brackets as one likes take half of it
LARGEST_STEP = 5_000  # of a result on the way to the target


class Level(NamedTuple):
    small: int  # numbers from 1 to `largest`
    largest: int
    large: int  # numbers of 25, 50, 75, 100, as in the television programme
    operators: str
    targets: tuple[int, int]


LEVELS = {
    "easy": Level(3, 9, 0, "+-*", (1, 100)),
    "medium": Level(4, 20, 0, "+-*/", (10, 99)),
    "hard": Level(4, 10, 2, "+-*/", (100, 999)),
}


def draw(rng: Random, level: str) -> Puzzle | None:
    """A puzzle of that level; None where a random way of joining the numbers gives no target."""
    rules = LEVELS[level]
    numbers = [rng.randint(1, rules.largest) for _ in range(rules.small)] + rng.sample((25, 50, 75, 100), rules.large)
    rng.shuffle(numbers)
    made = _joined(rng, numbers, rules.operators)
    if made is None or not rules.targets[0] <= made[0] <= rules.targets[1] or made[0] in numbers:
        return None
    target, answer = made
    ordered = " ".join(map(str, sorted(numbers)))
    signs = [*rules.operators[:-1]]
    prompt = (
        f"Use each of the numbers {', '.join(map(str, numbers[:-1]))} and {numbers[-1]} exactly once, with "
        f"{', '.join(signs)} and {rules.operators[-1]} and with brackets as you like, to make {target}. Close with one "
        "line that holds the expression alone.\n"
    )
    meta = {"numbers": numbers, "target": target, "operators": rules.operators}
    return Puzzle(f"{ordered} to {target}", prompt, answer, group=f"Countdown {ordered}", meta=meta)


def check(item: Item, answer: str) -> bool:
    """Whether the closing line states an expression over each number once that makes the target."""
    meta = json.loads(item["meta"])
    try:
        value, used = evaluate(expression(answer), meta["operators"], LONGEST)
    except (ValueError, SyntaxError, ZeroDivisionError, RecursionError, MemoryError):
        return False
    return value == meta["target"] and Counter(used) == Counter(meta["numbers"])


def _joined(rng: Random, numbers: list[int], operators: str) -> tuple[int, str] | None:
    """(Value, expression) of two numbers joined at a time until one is left; None where a step leads nowhere."""
    left = [(number, str(number)) for number in numbers]
    while len(left) > 1:
        (a, a_text), (b, b_text) = (left.pop(rng.randrange(len(left))) for _ in range(2))
        operator = rng.choice(operators)
        if operator in "-/" and a < b:
            (a, a_text), (b, b_text) = (b, b_text), (a, a_text)
        if (operator == "-" and a == b) or (operator == "*" and 1 in (a, b)) or (operator == "/" and (b == 1 or a % b)):
            return None
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[operator]
        if value > LARGEST_STEP:
            return None
        left.append((value, f"({a_text}{operator}{b_text})" if left else f"{a_text}{operator}{b_text}"))
    return left[0]
