"""Problems in the form of the AIME: number theory, counting, algebra and geometry, each answered by a whole number from
0 to 999.

Fourteen templates of our own, whose numbers are drawn and whose answer a closed formula gives (the tests find each
again by counting, by simulation or in coordinates). A template's problems share their idea, so that it is what clusters
them; they are easier than the later problems of a real AIME, and nobody has published their text.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from random import Random
from typing import NamedTuple

from k2model.documents.answers.extraction import whole_number
from k2model.documents.families.generated import Puzzle
from k2model.documents.schema import Item

ORIGIN, LICENCE = "k2model competition problems", "Apache-2.0"
LARGEST = 999
_REST = "Find the remainder when N is divided by 1000."
_FORM = "The answer is a whole number from 0 to 999. Close with one line that holds it in \\boxed{}.\n"


class Drawn(NamedTuple):
    """values: what was drawn, from which the answer can be found again."""

    values: tuple[int, ...]
    text: str
    answer: int


Template = Callable[[Random], Drawn]


def draw(rng: Random) -> Puzzle | None:
    """A problem of a random template; None where its answer is no whole number from 0 to 999."""
    name = rng.choice([*TEMPLATES])
    values, text, answer = TEMPLATES[name](rng)
    if not 0 <= answer <= LARGEST:
        return None
    key = f"competition {name} {' '.join(map(str, values))}"
    return Puzzle(key, f"{text} {_FORM}", str(answer), 1 / (LARGEST + 1), meta={"cluster": name, "values": values})


def check(item: Item, answer: str) -> bool:
    """Whether what stands in the last box is the number, or else the last whole number that is said."""
    return whole_number(answer) == int(item["answer"])


def said(answer: str) -> str | None:
    """What an answer says, for a vote among several; None where it is no number."""
    number = whole_number(answer)
    return None if number is None else str(number)


def power_sum(rng: Random) -> Drawn:
    a, b = rng.sample(range(2, 30), 2)
    m, n = rng.randint(20, 400), rng.randint(20, 400)
    text = f"Find the remainder when {a}^{m} + {b}^{n} is divided by 1000."
    return Drawn((a, m, b, n), text, (pow(a, m, 1000) + pow(b, n, 1000)) % 1000)


def remainders(rng: Random) -> Drawn:
    moduli = rng.choice([(7, 9, 11), (5, 11, 13), (8, 9, 13), (7, 11, 12), (4, 9, 25), (5, 7, 27)])
    wanted = rng.randrange(1, min(math.prod(moduli), LARGEST + 1))
    rests = [wanted % m for m in moduli]
    product = math.prod(moduli)
    found = sum(r * (product // m) * pow(product // m, -1, m) for r, m in zip(rests, moduli, strict=True)) % product
    told = ", ".join(f"{r} when divided by {m}" for r, m in zip(rests, moduli, strict=True))
    return Drawn((*moduli, *rests), f"Find the least positive integer that leaves the remainders {told}.", found)


def square_divisors(rng: Random) -> Drawn:
    p, q, r = rng.randint(5, 24), rng.randint(3, 14), rng.randint(1, 8)
    text = f"How many positive divisors of 2^{p} * 3^{q} * 5^{r} are perfect squares and multiples of 6?"
    return Drawn((p, q, r), text, (p // 2) * (q // 2) * (r // 2 + 1))


def multiples(rng: Random) -> Drawn:
    a, b, c = rng.sample((2, 3, 4, 5, 6, 7, 9, 10, 11), 3)
    n = rng.randint(500, 2_500)

    def count(*numbers: int) -> int:
        return n // math.lcm(*numbers)

    answer = count(a) + count(b) - count(a, b) - count(a, c) - count(b, c) + count(a, b, c)
    text = f"How many positive integers up to {n} are multiples of {a} or of {b} but not of {c}?"
    return Drawn((a, b, c, n), text, answer)


def lattice_paths(rng: Random) -> Drawn:
    x, y = rng.randint(4, 9), rng.randint(4, 9)
    a, b = rng.randint(1, x - 1), rng.randint(1, y - 1)
    through = math.comb(a + b, a) * math.comb(x - a + y - b, x - a)
    text = (
        f"A path goes from (0, 0) to ({x}, {y}) in steps of one unit to the right or upwards. Let N be the number of "
        f"such paths that do not pass through the point ({a}, {b}). {_REST}"
    )
    return Drawn((x, y, a, b), text, (math.comb(x + y, x) - through) % 1000)


def apart(rng: Random) -> Drawn:
    n, k = rng.randint(12, 40), rng.randint(3, 6)
    text = (
        f"Let N be the number of subsets of {{1, 2, ..., {n}}} that have exactly {k} elements, no two of which are "
        f"consecutive integers. {_REST}"
    )
    return Drawn((n, k), text, math.comb(n - k + 1, k) % 1000)


def bounded_sums(rng: Random) -> Drawn:
    parts, top = rng.randint(3, 5), rng.randint(5, 12)
    total = rng.randint(top, parts * top - 2)
    answer = sum(
        (-1) ** over * math.comb(parts, over) * math.comb(total - over * (top + 1) + parts - 1, parts - 1)
        for over in range(total // (top + 1) + 1)
    )
    text = (
        f"Let N be the number of ways to put {total} identical coins into {parts} different boxes, where a box holds "
        f"at most {top} coins and may stay empty. {_REST}"
    )
    return Drawn((parts, top, total), text, answer % 1000)


def ring_colourings(rng: Random) -> Drawn:
    n, k = rng.randint(5, 40), rng.randint(3, 8)
    text = (
        f"Each of {n} numbered beads on a ring gets one of {k} colours so that neighbouring beads differ. Let N be the "
        f"number of ways to do so. {_REST}"
    )
    return Drawn((n, k), text, ((k - 1) ** n + (-1) ** n * (k - 1)) % 1000)


def recurrence(rng: Random) -> Drawn:
    p, q, first, second, n = (*(rng.randint(1, 6) for _ in range(4)), rng.randint(15, 60))
    matrix, result, power = (p, q, 1, 0), (1, 0, 0, 1), n - 2
    while power:  # by squaring
        if power % 2:
            result = _product(result, matrix)
        matrix, power = _product(matrix, matrix), power // 2
    text = (
        f"A sequence begins with a_1 = {first} and a_2 = {second}, and a_n = {p} a_(n-1) + {q} a_(n-2) for n >= 3. "
        f"Find the remainder when a_{n} is divided by 1000."
    )
    return Drawn((p, q, first, second, n), text, (result[0] * second + result[1] * first) % 1000)


def _product(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, int, int, int]:
    return (
        (a[0] * b[0] + a[1] * b[2]) % 1000, (a[0] * b[1] + a[1] * b[3]) % 1000,
        (a[2] * b[0] + a[3] * b[2]) % 1000, (a[2] * b[1] + a[3] * b[3]) % 1000,
    )  # fmt: skip


def power_of_roots(rng: Random) -> Drawn:
    total, product, n = rng.randint(2, 12), rng.randint(2, 30), rng.randint(3, 12)
    before, now = 2, total
    for _ in range(n - 1):  # Newton's identities
        before, now = now, total * now - product * before
    text = (
        f"Let r and s be the roots, real or complex, of x^2 - {total}x + {product} = 0, and N the absolute value of "
        f"r^{n} + s^{n}. {_REST}"
    )
    return Drawn((total, product, n), text, abs(now) % 1000)


def quadratic(rng: Random) -> Drawn:
    a, b, c = rng.randint(1, 4), rng.randint(-9, 9), rng.randint(-20, 40)
    first, second, third = (a * x * x + b * x + c for x in (1, 2, 3))
    x = rng.randint(7, 14)
    # Newton's forward differences from the three values alone
    answer = first + (x - 1) * (second - first) + (x - 1) * (x - 2) // 2 * (third - 2 * second + first)
    text = f"A quadratic polynomial P has P(1) = {first}, P(2) = {second} and P(3) = {third}. Find P({x})."
    return Drawn((first, second, third, x), text, answer)


def telescope(rng: Random) -> Drawn:
    step, first, terms = rng.randint(2, 7), rng.randint(1, 9), rng.randint(8, 40)
    last = first + step * terms
    value = Fraction(terms, first * last)
    text = (
        f"The sum 1/({first} * {first + step}) + 1/({first + step} * {first + 2 * step}) + ... + 1/({last - step} * "
        f"{last}), in which the factors grow by {step}, equals m/n for relatively prime positive integers m and n. "
        "Find m + n."
    )
    return Drawn((step, first, terms), text, value.numerator + value.denominator)


def median_length(rng: Random) -> Drawn:
    a, b, c = sorted(rng.sample(range(5, 30), 3))
    if a + b <= c:
        return Drawn((a, b, c), "", -1)  # no triangle
    square = Fraction(2 * b * b + 2 * c * c - a * a, 4)  # Apollonius' theorem
    text = (
        f"Triangle ABC has sides BC = {a}, CA = {b} and AB = {c}, and M is the midpoint of BC. The square of AM is m/n "
        "for relatively prime positive integers m and n. Find m + n."
    )
    return Drawn((a, b, c), text, square.numerator + square.denominator)


def interior_points(rng: Random) -> Drawn:
    a, b, c, d = (rng.randint(5, 40) for _ in range(4))
    area2 = abs(a * d - b * c)
    border = math.gcd(a, b) + math.gcd(c, d) + math.gcd(a - c, b - d)
    if area2 == 0:
        return Drawn((a, b, c, d), "", -1)  # no triangle
    text = (
        f"How many points with integer coordinates lie strictly inside the triangle with the vertices (0, 0), "
        f"({a}, {b}) and ({c}, {d})?"
    )
    return Drawn((a, b, c, d), text, (area2 - border + 2) // 2)  # Pick's theorem


#: By name, of the four fields in turn.
TEMPLATES: dict[str, Template] = {
    template.__name__: template
    for template in (
        power_sum, remainders, square_divisors, multiples, lattice_paths, apart, bounded_sums, ring_colourings,
        recurrence, power_of_roots, quadratic, telescope, median_length, interior_points,
    )
}  # fmt: skip
