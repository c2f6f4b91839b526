"""Generated families: the answer of each item found again by a way of its own, from the words of its prompt."""

import itertools
import json
import math
import re
from fractions import Fraction
from random import Random

import numpy as np
import pytest

from k2model.documents.answers.extraction import boxed, closing, expression, whole_number
from k2model.documents.families import competition, countdown, knights, knights_people, order
from k2model.documents.families.generated import GENERATED, generate
from k2model.documents.families.task import split
from k2model.documents.schema import is_heldout
from k2model.errors import EvaluationError

ITEMS = {name: generate(name, 24) for name in GENERATED}


def meta(item):
    return json.loads(item["meta"])


def right(item, answer):
    return GENERATED[item["family"]].family.check(item, answer)


@pytest.mark.parametrize("name", GENERATED)
def test_items_are_distinct_repeatable_and_answered_by_their_answer(name):
    items = ITEMS[name]
    assert len({item["key"] for item in items}) == len({item["id"] for item in items}) == 24
    assert generate(name, 7) == items[:7]
    assert generate(name, 7, seed=1) != items[:7]
    assert all(right(item, item["answer"]) for item in items)
    assert all(right(item, f"So it must be:\n\n**{item['answer']}**.") for item in items)
    wrong = [right(one, other["answer"]) for one, other in itertools.pairwise(items)]
    assert sum(wrong) <= 10  # two people have four answers, which items share
    assert not any(right(item, "") or right(item, "I cannot tell.") for item in items)


def test_a_family_that_has_no_more_says_so_and_a_mistyped_name_is_known():
    with pytest.raises(EvaluationError, match=r"'countdown_easy' has \d+ items and not the 100000 asked for"):
        generate("countdown_easy", 100_000)
    with pytest.raises(EvaluationError, match="knights_8"):
        generate("knight_8", 1)


def test_what_families_share_with_trained_ones_is_held_out_there():
    trained, _ = split(knights.pool(Random(3), 4_000))
    assert not {task.key for task in trained} & {item["key"] for item in ITEMS["knights_2"]}
    trained, _ = split(countdown.pool(Random(3), 10_000))
    numbers = {tuple(sorted(task.prompt.split()[1:4])) for task in trained}
    assert not numbers & {tuple(sorted(map(str, meta(item)["numbers"]))) for item in ITEMS["countdown_easy"]}
    assert all(is_heldout(item["key"]) for name in ("knights_5", "order_6", "aime_like") for item in ITEMS[name])


def truth_of(text: str, kinds: dict[str, bool]) -> bool:
    """Whether a sentence is true, read by a recursive descent over its words."""
    text = text.strip()
    if text.startswith("it is not true that "):
        return not truth_of(text.removeprefix("it is not true that "), kinds)
    if text.startswith("if ") and len(parts := at_top(text.removeprefix("if "), ", then ")) == 2:
        return not truth_of(parts[0], kinds) or truth_of(parts[1], kinds)
    for joint, join in ((" if and only if ", lambda v: len(set(v)) == 1), (" and ", all), (" or ", any)):
        if len(parts := at_top(text, joint)) > 1:
            return join([truth_of(part, kinds) for part in parts])
    if text.startswith("("):
        return truth_of(text[1:-1], kinds)
    name, kind = re.fullmatch(r"(\w+) is a (knight|knave)", text).groups()
    return kinds[name] == (kind == "knight")


def at_top(text: str, joint: str) -> list[str]:
    """The text cut at a joint that stands in no bracket."""
    parts, depth, start = [], 0, 0
    for place in range(len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0 and text.startswith(joint, place):
            parts.append(text[start:place])
            start = place + len(joint)
    return [*parts, text[start:]]


@pytest.mark.parametrize("people", [2, 3, 5, 8])
def test_knights_have_one_solution_by_brute_force_over_their_words(people):
    for item in ITEMS[f"knights_{people}"][: 12 if people < 8 else 3]:
        said = {name: text[0].lower() + text[1:] if text[:2] in ("It", "If") else text
                for name, text in re.findall(r'(\w+) says: "(.*)\."', item["prompt"])}  # fmt: skip
        assert len(said) == people
        found = [
            kinds
            for values in itertools.product([True, False], repeat=people)
            if all(truth_of(said[name], kinds := dict(zip(said, values, strict=True))) == kinds[name] for name in said)
        ]
        assert len(found) == 1
        assert item["answer"] == ", ".join(
            f"{name}: {'knight' if is_one else 'knave'}" for name, is_one in found[0].items()
        )
        assert meta(item)["chance"] == 0.5**people


def test_the_last_that_is_said_of_a_person_counts():
    item = next(one for one in ITEMS["knights_2"] if "knave" in one["answer"] and "knight" in one["answer"])
    (a, kind_a), (b, kind_b) = meta(item)["people"].items()
    other = {"knight": "knave", "knave": "knight"}
    assert right(item, f"Suppose {a} is a {other[kind_a]}. No: **{a}** is a {kind_a.upper()}, and {b} = {kind_b}")
    assert not right(item, f"{a}: {kind_a}") and not right(item, f"{a}: {kind_a}, {b}: {other[kind_b]}")


def test_knights_without_or_with_several_solutions_are_not_asked():
    everybody = (("telling-truth", 0), ("telling-truth", 1), ("telling-truth", 2))
    assert len(knights_people.solutions(everybody)) == 8
    assert knights_people.solutions((("lying", 0), ("telling-truth", 1))) == []


def reachable(numbers: tuple[Fraction, ...], operators: str) -> set[Fraction]:
    """Every value of an expression over all the numbers."""
    if len(numbers) == 1:
        return set(numbers)
    values = set()
    for size in range(1, len(numbers) // 2 + 1):
        for chosen in itertools.combinations(range(len(numbers)), size):
            left = reachable(tuple(numbers[i] for i in chosen), operators)
            rest = reachable(tuple(n for i, n in enumerate(numbers) if i not in chosen), operators)
            for a, b in itertools.product(left, rest):
                values |= {a + b, a - b, b - a, a * b}
                if "/" in operators:
                    values |= {x / y for x, y in ((a, b), (b, a)) if y}
    return values


@pytest.mark.parametrize(("level", "asked"), [("easy", 24), ("medium", 3), ("hard", 24)])
def test_countdown_targets_can_be_made(level, asked):
    for item in ITEMS[f"countdown_{level}"][:asked]:
        told = meta(item)
        listed, target = re.match(
            r"Use each of the numbers (.*) exactly once.* to make (\d+)\.", item["prompt"]
        ).groups()
        assert [int(n) for n in re.findall(r"\d+", listed)] == told["numbers"] and int(target) == told["target"]
        assert eval(item["answer"]) == told["target"]
        assert sorted(map(int, re.findall(r"\d+", item["answer"]))) == sorted(told["numbers"])
        if level != "hard":
            assert told["target"] in reachable(tuple(map(Fraction, told["numbers"])), told["operators"])


def test_countdown_answers_are_judged_by_value_and_numbers():
    item = dict(ITEMS["countdown_medium"][0])
    item["meta"] = json.dumps({"numbers": [3, 8, 3, 8], "target": 24, "operators": "+-*/"})
    for answer in (
        "8/(3-8/3)",
        "so 24 = 8 ÷ (3 − 8/3)",
        "$8 / (3 - \\frac{8}{3}) = 24$",
        "\\boxed{8/(3-8/3)}",
        "Answer: 8/(3-8/3)",
    ):
        assert right(item, answer), answer
    for answer in ("3*8", "8/(3-8/3", "24", "8/(3-3)*8", "8/(3-8/3)\n8*3+0", "2**3*3", "8//(3-8/3)", "(" * 150 + "8"):
        assert not right(item, answer), answer


#: A clue's words, and when it is true of the places of those named (front, winner and left are 0).
CLUES = [
    (r"(\w+) waits somewhere in front of (\w+)\.|(\w+) finishes earlier than (\w+)\.|The (\w+) book stands somewhere "
     r"to the left of the (\w+) one\.", lambda a, b: a < b),
    (r"(\w+) waits directly in front of (\w+)\.|The (\w+) book stands directly to the left of the (\w+) one\.",
     lambda a, b: a + 1 == b),
    (r"(\w+) is the next to finish after (\w+)\.", lambda a, b: a == b + 1),
    (r"(\w+) and (\w+) wait directly behind one another, in whichever order\.|Nobody finishes between (\w+) and (\w+)\."
     r"|The (\w+) book and the (\w+) one stand side by side\.", lambda a, b: abs(a - b) == 1),
]  # fmt: skip
BETWEEN = r"Exactly (\d) of the other.* between (?:the )?(\w+)(?: one)? and (?:the )?(\w+)(?: one)?\."
NOT = r"(?:The )?(\w+) (?:book )?(?:is|does) not (?:the|finish)? ?(\w+)( in the line| from the left)?\."
END = r"(\w+) is the first or the last in the line\.|(\w+) finishes first or last\.|The (\w+) book stands at one of .*"


def holds(clue: str, place: dict[str, int]) -> bool:
    for pattern, rule in CLUES:
        if found := re.fullmatch(pattern, clue):
            return rule(*(place[name.lower()] for name in found.groups() if name))
    if found := re.fullmatch(BETWEEN, clue):
        return abs(place[found[2].lower()] - place[found[3].lower()]) == int(found[1]) + 1
    if found := re.fullmatch(END, clue):
        return place[next(filter(None, found.groups())).lower()] in (0, len(place) - 1)
    found = re.fullmatch(NOT, clue)
    assert found, clue
    return place[found[1].lower()] != order.ORDINALS.index(found[2])


@pytest.mark.parametrize("size", [4, 5, 6])
def test_order_puzzles_have_one_solution_and_need_every_clue(size):
    for item in ITEMS[f"order_{size}"][: 24 if size < 6 else 8]:
        clues = item["prompt"].splitlines()[1:-1]
        names = [name.lower() for name in meta(item)["names"]]
        rows = [{name: i for i, name in enumerate(row)} for row in itertools.permutations(names)]
        fitting = [row for row in rows if all(holds(clue, row) for clue in clues)]
        assert fitting == [{name: i for i, name in enumerate(names)}]
        for left_out in clues:
            assert sum(all(holds(clue, row) for clue in clues if clue != left_out) for row in rows) > 1
        assert meta(item)["chance"] == 1 / math.factorial(size)


def test_order_answers_are_read_from_the_closing_line():
    item = ITEMS["order_4"][0]
    names = meta(item)["names"]
    assert right(item, f"First {names[1]}? No.\nThe order is **{' > '.join(names)}**.")
    assert not right(item, " ".join(reversed(names))) and not right(item, ", ".join(names[:3]))
    assert not right(item, f"{', '.join(names)}, {names[0]}")


def counted(name: str, v: list[int]) -> int:
    """The answer to a competition problem, by counting, by simulation or in coordinates."""
    match name:
        case "power_sum":
            return (v[0] ** v[1] + v[2] ** v[3]) % 1000
        case "remainders":
            return next(n for n in range(1, 1000) if all(n % m == r for m, r in zip(v[:3], v[3:], strict=True)))
        case "square_divisors":
            powers = itertools.product(range(v[0] + 1), range(v[1] + 1), range(v[2] + 1))
            return sum(math.isqrt(n := 2**a * 3**b * 5**c) ** 2 == n and n % 6 == 0 for a, b, c in powers)
        case "multiples":
            return sum((n % v[0] == 0 or n % v[1] == 0) and n % v[2] != 0 for n in range(1, v[3] + 1))
        case "lattice_paths":
            ways = {(0, 0): 1}
            for x, y in itertools.product(range(v[0] + 1), range(v[1] + 1)):
                ways.setdefault((x, y), ways.get((x - 1, y), 0) + ways.get((x, y - 1), 0))
                ways[x, y] *= (x, y) != (v[2], v[3])
            return ways[v[0], v[1]] % 1000
        case "apart":
            free, used = [1] + [0] * v[1], [0] * (v[1] + 1)  # by elements taken; whether the last integer was
            for _ in range(v[0]):
                free, used = [a + b for a, b in zip(free, used, strict=True)], [0, *free[:-1]]
            return (free[v[1]] + used[v[1]]) % 1000
        case "bounded_sums":
            return sum(sum(boxes) == v[2] for boxes in itertools.product(range(v[1] + 1), repeat=v[0])) % 1000
        case "ring_colourings":
            steps = np.array([[int(a != b) for b in range(v[1])] for a in range(v[1])], dtype=object)
            return int(np.trace(np.linalg.matrix_power(steps, v[0]))) % 1000
        case "recurrence":
            a, b = v[2], v[3]
            for _ in range(v[4] - 2):
                a, b = b, v[0] * b + v[1] * a
            return b % 1000
        case "power_of_roots":
            return abs(round(sum(r ** v[2] for r in np.roots([1, -v[0], v[1]]).astype(complex)).real)) % 1000
        case "quadratic":
            return round(np.polyval(np.polyfit([1, 2, 3], v[:3], 2), v[3]))
        case "telescope":
            total = sum(Fraction(1, (v[1] + v[0] * i) * (v[1] + v[0] * (i + 1))) for i in range(v[2]))
            return total.numerator + total.denominator
        case "median_length":
            a, b, c = v
            x = Fraction(c * c - b * b + a * a, 2 * a)  # of A, where B is (0, 0) and C (a, 0)
            square = (x - Fraction(a, 2)) ** 2 + (c * c - x * x)
            return square.numerator + square.denominator
        case "interior_points":
            a, b, c, d = v
            s = 1 if a * d > b * c else -1
            inside = [
                s * (a * y - b * x) > 0 and s * (x * d - y * c) > 0 and s * ((c - a) * (y - b) - (d - b) * (x - a)) > 0
                for x, y in itertools.product(range(41), repeat=2)
            ]
            return sum(inside)
    raise AssertionError(name)


@pytest.mark.parametrize("template", competition.TEMPLATES)
def test_competition_answers_by_another_way(template):
    rng, seen = Random(5), 0
    while seen < 6:
        values, text, answer = competition.TEMPLATES[template](rng)
        if not 0 <= answer <= 999 or (template == "bounded_sums" and values[1] ** values[0] > 20_000):
            continue
        seen += 1
        assert counted(template, list(values)) == answer, text
        assert template == "telescope" or all(str(abs(value)) in text for value in values)


def test_competition_items_are_of_every_template():
    items = generate("aime_like", 400)
    assert {meta(item)["cluster"] for item in items} == set(competition.TEMPLATES)
    assert all(0 <= int(item["answer"]) <= 999 for item in items)
    zero = {**items[0], "answer": "7"}
    assert (
        right(zero, "First 12, so \\boxed{007}.")
        and right(zero, "the answer is 7.")
        and right(zero, "= 1,007 mod 1000 = 7")
    )
    assert (
        not right(zero, "7 or 8")
        and not right(zero, "\\boxed{7, 8}")
        and not right(zero, "7.5")
        and not right(zero, "x7")
    )


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("\\boxed{1} then \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{1", None),
        ("none", None),
        ("\\[\\boxed{}\\]", ""),
    ],
)
def test_the_last_closed_box_is_read(text, inside):
    assert boxed(text) == inside


def test_closing_lines_numbers_and_expressions():
    assert closing("a\nb.\n\n```\n") == "b" and closing("") == ""
    assert whole_number("between 3 and -12") == -12 and whole_number("3.5") is None
    assert expression("x\n3 × (2 + 1) = 9") == "3 * (2 + 1)" and expression("nothing") == ""
