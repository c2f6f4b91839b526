"""Accuracy against thinking spent: counted by hand, and a model whose trace is closed for it."""

import json
from dataclasses import replace

import pytest

from k2model.documents.families.competition import TEMPLATES
from k2model.documents.families.generated import generate
from k2model.evals.answers import Answers
from k2model.evals.backend import Prompt, Sampling
from k2model.evals.efforts import effort_points
from k2model.evals.items import Grade, ItemResult
from k2model.evals.material import Material
from k2model.evals.measures import Bounds, measure_of
from k2model.evals.questions import ask
from k2model.recipe import load_recipe
from k2model.recipe.evaluation import EvaluationConfig, Mode
from k2model.recipe.schema import PhaseKind
from k2model.recipe.tasks import Task, score_names, tasks_of
from k2model.recipe.validate import RecipeError
from tests.evals.conftest import World
from tests.evals.scripted import Scripted, cut_off, said


def result(score: str, grade: Grade, thinking: int) -> ItemResult:
    return ItemResult(score, f"{grade}{thinking}", "c", "p", "g", "a", "w", grade, float(grade is Grade.RIGHT),
                      thinking_tokens=thinking)  # fmt: skip


def test_points_by_hand() -> None:
    right, wrong, cut, long, unscored = Grade.RIGHT, Grade.WRONG, Grade.CUT_OFF, Grade.TOO_LONG, Grade.UNSCORED
    points = effort_points([
        *(result("sums/low", grade, 0) for grade in (right, wrong, wrong, wrong)),
        *(result("sums/high", grade, spent) for grade, spent in ((right, 10), (right, 20), (cut, 90))),
        result("sums/high", long, 0), result("sums/high", unscored, 5),
        result("sums/high@16", right, 16), result("needle/1024", right, 3), result("loss/prose", right, 1),
        result("knights_8/think", wrong, 7),
    ])  # fmt: skip
    assert [(p.family, p.effort, p.budget, p.items) for p in points] == [
        ("sums", "low", None, 4), ("sums", "high", None, 3), ("sums", "high", 16, 1), ("knights_8", "think", None, 1),
    ]  # fmt: skip
    low, high, *_ = points
    assert (low.accuracy, low.thinking_mean, low.cut_off) == (0.25, 0.0, 0.0)
    assert (high.accuracy, high.thinking_mean, high.thinking_median) == (2 / 3, 40.0, 20)
    assert high.cut_off == 1 / 3 and high.low < 2 / 3 < high.high


def test_a_recipes_budgets_are_tasks_of_their_own(world: World) -> None:
    config = EvaluationConfig(families=("order_4", "countdown"), thinking_budgets=(16, 64), items_per_family=4)
    tasks = [task for task in tasks_of(config, PhaseKind.SFT) if task.name.startswith("order_4/high")]
    assert [(task.name, task.thinking_budget) for task in tasks] == [
        ("order_4/high", 0), ("order_4/high@16", 16), ("order_4/high@64", 64),
    ]  # fmt: skip
    answers = {item["prompt"]: item["answer"] for item in generate("order_4", 4)}

    def say(prompt: Prompt, sampling: Sampling):
        if sampling.thinking_budget is None:
            return cut_off("and then", thinking_tokens=99)
        spent = min(sampling.thinking_budget, 30)
        return said(answers[str(prompt.turns[0]["content"])] if spent == 30 else "no", "t" * spent, spent)

    backend = Scripted(world.loaded_tokenizer, say)
    measures = [measure_of(task, config, Material(None), Bounds(4096)) for task in tasks]  # type: ignore[arg-type]
    results = [one for measure in measures for one in measure.ask(backend, Answers())]
    assert [(p.budget, p.accuracy, p.thinking_mean, p.cut_off) for p in effort_points(results)] == [
        (None, 0.0, 99, 1.0), (16, 0.0, 16, 0.0), (64, 1.0, 30, 0.0),
    ]  # fmt: skip
    assert {one.item for one in results} == {item["id"] for item in generate("order_4", 4)}
    assert all(prompt.mode is Mode.HIGH and sampling.temperature == 1.0 for prompt, sampling in backend.asked)
    assert len({one.seed for one in results}) == 4  # an item's, whatever the budget
    assert {measure.chance() for measure in measures} == {1 / 24}
    assert len({json.dumps(measure.declared, default=str) for measure in measures}) == 3


def test_a_budget_that_nothing_is_asked_with_is_refused() -> None:
    with pytest.raises(
        RecipeError, match="thinking_budgets has no effect: no family is asked with one; add one of arithmetic"
    ):
        load_recipe("smoke", {"evaluation.thinking_budgets": [16], "evaluation.families": ["tools"], "gates": []})
    recipe = load_recipe("smoke", {"evaluation.thinking_budgets": [16]})
    assert {"arithmetic/high@16", "countdown/high@16"} <= set(score_names(recipe, recipe.phases[-1]))
    assert "arithmetic/think@16" in score_names(recipe, recipe.phases[0])


def test_the_projects_own_model_thinks_no_longer_than_its_budget(world: World) -> None:
    item = {**generate("aime_like", 1)[0], "prompt": "Compute 1+2=", "answer": "3"}
    task = Task("aime_like", {"aime_like/high": "check"}, "aime_like", Mode.HIGH, 40)
    free, tight = (
        ask(replace(task, thinking_budget=budget), [item], (), world.backend, Answers(), 256)[0] for budget in (0, 2)
    )
    assert (free.grade, free.trace, free.thinking_tokens) == (Grade.RIGHT, "1+2=3", 5)
    assert (tight.trace, tight.thinking_tokens) == ("1+", 2)
    assert free.cluster in TEMPLATES


def test_a_model_with_little_room_is_asked_with_what_it_has(world: World) -> None:
    task = next(one for one in tasks_of(EvaluationConfig(families=("order_4",)), PhaseKind.SFT))
    backend = Scripted(world.loaded_tokenizer, lambda *_: said("no"))
    items = generate("order_4", 1)
    length = backend.tokens(Prompt.of(items[0]["prompt"], task.mode))
    assert ask(task, items, (), backend, Answers(), length + 63)[0].grade is Grade.TOO_LONG and not backend.asked
    assert ask(task, items, (), backend, Answers(), length + 64)[0].grade is Grade.WRONG
    assert backend.asked[0][1].max_new_tokens == 64
    assert ask(task, items, (), backend, Answers(), 10**6)[0].grade is Grade.WRONG
    assert backend.asked[1][1].max_new_tokens == 32_768
