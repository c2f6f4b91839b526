"""Knights and Knaves of two people as formulas: `Knights A:!B=A;B:(A|B)&B?` is answered `01`.

Statements are sampled by reasoning-gym at three difficulties (depth and width of a statement) and
kept when exactly one assignment fits; the solver and the uniqueness check are our own. A knight
(1) says what is true, a knave (0) what is false: an assignment fits when each person's statement
has the truth value of that person. `A` reads "A is a knight", `!A` "A is a knave"; `&`, `|`, `>`
(implies) and `=` (if and only if) join parts of which compound ones stand in brackets.

The trace tries the assignments 11, 10, 01, 00 in turn and writes the truth of the two statements
under each, `11:00;10:11;01:01`, stopping at the one that fits. Medium effort keeps that last entry.
"""

import itertools
from collections.abc import Sequence
from random import Random
from typing import Any

from k2model.documents.families.task import Task, gym_module
from k2model.documents.schema import Item

ORIGIN, LICENCE = "reasoning-gym knights_knaves", "Apache-2.0"
DIFFICULTIES = ((2, 2), (2, 3), (3, 2))  # (depth, width) of a statement
SHALLOW_SAMPLES = 3_000  # of the two easier difficulties, which hold about 900 puzzles in all
MAX_FORMULA = 28  # characters after `Knights `
ASSIGNMENTS = ("11", "10", "01", "00")
NAMES = "AB"
_ATOMS = {"telling-truth": "", "lying": "!"}
_OPERATORS = {"and": "&", "or": "|", "->": ">", "<=>": "="}

Statement = tuple[Any, ...]


def pool(rng: Random, size: int) -> list[Task]:
    """`size` distinct puzzles with exactly one solution each."""
    sampler_class = gym_module("logic.knights_knaves").KKProblemSampler
    found: dict[str, Task] = {}
    for depth, width in DIFFICULTIES:
        sampler = sampler_class(0, len(NAMES), depth_constraint=depth, width_constraint=width)
        sampler.rng = Dice(rng)
        shallow = (depth, width) != DIFFICULTIES[-1]
        attempts = itertools.repeat(None, min(size, SHALLOW_SAMPLES)) if shallow else itertools.repeat(None)
        for _ in attempts:
            task = solve(sampler.sample())
            if task is not None:
                found.setdefault(task.prompt, task)
            if len(found) >= size:
                break
    tasks = list(found.values())
    rng.shuffle(tasks)
    return tasks


class Dice:
    """What reasoning-gym asks of numpy's generator, from Python's: several times faster one draw at a time."""

    def __init__(self, rng: Random):
        self._rng = rng

    def integers(self, low: int, high: int) -> int:
        return self._rng.randrange(low, high)

    def choice(self, options: Sequence[str]) -> str:
        return self._rng.choice(options)


def solve(statements: tuple[Statement, Statement]) -> Task | None:
    """The task of two statements in reasoning-gym's form; None when it is long or not uniquely solvable."""
    formula = ";".join(f"{name}:{render(s)}" for name, s in zip(NAMES, statements, strict=True))
    if len(formula) + 1 > MAX_FORMULA:
        return None
    table = {assumed: "".join(f"{_holds(s, assumed):d}" for s in statements) for assumed in ASSIGNMENTS}
    fitting = [assumed for assumed, truths in table.items() if assumed == truths]
    if len(fitting) != 1:
        return None
    tried = ASSIGNMENTS[: ASSIGNMENTS.index(fitting[0]) + 1]
    steps = [f"{assumed}:{table[assumed]}" for assumed in tried]
    return Task(key_of(statements), f"Knights {formula}?", fitting[0], ";".join(steps), steps[-1])


def render(statement: Statement, names: str = NAMES, canonical: bool = False) -> str:
    """A statement in the compact form; `canonical`, with every part in brackets and operands that may be exchanged
    sorted."""
    kind, *parts = statement
    if kind in _ATOMS:
        return _ATOMS[kind] + names[parts[0]]
    written = [render(part, names, canonical) for part in parts]
    if kind == "not":
        return f"!({written[0]})"
    plain = [part[0] in _ATOMS and not canonical for part in parts]
    written = [text if bare else f"({text})" for text, bare in zip(written, plain, strict=True)]
    return _OPERATORS[kind].join(sorted(written) if canonical and kind != "->" else written)


def check(item: Item, answer: str) -> bool:
    return answer.strip() == item["answer"]


def key_of(statements: tuple[Statement, ...]) -> str:
    """One key for all writings of a puzzle: operands of `&`, `|` and `=` in any order and, of two people, names
    exchanged."""
    names = "ABCDEFGH"[: len(statements)]
    orders = [(statements, names), *([(statements[::-1], names[::-1])] if len(statements) == 2 else [])]
    return min(
        ";".join(f"{name}:{render(s, called, canonical=True)}" for name, s in zip(names, said, strict=True))
        for said, called in orders
    )


def _holds(statement: Statement, assumed: str) -> bool:
    kind, *parts = statement
    if kind in _ATOMS:
        return (assumed[parts[0]] == "1") == (kind == "telling-truth")
    values = [_holds(part, assumed) for part in parts]
    match kind:
        case "not":
            return not values[0]
        case "and":
            return all(values)
        case "or":
            return any(values)
        case "->":
            return not values[0] or values[1]
        case "<=>":
            return values[0] == values[1]
    raise ValueError(f"reasoning-gym gave a statement of unknown kind '{kind}'; known: not, {', '.join(_OPERATORS)}")
