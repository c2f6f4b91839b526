"""Questions with an answer that a program can check, and for most of them the way to it.

`family(name)` gives a `Family`, whose `draw(seed, index, size)` is the same problem in every process. Ours have
solver and check in `k2model.documents.families`; those of reasoning-gym are scored by its own code and solved by
ours, so that two independent programs must agree before a trace is kept.
"""

from functools import cache

from k2model.synthesis.config import unknown
from k2model.synthesis.problems.gym import GYM, GymFamily
from k2model.synthesis.problems.problem import OURS, Family, OwnFamily, Problem, Solution

__all__ = ["Family", "Problem", "Solution", "family", "known_families", "solved_families"]


@cache
def family(name: str) -> Family:
    """Raises `SynthesisError` for a name that nobody knows, and where a package that it needs is absent."""
    if name in OURS:
        return OwnFamily(name, OURS[name])
    if name in GYM:
        return GymFamily(name)
    raise unknown("problem family", name, known_families())


def known_families() -> list[str]:
    return [*OURS, *GYM]


def solved_families() -> list[str]:
    """Those whose traces a program can write; the others need a teacher that thinks for itself."""
    return [name for name in known_families() if name in OURS or GYM[name].solver is not None]
