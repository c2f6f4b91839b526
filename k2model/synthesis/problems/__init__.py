"""Questions with an answer that a program can check, and for most of them the way to it.

`draw(family, seed, index, size)` gives the same problem in every process. Our own families have solver and check in
`k2model.documents.families`; those of reasoning-gym are scored by its own code and solved by ours, so that two
independent programs must agree before a trace is kept.
"""

from k2model.synthesis.config import unknown
from k2model.synthesis.problems.gym import GYM, check_installed, draw_gym
from k2model.synthesis.problems.problem import OWN, Problem, Solution, draw_own

__all__ = ["Problem", "Solution", "check_family", "draw", "known_families", "solved_families"]


def draw(family: str, seed: int, index: int, size: int) -> Problem:
    """Problem `index` of a stream of about `size` distinct ones; a pure function of its arguments.

    Raises `SynthesisError` like `check_family`.
    """
    check_family(family)
    return draw_own(family, seed, index, size) if family in OWN else draw_gym(family, seed, index)


def check_family(name: str) -> None:
    """Raises `SynthesisError` for a name that nobody knows, and where a package that it needs is absent."""
    if name not in OWN and name not in GYM:
        raise unknown("problem family", name, known_families())
    check_installed(name)


def known_families() -> list[str]:
    return [*OWN, *GYM]


def solved_families() -> list[str]:
    """Those whose traces a program can write; the others need a teacher that thinks for itself."""
    return [*OWN, *(name for name, task in GYM.items() if task.solver)]
