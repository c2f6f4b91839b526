"""Names of what several answers to each item give beside their mean: `exam/pass@8`, `exam/maj@8`.

A score whose items are asked n times is the mean over all answers, which is avg@n. Beside it stand pass@k, whether one
of k answers is right, and maj@n, whether what most answers say is; both are computed in `k2model.evals.repeats`.
"""

import re
from typing import NamedTuple

PASS, MAJ = "pass", "maj"
_NAME = re.compile(rf"(.+)/({PASS}|{MAJ})@(\d+)")


class Repeated(NamedTuple):
    """`measure` (PASS or MAJ) of `k` answers to each item of the score `of`."""

    of: str
    measure: str
    k: int

    @property
    def score(self) -> str:
        return f"{self.of}/{self.label}"

    @property
    def label(self) -> str:
        return f"{self.measure}@{self.k}"


def repeated_of(score: str) -> Repeated | None:
    """What a score's name says of repeats; None where it is a plain score."""
    found = _NAME.fullmatch(score)
    return Repeated(found[1], found[2], int(found[3])) if found else None


def repeated_scores(score: str, repeats: int, voted: bool = True) -> list[str]:
    """The scores beside `score`, whose items are asked `repeats` times: pass@k with k of 2, 4, 8, ... and of all
    answers; and maj of all, where they are put to the vote (of two there is none)."""
    if repeats < 2:
        return []
    powers = [2**power for power in range(1, repeats.bit_length()) if 2**power < repeats]
    found = [Repeated(score, PASS, k) for k in (*powers, repeats)]
    if voted and repeats > 2:
        found.append(Repeated(score, MAJ, repeats))
    return [one.score for one in found]
