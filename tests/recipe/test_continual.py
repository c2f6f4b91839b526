"""What a recipe may say of going on, and what of it is refused before anything is trained."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from k2model.artifacts import fingerprint
from k2model.recipe import RECIPES, OverrideError, RecipeError, load_recipe
from k2model.recipe.continual import AllowedLoss, ContinualConfig, Rewarming
from k2model.recipe.continual_problems import cron_problem
from k2model.recipe.writing import recipe_as_python
from k2model.release.bundle import recipe_as_json


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_recipe_has_a_line_with_a_base_and_bears_the_identity_it_had_without(name: str) -> None:
    recipe = load_recipe(name)
    without = replace(recipe, continual=ContinualConfig())
    assert (recipe.continual.tuned, recipe.continual.base) == ("sft", "mid_4")
    assert fingerprint(recipe_as_json(recipe)) == fingerprint(recipe_as_json(without))
    assert "continual" not in json.dumps(recipe_as_json(recipe)["phases"])
    assert not ContinualConfig() and recipe.continual


def test_overrides_reach_all_of_it() -> None:
    changes = {
        "continual.replay": "0.3",
        "continual.rewarming": "infinite",
        "continual.guard.min_tokens": 99,
        "continual.allowed_loss.loss/*.allowed": 0.5,
        "continual.allowed_loss.+": {"scores": "arithmetic/*", "allowed": 0.2},
        "continual.targets": '["facts/chat_heldout"]',
        "continual.schedules.turn": "",
    }
    found = load_recipe("laptop", changes).continual
    assert (found.replay, found.rewarming, found.guard.min_tokens) == (0.3, Rewarming.INFINITE, 99)
    assert found.allowed_loss[0] == AllowedLoss("loss/*", 0.5) and found.allowed_loss[-1].scores == "arithmetic/*"
    assert found.targets == ("facts/chat_heldout",) and found.schedules.turn == ""
    with pytest.raises(OverrideError, match="unknown name 'replays'"):
        load_recipe("laptop", {"continual.replays": 1})


def test_a_file_of_ones_own_carries_it(tmp_path: Any) -> None:
    recipe = load_recipe("laptop", {"name": "mine", "continual.replay": 0.3, "continual.notify.email": ["a@b.org"]})
    file = tmp_path / "mine.py"
    file.write_text(recipe_as_python(recipe, "mine.py", "laptop", None))
    assert load_recipe(str(file)) == recipe and "replay=0.3" in file.read_text()


PROBLEMS: list[tuple[dict[str, Any], str]] = [
    ({"tuned": "sfd"}, r"continual\.tuned='sfd': no such phase; did you mean 'sft'.*Or set it to \"\" for no such"),
    ({"tuned": "mid_1"}, r"continual\.tuned='mid_1' is a phase of kind midtrain; name one of fine-tuning \(kind sft"),
    ({"base": "mid_5"}, r"continual\.base='mid_5': no such phase.*a line that takes dialogues alone"),
    ({"base": "mid_3"}, r"continual\.base='mid_3', but phase 'sft' starts from 'mid_4'.*Set continual\.base='mid_4'"),
    ({"replay": 1.0}, r"continual\.replay=1 must be at least 0 and below 1"),
    ({"replay": -0.1}, r"continual\.replay=-0\.1 must be at least 0"),
    ({"replay": float("nan")}, r"continual\.replay=nan must be"),
    ({"base_replay": 1.5}, r"continual\.base_replay=1\.5 must be at least 0 and at most 1"),
    ({"epochs": 0.0}, r"continual\.epochs=0 must be above 0"),
    ({"peak": float("inf")}, r"continual\.peak=inf must be above 0"),
    ({"warmup": 1.0}, r"continual\.warmup=1 must be at least 0 and below 1"),
    ({"rewarming": "infinite", "final": 0.0}, r"continual\.final=0: an infinite schedule anneals by equal factors"),
    ({"confidence": 0.5}, r"continual\.confidence=0\.5 must be above 0\.5 and below 1"),
    ({"canary.items": -1}, r"continual\.canary\.items=-1 must be at least 0"),
    ({"arrival.max_copies": 1.5}, r"continual\.arrival\.max_copies=1\.5 must be at least 0 and at most 1"),
    ({"arrival.implausible_quantile": 0.5}, r"continual\.arrival\.implausible_quantile=0\.5 must be .* below 0\.5"),
    ({"guard.min_tokens": 0}, r"continual\.guard\.min_tokens=0 must be at least 1"),
    ({"guard.budget_tokens": -1}, r"continual\.guard\.budget_tokens=-1 must be at least 0"),
    ({"guard.budget_tokens": 100}, r"continual\.guard\.budget_tokens=100 is less than one turn takes"),
    ({"guard.budget_money": 5.0}, r"continual\.guard\.budget_money=5 needs a price; set cluster\.price_per_gpu_hour"),
    ({"guard.max_tokens": 900_000}, r"max_tokens=900,000 is less than a step of the base and fine-tuning again takes"),
    ({"guard.max_tokens": 2000, "base": ""}, r"max_tokens=2,000 is less than one step takes \(2,048 tokens\)"),
    ({"allowed_loss": [{"scores": "arithmatic/*", "allowed": 0.1}]}, r"no score of phase 'sft' is called 'arithmatic"),
    ({"allowed_loss": [{"scores": "loss/*", "allowed": -0.1}]}, r"loss/\*\.allowed=-0\.1 must be at least 0"),
    ({"targets": ["facts/chat_helduot"]}, r"continual\.targets: no score.*did you mean 'facts/chat_heldout'"),
    ({"schedules.turn": "0 2 * *"}, r"continual\.schedules\.turn='0 2 \* \*' has 4 fields, expected 5"),
    ({"schedules.release": "0 25 1 * *"}, r"release='0 25 1 \* \*' has the hour '25', expected values from 0"),
    ({"notify.email": ["nobody"]}, r"continual\.notify\.email has 'nobody', which is no address"),
    ({"notify.slack_env": "https://hooks.org/x"}, r"slack_env must be the name of an environment variable, e\.g\. K2"),
    ({"notify.attempts": 0}, r"continual\.notify\.attempts=0 must be at least 1"),
    ({"inbox": "s3://me:secret@bucket/inbox"}, r"continual\.inbox='s3://\*\*\*@bucket/inbox' holds a user, password"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "told"), PROBLEMS)
def test_what_is_wrong_is_said_with_its_field_and_a_remedy(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told) as raised:
        load_recipe("laptop", {f"continual.{field}": value for field, value in changes.items()})
    assert "me:secret" not in str(raised.value)


def test_a_webhook_is_never_shown_where_its_address_stands_in_place_of_a_name() -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe("laptop", {"continual.notify.webhook_env": "https://hooks.example.org/T0/B0/abc"})
    assert "abc" not in str(raised.value)


def test_the_same_pattern_twice_is_refused_and_patterns_of_losses_and_safety_are_not_looked_up() -> None:
    one = {"scores": "loss/rivers", "allowed": 0.1}
    load_recipe("laptop", {"continual.allowed_loss": [one, {"scores": "safety/fraud/*", "allowed": 0.0}]})
    with pytest.raises(OverrideError, match="there is a row 'loss/rivers' already"):
        load_recipe("laptop", {"continual.allowed_loss": [one, one]})


def test_cron_expressions_are_judged_as_the_library_of_the_orchestrator_does() -> None:
    croniter = pytest.importorskip("croniter").croniter
    sound = ["* * * * *", "*/5 0-6,22 1 jan-mar mon", "0 2 * * 6", "59 23 31 12 7", "5/10 * * * sun,tue"]
    broken = [
        "60 * * * *",
        "* * 0 * *",
        "* * * 13 *",
        "*/0 * * * *",
        "a * * * *",
        "* * * * funday",
        "* * *",
        "-1 * * * *",
    ]
    for expression in sound:
        assert cron_problem(expression) is None and croniter.is_valid(expression), expression
    for expression in broken:
        assert cron_problem(expression) is not None and not croniter.is_valid(expression), expression
    rng = random.Random(7)
    for _ in range(300):
        expression = " ".join(
            f"{rng.randint(low, high)}{rng.choice(['', f'/{rng.randint(1, 4)}'])}" if rng.random() < 0.7 else "*"
            for low, high in ((0, 61), (0, 25), (0, 33), (0, 14), (0, 8))
        )
        assert (cron_problem(expression) is None) == croniter.is_valid(expression), expression
