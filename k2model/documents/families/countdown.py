"""Countdown with three digits: `Countdown 3 2 5 to 6:` is answered `(3-2)+5`.

The trace is a systematic search. For each pair of numbers in order and each of + - *, one line:
the first operation, the number left over, then what it and the left-over number can make: sum,
difference, and product while the first result is at most 9. It stops at the target:
`3+2=5,5:10 0 25;3-2=1,5:6`. Differences are taken larger minus smaller. Medium effort keeps the
last line of the search alone. The lines of a search do not depend on the target, so it is the three
numbers that are held out, in any order and with any target.
"""

import ast
import itertools
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from random import Random

from k2model.documents.families.task import Task
from k2model.documents.schema import Item

ORIGIN, LICENCE = "k2model countdown", "Apache-2.0"
PAIRS = ((0, 1, 2), (0, 2, 1), (1, 2, 0))  # the two numbers joined first, and the one left over
MAX_TRACE = 90  # characters; so that a chat document fits 128 tokens
_MAX_ANSWER = 40  # characters; no honest answer is longer

Line = tuple[str, list[tuple[int, str]]]  # text up to the colon, [(value, expression)]


def pool(rng: Random, size: int) -> list[Task]:
    """Up to `size` distinct tasks over the digits 1 to 9 in random order; their targets are positive."""
    tasks = [
        task
        for numbers in itertools.product(range(1, 10), repeat=3)
        for target in sorted({value for _, results in _lines(numbers) for value, _ in results if value > 0})
        if (task := solve(numbers, target)) is not None and len(task.high) <= MAX_TRACE
    ]
    rng.shuffle(tasks)
    return tasks[:size]


def solve(numbers: tuple[int, ...], target: int) -> Task | None:
    """The task with its search; None when the search does not find `target`."""
    written = []
    for opening, results in _lines(numbers):
        values = [value for value, _ in results]
        stop = values.index(target) + 1 if target in values else len(values)
        written.append(opening + " ".join(map(str, values[:stop])))
        if target in values:
            sorted_numbers = " ".join(map(str, sorted(numbers)))
            prompt = f"Countdown {' '.join(map(str, numbers))} to {target}:"
            trace = ";".join(written)
            group = f"Countdown {sorted_numbers}"
            return Task(f"{sorted_numbers} to {target}", prompt, results[stop - 1][1], trace, written[-1], group)
    return None


def check(item: Item, answer: str) -> bool:
    """Whether `answer` is an expression of + - * over each given number once that makes the target."""
    *numbers, target = (int(word) for word in item["key"].replace("to", "").split())
    try:
        value, used = evaluate(answer.strip())
    except (ValueError, SyntaxError):
        return False
    return value == target and Counter(used) == Counter(numbers)


def evaluate(expression: str, operators: str = "+-*", longest: int = _MAX_ANSWER) -> tuple[Fraction, list[int]]:
    """Exact value and numbers of an expression of non-negative integers, `operators` and brackets.

    Raises ValueError or SyntaxError for anything else, and for one of more than `longest` characters;
    ZeroDivisionError.
    """
    if len(expression) > longest or not set(expression) <= set(f"0123456789() {operators}"):
        raise ValueError(f"not an expression of numbers, {' '.join(operators)} and brackets")
    used: list[int] = []
    return _value(ast.parse(expression, mode="eval").body, used), used


def _value(node: ast.expr, used: list[int]) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        used.append(node.value)
        return Fraction(node.value)
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, used), _value(node.right, used)
        match node.op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case ast.Div():
                return left / right
    raise ValueError("only + - * / of whole numbers are understood")


def _lines(numbers: tuple[int, ...]) -> Iterator[Line]:
    """The whole search; products of a first result of two digits are left out."""
    for first, second, left in PAIRS:
        a, b, rest = numbers[first], numbers[second], numbers[left]
        for operator in "+-*":
            x, y = (max(a, b), min(a, b)) if operator == "-" else (a, b)
            value = {"+": x + y, "-": x - y, "*": x * y}[operator]
            inner = f"({x}{operator}{y})"
            difference = f"{inner}-{rest}" if value >= rest else f"{rest}-{inner}"
            results = [(value + rest, f"{inner}+{rest}"), (abs(value - rest), difference)]
            if value <= 9:
                results.append((value * rest, f"{inner}*{rest}"))
            yield f"{x}{operator}{y}={value},{rest}:", results
