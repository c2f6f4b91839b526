"""Tasks of reasoning-gym: drawn and scored by its code, solved by ours (`numbers`, `logic`).

Left out are tasks whose scorer evaluates the answer as Python (`eval`, sympy's parser), since a teacher's answer
is text from outside, and those whose questions depend on the clock.
"""

import re
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

from k2model.documents.families.task import SOLVER, SOLVER_DATASETS, gym_module, has_solver
from k2model.documents.schema import content_id, is_heldout
from k2model.errors import SynthesisError
from k2model.synthesis.problems import logic, numbers
from k2model.synthesis.problems.problem import Problem, Solution

LICENCE = "Apache-2.0"
FULL_MARKS = 0.999
MAX_ANSWER = 2_000  # characters; no right answer is longer
_STREAM = 1_000_003  # seeds of two jobs lie this far apart

Solver = Callable[[Mapping[str, Any], str], Solution]


class GymTask(NamedTuple):
    domain: str
    solver: Solver | None = None
    settings: Mapping[str, Any] = {}


GYM: dict[str, GymTask] = {
    "gcd": GymTask("mathematics", numbers.gcd),
    "lcm": GymTask("mathematics", numbers.lcm),
    "prime_factorization": GymTask("mathematics", numbers.prime_factorization, {"max_value": 5_000}),
    "fraction_simplification": GymTask("mathematics", numbers.fraction_simplification),
    "base_conversion": GymTask("mathematics", numbers.base_conversion),
    # One-digit sums are the family `arithmetic`, a tenth of which is held out.
    "chain_sum": GymTask("mathematics", numbers.chain_sum, {"min_digits": 2}),
    "products": GymTask("mathematics", numbers.products, {"min_digits": 2, "max_digits": 4}),
    "count_bits": GymTask("mathematics", numbers.count_bits, {"max_n": 2**20}),
    "leg_counting": GymTask("mathematics", numbers.leg_counting),
    "complex_arithmetic": GymTask(
        "mathematics",
        numbers.complex_arithmetic,
        {"operations": ("+", "-", "*"), "operations_weights": [0.3, 0.3, 0.4]},
    ),
    "number_filtering": GymTask("mathematics", numbers.number_filtering),
    "binary_alternation": GymTask("logic", logic.binary_alternation),
    "syllogism": GymTask("logic", logic.syllogism),
    "circuit_logic": GymTask("logic", logic.circuit),
    "course_schedule": GymTask("logic", logic.course_schedule),
    "shortest_path": GymTask("logic", logic.shortest_path),
    "mini_sudoku": GymTask("logic", logic.mini_sudoku),
    "self_reference": GymTask("logic"),
    "zebra_puzzles": GymTask("logic"),
    "quantum_lock": GymTask("logic"),
    "jugs": GymTask("logic"),
    "simple_equations": GymTask("mathematics"),
    "count_primes": GymTask("mathematics"),
    "family_relationships": GymTask("logic"),
    "aiw": GymTask("logic"),
}
_NOTATION = {"frac", "dfrac"}


def check_installed(name: str) -> None:
    """Raises `SynthesisError` where the task needs a solver that is not installed."""
    if name in SOLVER_DATASETS and not has_solver():
        raise SynthesisError(
            f"problem family '{name}' needs {SOLVER}, which is compiled at installation and no part of the set-up; "
            f"with a C compiler and Python's headers (Debian: gcc, python3.11-dev): "
            f"{sys.executable} -m pip install {SOLVER}"
        )


def draw_gym(name: str, seed: int, index: int) -> Problem:
    task, entry = GYM[name], _dataset(name)[(seed * _STREAM + index) % 2**31]
    question = str(entry["question"]).strip()
    key = f"{name} {content_id(question)}"
    return Problem(
        family=name,
        domain=task.domain,
        key=key,
        question=question,
        answer=str(entry["answer"]),
        check=partial(_scores, name, entry),
        split="heldout" if is_heldout(key) else "train",
        licence=LICENCE,
        origin=f"reasoning-gym {name}",
        solution=task.solver(entry["metadata"], question) if task.solver else None,
    )


def _scores(name: str, entry: dict[str, Any], answer: str) -> bool:
    """Full marks alone count; a scorer that stumbles over an answer has not found it right. Some scorers read a
    number out of any text around it: in mathematics, words that the reference does not have are refused."""
    more_words = GYM[name].domain == "mathematics" and not _words(answer) <= _words(entry["answer"]) | _NOTATION
    if len(answer) > MAX_ANSWER or more_words:
        return False
    try:
        return float(_dataset(name).score_answer(answer.strip(), entry)) >= FULL_MARKS
    except (ValueError, TypeError, ArithmeticError, LookupError, RecursionError):
        return False


@cache
def _dataset(name: str) -> Any:
    return gym_module().create_dataset(name, seed=0, size=2**31, **GYM[name].settings)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]{2,}", str(text).casefold()))
