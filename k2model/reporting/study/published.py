"""What was published of K2-V2 itself, for the benchmarks that a study has as well.

A table of the recipe's data (`k2model/recipe/k2_data/published_scores.csv`), as published: after each phase, without
intervals, and not always with shots and sampling. So it stands beside a curve as a mark, never in a test.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import k2model.recipe

TABLE = Path(k2model.recipe.__file__).parent / "k2_data" / "published_scores.csv"
MODEL = "K2-V2 70B"


@dataclass(frozen=True)
class Published:
    """`tasks`: names of the same benchmark, without effort. `value`: 0 to 1. effort: "" before fine-tuning."""

    benchmark: str
    tasks: tuple[str, ...]
    phase: str
    effort: str
    value: float

    @property
    def scores(self) -> tuple[str, ...]:
        """The names that a score of the benchmark may have."""
        return tuple(f"{task}/{self.effort}" if self.effort else task for task in self.tasks)


@cache
def published() -> tuple[Published, ...]:
    """All rows of the table, in its order."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return tuple(
            Published(
                row["benchmark"], tuple(row["tasks"].split()), row["phase"], row["effort"], float(row["percent"]) / 100
            )
            for row in csv.DictReader(file)
        )


def published_for(score: str, phases: Iterable[str]) -> list[Published]:
    """Of one score, in the phases that a study has; none where nothing was published of its benchmark."""
    known = set(phases)
    return [row for row in published() if row.phase in known and score in row.scores]
