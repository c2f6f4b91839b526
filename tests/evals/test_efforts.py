"""Accuracy against thinking spent: counted by hand, and a model whose trace is closed for it."""

import pytest
import torch

from k2model.documents.families.generated import generate
from k2model.evals.backend import Prompt, Sampling
from k2model.evals.backends.own import OwnModel
from k2model.evals.efforts import ask_at_budgets, effort_points
from k2model.evals.items import Grade, ItemResult
from k2model.recipe.evaluation import Mode
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


def test_items_are_asked_once_at_each_budget(world: World) -> None:
    items = generate("order_4", 4)
    answers = {item["prompt"]: item["answer"] for item in items}

    def say(prompt: Prompt, sampling: Sampling):
        if sampling.thinking_budget is None:
            return cut_off("and then", thinking_tokens=sampling.max_new_tokens)
        spent = min(sampling.thinking_budget, 30)
        knows = spent >= 30
        return said(answers[str(prompt.turns[0]["content"])] if knows else "no", "t" * spent, spent)

    backend = Scripted(world.loaded_tokenizer, say)
    results = ask_at_budgets(backend, items, Mode.HIGH, (0, 16, 64, None), Sampling(max_new_tokens=20, seed=3))
    assert [(p.budget, p.accuracy, p.thinking_mean, p.cut_off) for p in effort_points(results)] == [
        (0, 0.0, 0, 0.0), (16, 0.0, 16, 0.0), (64, 1.0, 30, 0.0), (None, 0.0, 20, 1.0),
    ]  # fmt: skip
    assert [r.score for r in results[::4]] == ["order_4/high@0", "order_4/high@16", "order_4/high@64", "order_4/high"]
    assert [r.item for r in results] == [item["id"] for item in items] * 4
    assert {sampling.max_new_tokens for _, sampling in backend.asked} == {21, 37, 85, 20}
    assert all(prompt.mode is Mode.HIGH and sampling.seed == 3 for prompt, sampling in backend.asked)


def test_a_mode_without_a_trace_has_no_budget(world: World) -> None:
    backend = Scripted(world.loaded_tokenizer, lambda *_: said("x"))
    for mode in (Mode.COMPLETION, Mode.DIRECT):
        with pytest.raises(ValueError, match=f"mode {mode.value} has no trace"):
            ask_at_budgets(backend, generate("order_4", 1), mode, (4,), Sampling(4))


def test_the_projects_own_model_thinks_no_longer_than_its_budget(world: World) -> None:
    own = OwnModel(world.model, world.loaded_tokenizer, precision=torch.float32)
    item = {**generate("aime_like", 1)[0], "prompt": "Compute 1+2=", "answer": "3"}
    free, tight = ask_at_budgets(own, [item], Mode.HIGH, (None, 2), Sampling(40))
    assert (free.grade, free.trace, free.thinking_tokens) == (Grade.RIGHT, "1+2=3", 5)
    assert (tight.trace, tight.thinking_tokens) == ("1+", 2)
