"""The line of the month: a recipe that goes on, with what the month is to raise.

    K2_RECIPE=k2model.continual.month.recipe:demo

Its lifecycle is the laptop's. The two benchmarks are asked of every phase and decontaminate nothing in it, as no
document of it can hold them; batches are held to them by the arrival gate like to any item.
"""

import json
from dataclasses import replace
from pathlib import Path
from random import Random

from k2model.artifacts.files import files_at
from k2model.continual.month import material
from k2model.continual.month.material import ORDERED, RIVERS, Row
from k2model.recipe import Recipe
from k2model.recipe.continual import (
    ContinualConfig,
    GuardConfig,
    Rewarming,
    SchedulesConfig,
)
from k2model.recipe.evaluation import AnswerCheck, BenchmarkConfig, Mode
from k2model.recipe.laptop import CONTINUAL, laptop, smoke
from k2model.recipe.schema import GateConfig
from k2model.settings import home

SEED = 15
DAYS = 30
#: By the name of a line's recipe here, the recipe whose lifecycle it goes on from.
LINES = {"demo": "laptop", "tiny": f"{__name__}:tiny_lifecycle"}
#: Per cent of the month's documents, by the name of the recipe.
SIZES = {"laptop": 100, "smoke": 25}
#: What makes a lifecycle's recipe one that has a line, for `load_recipe`.
AS_LINE = {"continual.tuned": "sft", "continual.base": "mid_4"}
ITEMS = "items"  # the folder of the benchmarks' files, in a line's home
ORDERED_ITEMS = 128
#: At which retrieval is scored. Fine-tuning has rows of 128 tokens, so that longer contexts are forgotten by the
#: laptop's own lifecycle (at 1,024 from 1.00 to .56), and by every turn: what nothing trains is not held to stay.
LENGTHS = (128, 256)

#: Once a day, so that a month is 60 executions of these two, and every schedule is one of the launch plans.
SCHEDULES = SchedulesConfig(arrivals="0 1 * * *", turn="0 2 * * *", evaluation="0 4 * * 0", release="0 5 1 * *")

LINE = replace(CONTINUAL, guard=GuardConfig(min_tokens=30_000), schedules=SCHEDULES)


def demo() -> Recipe:
    """The laptop's line."""
    return on(laptop(), home(), LINE)


def tiny_lifecycle() -> Recipe:
    """The smoke recipe, whose model learns nothing, with a gate that any model passes: without one none is promoted."""
    return replace(smoke(), gates=(GateConfig("sft", "tools/well_formed", minimum=0.0),))


def tiny() -> Recipe:
    """The smoke recipe's: that everything runs, not that anything is learned. On an infinite schedule, with a release
    on the second day as well, so that one is annealed."""
    line = replace(
        LINE,
        guard=GuardConfig(min_tokens=2_000),
        arrival=replace(LINE.arrival, min_documents=10),
        default_loss=1.0,
        allowed_loss=(),
        rewarming=Rewarming.INFINITE,
        schedules=replace(SCHEDULES, release="0 5 1,2 * *"),
    )
    return on(tiny_lifecycle(), Path(home()), line)


def on(base: Recipe, place: Path, line: ContinualConfig) -> Recipe:
    """A recipe with a line, whose benchmarks' files lie below `place`."""
    ordering = BenchmarkConfig(
        ORDERED, str(place / ITEMS / f"{ORDERED}.jsonl"), AnswerCheck.EXACT, Mode.LOW, max_new_tokens=16,
        licence=material.LICENCE, group="New", decontaminate=False,
    )  # fmt: skip
    rivers = BenchmarkConfig(
        RIVERS, str(place / ITEMS / f"{RIVERS}.jsonl"), max_new_tokens=12, licence=material.LICENCE, group="New",
        decontaminate=False,
    )  # fmt: skip
    evaluation = replace(base.evaluation, benchmarks=(ordering, rivers))
    return replace(base, evaluation=evaluation, scored_lengths=LENGTHS, continual=line)


def ordered_items(seed: int = SEED) -> list[Row]:
    """The benchmark of the new problems: digits of the tenth that no batch has."""
    rows = material.ordering(Random(f"{seed} items"), ORDERED_ITEMS, heldout=True)
    return [{"prompt": material.question_of(row), "answer": material.answer_of(row)} for row in rows]


def write_items(place: Path, seed: int = SEED) -> None:
    """Writes the files of the benchmarks below a line's home; the same bytes each time."""
    items = {ORDERED: ordered_items(seed), RIVERS: material.river_items(material.river_facts(seed))}
    files = files_at(place / ITEMS)
    for name, rows in items.items():
        files.write(f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
