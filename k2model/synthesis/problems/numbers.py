"""Worked solutions of reasoning-gym's number tasks.

Each solver reads the task's metadata and works the answer out by itself, by the schoolbook method, one line a
step; it never looks at the reference answer.
"""

import math
from collections.abc import Mapping
from typing import Any

from k2model.documents.families.task import gym_module
from k2model.synthesis.problems.problem import Solution

Metadata = Mapping[str, Any]
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def gcd(metadata: Metadata, _: str) -> Solution:
    a, b = sorted(metadata["numbers"], reverse=True)
    steps, remainders = _euclid(a, b)
    result = remainders[-1]
    check = f"{a} = {result} * {a // result} and {b} = {result} * {b // result}, which share no further factor."
    method = "Divide the larger number by the smaller, keep the remainder, and repeat until it is zero."
    return Solution(
        (*steps, f"The last remainder that is not zero is {result}."),
        ", ".join(map(str, [a, b, *remainders])),
        str(result),
        check,
        method,
    )


def lcm(metadata: Metadata, _: str) -> Solution:
    a, b = sorted(metadata["numbers"], reverse=True)
    steps, remainders = _euclid(a, b)
    shared = remainders[-1]
    result = a // shared * b
    steps += [
        f"The greatest common divisor is {shared}.",
        f"{a} / {shared} = {a // shared}",
        f"{a // shared} * {b} = {result}",
    ]
    check = f"{result} = {a} * {result // a} = {b} * {result // b}."
    method = "Find the greatest common divisor, divide one number by it, and multiply by the other."
    return Solution(tuple(steps), f"{a} * {b} / {shared} = {result}", str(result), check, method)


def prime_factorization(metadata: Metadata, _: str) -> Solution:
    number = rest = metadata["number"]
    steps, factors, candidate = [], [], 2
    while candidate * candidate <= rest:
        if rest % candidate:
            steps.append(f"{candidate} does not divide {rest}.")
            candidate += 1 if candidate == 2 else 2
        else:
            steps.append(f"{rest} = {candidate} * {rest // candidate}")
            factors.append(candidate)
            rest //= candidate
    steps.append(f"No smaller number divides {rest}, so it is prime.")
    factors.append(rest)
    answer = " × ".join(map(str, factors))
    brief = "; ".join(step for step in steps if "=" in step) or f"{number} is prime."
    check = f"{' * '.join(map(str, factors))} = {math.prod(factors)}."
    return Solution(
        tuple(steps), brief, answer, check, "Try prime divisors from 2 up and divide by each as often as it goes."
    )


def fraction_simplification(metadata: Metadata, _: str) -> Solution:
    top, bottom = metadata["numerator"], metadata["denominator"]
    steps, remainders = _euclid(max(top, bottom), min(top, bottom))
    shared = remainders[-1]
    steps += [
        f"The greatest common divisor of {top} and {bottom} is {shared}.",
        f"{top} / {shared} = {top // shared}",
        f"{bottom} / {shared} = {bottom // shared}",
    ]
    answer = f"{top // shared}/{bottom // shared}"
    written = {"latex_inline": f"${answer}$", "plain": answer}.get(
        metadata["style"], f"$\\{metadata['style'].removeprefix('latex_')}{{{top // shared}}}{{{bottom // shared}}}$"
    )
    check = f"{top // shared} * {bottom} = {bottom // shared} * {top} = {top // shared * bottom}."
    brief = f"Both are multiples of {shared}: {top // shared} and {bottom // shared}."
    return Solution(
        tuple(steps), brief, written, check, "Find the greatest common divisor and divide both parts by it."
    )


def base_conversion(metadata: Metadata, _: str) -> Solution:
    source, target, text = metadata["source_base"], metadata["target_base"], metadata["source_repr"]
    steps, value = [], 0
    for digit in text:
        found = value * source + _DIGITS.index(digit)
        steps.append(f"{value} * {source} + {_DIGITS.index(digit)} = {found}")
        value = found
    rest, written = value, ""
    while rest >= target:
        steps.append(f"{rest} = {target} * {rest // target} + {rest % target}, digit {_DIGITS[rest % target]}")
        written = _DIGITS[rest % target] + written
        rest //= target
    written = _DIGITS[rest] + written
    steps.append(f"{rest} is the first digit, {_DIGITS[rest]}.")
    check = f"Read in base {target}, {written} is {int(written, target)}, which is {text} in base {source}."
    brief = f"{text} in base {source} is {value}."
    method = "Turn the number into base ten digit by digit, then divide by the target base and read the remainders."
    return Solution(tuple(steps), brief, written, check, method)


def chain_sum(metadata: Metadata, _: str) -> Solution:
    first, *rest = metadata["expression"].split()
    value, steps = int(first), []
    for operator, term in zip(rest[::2], rest[1::2], strict=True):
        result = value + int(term) if operator == "+" else value - int(term)
        steps.append(f"{value} {operator} {term} = {result}")
        value = result
    positive = int(first) + sum(int(t) for o, t in zip(rest[::2], rest[1::2], strict=True) if o == "+")
    check = f"All that is added makes {positive}, all that is taken away {positive - value}: {value} is left."
    brief = ", ".join(step.rsplit(" ", 1)[1] for step in steps)
    return Solution(tuple(steps), brief, str(value), check, "Work from left to right, one term at a time.")


def products(metadata: Metadata, _: str) -> Solution:
    left, right = (int(number) for number in metadata["expression"].split(" * "))
    steps, parts = [], []
    for place, digit in enumerate(reversed(str(right))):
        parts.append(left * int(digit) * 10**place)
        steps.append(f"{left} * {int(digit) * 10**place} = {parts[-1]}")
    total = parts[0]
    for part in parts[1:]:
        steps.append(f"{total} + {part} = {total + part}")
        total += part
    ending = (left % 10) * (right % 10)
    check = f"The last digits {left % 10} and {right % 10} make {ending}, and {total} ends with {ending % 10}."
    brief = f"{' + '.join(map(str, parts))} = {total}"
    method = "Multiply by each digit of the second number with its place value, then add the parts."
    return Solution(tuple(steps), brief, str(total), check, method)


def count_bits(metadata: Metadata, _: str) -> Solution:
    number = rest = metadata["number"]
    steps, counts = [], []
    while rest:
        nibble = rest % 16
        counts.append(nibble.bit_count())
        steps.append(f"{rest} = 16 * {rest // 16} + {nibble}; {nibble} is {nibble:04b}, with {counts[-1]} ones.")
        rest //= 16
    total = sum(counts)
    steps.append(f"{' + '.join(map(str, counts))} = {total}")
    check = f"{number} is {number:b} in binary, which has {f'{number:b}'.count('0')} zeros and {total} ones."
    method = "Divide by 16 again and again, write each remainder with four bits, and count the ones."
    return Solution(tuple(steps), f"{number:b}", str(total), check, method)


def leg_counting(metadata: Metadata, _: str) -> Solution:
    legs = gym_module("arithmetic.leg_counting").ANIMALS
    steps, parts = [], []
    for animal, count in metadata["animals"].items():
        parts.append(count * legs[animal])
        steps.append(f"{animal}: {count} * {legs[animal]} = {parts[-1]}")
    total = sum(parts)
    brief = " + ".join(map(str, parts)) + f" = {total}"
    check = f"Added from the end, {' + '.join(map(str, reversed(parts)))} is {total} as well."
    method = "Write down the legs of each kind of animal, multiply by its number, and add."
    return Solution((*steps, brief), brief, str(total), check, method)


def complex_arithmetic(metadata: Metadata, _: str) -> Solution:
    (a, b), (c, d), operation = metadata["num1"], metadata["num2"], metadata["operation"]
    if operation == "*":
        real, imaginary = a * c - b * d, a * d + b * c
        steps = [
            f"real: {a} * {c} - {b} * {d} = {a * c} - {b * d} = {real}",
            f"imaginary: {a} * {d} + {b} * {c} = {a * d} + {b * c} = {imaginary}",
        ]
    else:
        sign = 1 if operation == "+" else -1
        real, imaginary = a + sign * c, b + sign * d
        steps = [f"real: {a} {operation} {c} = {real}", f"imaginary: {b} {operation} {d} = {imaginary}"]
    answer = f"{real} {'-' if imaginary < 0 else '+'} {abs(imaginary)}i"
    method = "Treat the real and the imaginary part by themselves, with i * i = -1."
    check = f"The result has the real part {real} and the imaginary part {imaginary}, each from its own line."
    return Solution(tuple(steps), f"{real}, {imaginary}i", answer, check, method)


def number_filtering(metadata: Metadata, _: str) -> Solution:
    threshold, operation = metadata["filter_value"], metadata["operation"]
    larger, keep = operation.endswith("larger"), operation.startswith("keep")
    steps, kept = [], []
    for number in metadata["original_numbers"]:
        beyond = float(number) > float(threshold) if larger else float(number) < float(threshold)
        stays = beyond == keep
        relation = ">" if float(number) > float(threshold) else "<" if float(number) < float(threshold) else "="
        steps.append(f"{number} {relation} {threshold}: {'keep' if stays else 'remove'}")
        kept += [number] * stays
    gone = len(steps) - len(kept)
    check = f"{len(kept)} numbers stay and {gone} go, which makes the {len(steps)} of the list."
    method = "Compare each number with the bound, and keep or remove it as the task says."
    return Solution(tuple(steps), f"{len(kept)} of {len(steps)} stay.", str(kept), check, method)


def _euclid(a: int, b: int) -> tuple[list[str], list[int]]:
    """The divisions with remainder, and the remainders down to the last that is not zero (`b` if there is none)."""
    steps, remainders = [], []
    while a % b:
        steps.append(f"{a} = {a // b} * {b} + {a % b}")
        remainders.append(a % b)
        a, b = b, a % b
    steps.append(f"{a} = {a // b} * {b} + 0")
    return steps, remainders or [b]
