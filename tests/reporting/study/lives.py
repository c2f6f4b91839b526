"""A made-up life of the laptop's model, for tests alone: what it can do is a formula of the tokens it has seen."""

import random
from collections.abc import Callable, Sequence

from k2model.evals.items import Grade, ItemResult
from k2model.evals.matrix import Checkpoint
from k2model.evals.scores import row_of
from k2model.recipe import load_recipe
from k2model.recipe.schema import Recipe
from k2model.reporting.study.content import Asked
from k2model.reporting.timeline import Timeline
from tests.reporting.lifecycle_fixture import HOSTILE

ITEMS = 40
RECIPE: Recipe = load_recipe("laptop")


def checkpoints(each: int, recipe: Recipe = RECIPE) -> list[Checkpoint]:
    """`each` of every phase, evenly spaced; the last ends it."""
    found: list[Checkpoint] = []
    spans = Timeline.of(recipe.phases).spans
    for phase in recipe.phases:
        start, end = spans[phase.name]
        for number in range(1, each + 1):
            step = phase.steps * number // each
            name = phase.name if number == each else f"{phase.name}@{step}"
            tokens = start + (end - start) * number // each
            found.append(Checkpoint(len(found), phase.name, step, tokens, name, number == each))
    return found


def results(score: str, skill: float, seed: int, items: int = ITEMS) -> list[ItemResult]:
    rng = random.Random(f"{score} {seed}")
    found = []
    for number in range(items):
        right = rng.random() < skill
        cluster = f"depth {number % 5 / 4:.2f}" if score.startswith("needle") else f"item {number}"
        grade = Grade.RIGHT if right else Grade.CUT_OFF if number % 13 == 0 else Grade.WRONG
        thought = number % 7 + {"low": 1, "high": 90}.get(score.split("/")[-1], 20)
        said = f"<think>so</think>{number if right else HOSTILE}"
        found.append(
            ItemResult(
                score, f"item {number}", cluster, f"What is {number}? {HOSTILE}", said, said, str(number), grade,
                float(right), tokens=9, thinking_tokens=thought,
            )
        )  # fmt: skip
    return found


#: Score -> its skill at a share of all tokens.
SKILLS: dict[str, Callable[[float], float]] = {
    "facts/heldout_wording": lambda at: 0.9 if at < 0.6 else 0.3,
    "arithmetic/think": lambda at: 0.0 if at < 0.4 else 0.7,
    "code/next_line": lambda at: 0.25,
    "gsm8k": lambda at: 0.6 * at,
    "needle/1024": lambda at: at,
    "needle/4096": lambda at: at / 2,
}
CHAT = {"arithmetic/low": 0.1, "arithmetic/medium": 0.5, "arithmetic/high": 0.8}


def life(
    each: int, missing: Callable[[Checkpoint, str], bool] = lambda one, score: False, scores: Sequence[str] = ()
) -> list[Asked]:
    """Every task (of `scores`, where they are named) at every checkpoint, but those that are `missing`."""
    asked = []
    every = checkpoints(each)
    for one in every:
        skills = {score: skill(one.tokens / every[-1].tokens) for score, skill in SKILLS.items()}
        if one.phase == "sft":
            skills = {score: skill for score, skill in skills.items() if not score.startswith("arithmetic")} | CHAT
        for score, skill in skills.items():
            if scores and score not in scores:
                continue
            if missing(one, score):
                asked.append(Asked(one, score))
                continue
            read = results(score, skill, one.order)
            chance = 0.25 if score == "code/next_line" else None
            group = {"gsm8k": "Mathematics", "needle/1024": "Long context", "needle/4096": "Long context"}.get(score)
            row = row_of(one.phase, score, read, group or "Other", chance=chance)
            asked.append(Asked(one, score, (row,), lambda read=read: read))  # type: ignore[misc]
    return asked
