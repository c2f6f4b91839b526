"""Worked solutions of reasoning-gym's logic and planning tasks.

Each solver reads the task's metadata and finds the answer by itself (enumeration, elimination, search), one line
a step; it never looks at the reference answer.
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from k2model.synthesis.problems.problem import Solution

Metadata = Mapping[str, Any]
Cell = tuple[int, int]
_MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
_GATES: dict[str, tuple[str, Callable[[Sequence[int]], int]]] = {
    "&": ("AND", lambda bits: int(all(bits))),
    "↑": ("NAND", lambda bits: int(not all(bits))),
    "⊕": ("XOR", lambda bits: sum(bits) % 2),
    "OR": ("OR", lambda bits: int(any(bits))),
    "NOR": ("NOR", lambda bits: int(not any(bits))),
}


def syllogism(metadata: Metadata, question: str) -> Solution:
    """Every way in which the kinds of things may exist is tried, with at least one thing under each name."""
    premises = [metadata[name] for name in ("premise1", "premise2", "premise") if name in metadata]
    conclusion = metadata["conclusion"]
    statements = [_statement(text) for text in (*premises, conclusion)]
    terms = sorted({term for _, *pair in statements for term in pair})
    kinds = list(itertools.product((False, True), repeat=len(terms)))[1:]
    counterexample = next(
        (world for world in _worlds(kinds, terms, statements[:-1]) if not _holds(statements[-1], world, terms)), None
    )
    steps = [f"Given: {text}." for text in premises] + [f"To prove: {conclusion}."]
    if counterexample is None:
        steps.append("In every world with these kinds of things in which the premises hold, the conclusion holds.")
        answer, brief, check = "Yes", "No counterexample exists.", "Every world that breaks it breaks a premise."
    else:
        things = "; ".join(_described(kind, terms) for kind in counterexample)
        steps += [
            f"Suppose these things exist and no others: {things}.",
            "The premises hold there.",
            "The conclusion does not.",
        ]
        answer, brief = "No", f"Counterexample: {things}."
        check = f"With {things}, each premise is true and the conclusion false."
    method = "Look for a world in which the premises hold and the conclusion does not."
    return Solution(tuple(steps), brief, answer, check, method)


def circuit(metadata: Metadata, _: str) -> Solution:
    values, steps, outputs = metadata["assignments"], [], []
    for term in metadata["term_strings"]:
        symbol: str = next((s for s in "&↑⊕" if s in term), "&")
        bits = [_literal(name, values) for name in term.split(symbol)]
        name, gate = _GATES[symbol]
        outputs.append(gate(bits))
        steps.append(f"{name} of {term.replace(symbol, ', ')}: {' '.join(map(str, bits))} gives {outputs[-1]}")
    wanted = str(metadata["final_gate"])
    name, gate = _GATES[{"AND": "&", "XOR": "⊕"}.get(wanted, wanted)]
    result = gate(outputs)
    last = f"{name} of {' '.join(map(str, outputs))} gives {result}"
    check = f"The last gate sees {outputs.count(1)} ones and {outputs.count(0)} zeros, so {name} is {result}."
    return Solution((*steps, last), last, str(result), check, "Work out each gate from the inputs, then the last one.")


def course_schedule(metadata: Metadata, _: str) -> Solution:
    needs: dict[int, set[int]] = {course: set() for course in sorted(metadata["courses"])}
    for course, first in metadata["prerequisites"]:
        needs[course].add(first)
    done: list[int] = []
    steps = []
    while free := [course for course in needs if course not in done and needs[course] <= set(done)]:
        done += free
        steps.append(f"Free to take: {', '.join(map(str, free))}.")
    stuck = [course for course in needs if course not in done]
    steps.append(f"Left, each waiting for another of them: {', '.join(map(str, stuck))}." if stuck else "None is left.")
    brief = f"{len(done)} of {len(needs)} can be taken."
    check = f"In the order {', '.join(map(str, done))} every course comes after what it needs; {len(stuck)} are left."
    method = "Take every course whose prerequisites are done, again and again, and see whether any is left."
    return Solution(tuple(steps), brief, str(not stuck), check, method)


def shortest_path(metadata: Metadata, _: str) -> Solution:
    grid = metadata["matrix"]
    cells = {(r, c): mark for r, row in enumerate(grid) for c, mark in enumerate(row)}
    start, goal = (next(cell for cell, mark in cells.items() if mark == wanted) for wanted in "*#")
    came: dict[Cell, tuple[Cell, str]] = {start: (start, "")}
    border, steps = [start], [f"Start at row {start[0] + 1}, column {start[1] + 1}."]
    while border and goal not in came:
        following: list[Cell] = []
        for cell, (name, (dr, dc)) in itertools.product(border, _MOVES.items()):
            beside = (cell[0] + dr, cell[1] + dc)
            if cells.get(beside, "X") != "X" and beside not in came:
                came[beside] = (cell, name)
                following.append(beside)
        border = following
        steps.append("Next reached: " + (" ".join(f"{r + 1},{c + 1}" for r, c in border) or "nothing") + ".")
    path: list[str] = []
    at = goal
    while goal in came and at != start:
        at, name = came[at]
        path.insert(0, name)
    answer = " ".join(path) if goal in came else "infeasible"
    ending = f"The goal is at distance {len(path)}." if path else "The goal is never reached."
    check = f"The search went outward one move at a time, so nothing shorter than {len(path)} moves was missed."
    method = "Spread out from the start one move at a time until the goal is reached, then read the way back."
    return Solution((*steps, ending), ending, answer, check if path else "Every cell that can be reached was.", method)


def mini_sudoku(metadata: Metadata, _: str) -> Solution:
    board = [list(row) for row in metadata["puzzle"]]
    steps: list[str] = []
    solved = _fill(board, steps)
    answer = "\n".join(" ".join(map(str, row)) for row in solved or board)
    check = "Each row, each column and each block of the filled grid holds 1, 2, 3 and 4."
    method = "Fill the cell with the fewest possible numbers, and go back when a cell has none."
    forced = sum("only" in step for step in steps)
    return Solution(tuple(steps), f"{forced} cells are forced one after the other.", answer, check, method)


def binary_alternation(metadata: Metadata, _: str) -> Solution:
    text = metadata["string"]
    ones, zeros = text.count("1"), text.count("0")
    steps = [f"{text} has {zeros} zeros and {ones} ones."]
    method = "Compare with the alternating strings that have as many ones; each swap mends two places."
    if abs(ones - zeros) > 1:
        steps.append("They differ by more than one, so no order alternates.")
        return Solution(
            tuple(steps), "Too unequal.", "-1", f"{zeros} and {ones} differ by {abs(ones - zeros)}.", method
        )
    found = []
    for first in [f for f in "01" if (ones - zeros if f == "0" else zeros - ones) <= 0]:
        wanted = "".join(first if i % 2 == 0 else "10"[int(first)] for i in range(len(text)))
        wrong = sum(a != b for a, b in zip(text, wanted, strict=True))
        steps.append(f"Against {wanted}: {wrong} places differ, {wrong // 2} swaps.")
        found.append(wrong // 2)
    least = min(found)
    check = f"A swap changes two places, so {2 * least} wrong places need {least} swaps."
    return Solution(tuple(steps), f"Swaps: {' or '.join(map(str, found))}.", str(least), check, method)


Statement = tuple[str, str, str]
World = tuple[tuple[bool, ...], ...]


def _statement(text: str) -> Statement:
    for form, pattern in (
        ("some not", r"Some (.+) are not (.+)"),
        ("some", r"Some (.+) are (.+)"),
        ("all", r"All (.+) are (.+)"),
        ("no", r"No (.+) are (.+)"),
    ):
        if match := re.fullmatch(pattern, text.strip(" .?")):
            return form, match[1], match[2]
    raise ValueError(f"reasoning-gym gave a statement that is no syllogism: {text!r}")


def _worlds(kinds: Sequence[tuple[bool, ...]], terms: Sequence[str], premises: Sequence[Statement]) -> Any:
    """Sets of kinds of things in which every term has a thing and the premises hold, small ones first."""
    for size in range(1, len(kinds) + 1):
        for world in itertools.combinations(kinds, size):
            if all(any(kind[i] for kind in world) for i in range(len(terms))) and all(
                _holds(premise, world, terms) for premise in premises
            ):
                yield world


def _holds(statement: Statement, world: World, terms: Sequence[str]) -> bool:
    form, *pair = statement
    metadata, predicate = (terms.index(term) for term in pair)
    values = [kind[predicate] for kind in world if kind[metadata]]
    return {"all": all(values), "no": not any(values), "some": any(values), "some not": not all(values)}[form]


def _described(kind: tuple[bool, ...], terms: Sequence[str]) -> str:
    return "one of the " + " and ".join(term for term, has in zip(terms, kind, strict=True) if has)


def _literal(name: str, values: Mapping[str, int]) -> int:
    return 1 - values[name[:-1]] if name.endswith("'") else values[name]


def _fill(board: list[list[int]], steps: list[str]) -> list[list[int]] | None:
    empty = [(r, c) for r in range(4) for c in range(4) if not board[r][c]]
    if not empty:
        return board
    choices = {cell: _choices(board, cell) for cell in empty}
    r, c = min(empty, key=lambda cell: (len(choices[cell]), cell))
    for number in choices[r, c]:
        only = len(choices[r, c]) == 1
        steps.append(
            f"Row {r + 1}, column {c + 1} can {'only be' if only else 'be'} {number}{'.' if only else '; try it.'}"
        )
        board[r][c] = number
        if _fill(board, steps):
            return board
        board[r][c] = 0
    steps.append(f"Row {r + 1}, column {c + 1} has no number left: go back.")
    return None


def _choices(board: Sequence[Sequence[int]], cell: Cell) -> list[int]:
    r, c = cell
    block = {board[i][j] for i in range(r // 2 * 2, r // 2 * 2 + 2) for j in range(c // 2 * 2, c // 2 * 2 + 2)}
    seen = set(board[r]) | {row[c] for row in board} | block
    return [number for number in (1, 2, 3, 4) if number not in seen]
