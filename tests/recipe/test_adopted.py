"""What a recipe may say of models from outside, before anything of them is read."""

from dataclasses import replace
from typing import Any

import pytest

from k2model.recipe import Recipe, RecipeError, apply_overrides
from k2model.recipe.continual import ContinualConfig
from k2model.recipe.fields import identity_fields
from k2model.recipe.laptop import smoke
from k2model.recipe.schema import AdoptedModel
from k2model.recipe.validate import validate_recipe
from k2model.release.bundle import recipe_as_json

THEIRS = AdoptedModel("theirs", "llama3.1", 1e4, 8192, location="/models/theirs")


def starting(first_phase: str = "mid_1", **changed: Any) -> Recipe:
    """The smoke recipe from `first_phase` on, which begins with an adopted model."""
    base = smoke()
    begins = [phase.name for phase in base.phases].index(first_phase)
    first = replace(base.phases[begins], parent="theirs", keep_optimizer_state=False)
    model = replace(THEIRS, **{"rope_theta": first.rope_theta, **changed})
    gates = tuple(gate for gate in base.gates if gate.phase in [p.name for p in base.phases[begins:]])
    return replace(
        base, phases=(first, *base.phases[begins + 1 :]), gates=gates, adopted=(model,), continual=ContinualConfig()
    )


def test_phases_may_start_anywhere() -> None:
    for name in ("pretrain", "mid_1", "sft"):
        recipe = starting(name)
        validate_recipe(recipe)
        assert recipe.origin("sft") == recipe.adopted[0] and recipe.trained_length("sft") == 8192
    assert smoke().origin("sft") is None


PROBLEMS: list[tuple[dict[str, Any], str]] = [
    ({"location": ""}, r"adopted\.theirs\.location is empty"),
    ({"location": "s3://me:secret@host/x"}, r"adopted\.theirs\.location='s3://\*\*\*@host/x' holds"),
    ({"source": "https://x.org/?token=secret"}, r"adopted\.theirs\.source=.*token=\*\*\*"),
    ({"licence": ""}, r"adopted\.theirs\.licence='' is no licence id; name the one under which its weights were pub"),
    ({"sequence_length": 0}, r"adopted\.theirs\.sequence_length=0 must be its config\.json's max_position"),
    ({"rope_theta": -1.0}, r"adopted\.theirs\.rope_theta=-1\.0 must be positive"),
    ({"name": "Theirs"}, "an adopted model is named 'Theirs'"),
    ({"name": "sft"}, "must be unique"),
    ({"name": "other"}, r"adopted\.other: no phase starts from it"),
]


@pytest.mark.parametrize(("changed", "told"), PROBLEMS)
def test_what_is_wrong_is_named(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told) as refused:
        validate_recipe(starting(**changed))
    assert "secret" not in str(refused.value)


OVERRIDES: list[tuple[dict[str, Any], str]] = [
    ({"phases.sft.parent": "their"}, r"an earlier phase or an adopted model \(theirs\); did you mean 'theirs'"),
    ({"phases.sft.keep_optimizer_state": True}, "gives its weights alone; set keep_optimizer_state=False"),
    ({"phases.sft.rope_theta": 1e4}, r"rope_theta=10000, but adopted\.theirs was trained with 300000"),
    ({"phases.sft.rope_theta": 1e6}, "It may be raised, by a phase that is no fine-tuning"),
]


@pytest.mark.parametrize(("overrides", "told"), OVERRIDES)
def test_how_a_phase_starts_is_checked(overrides: dict[str, Any], told: str) -> None:
    # A second phase keeps the model in use where the first is given another parent.
    recipe = starting("sft")
    also = replace(recipe.phases[0], name="other")
    with pytest.raises(RecipeError, match=told):
        validate_recipe(apply_overrides(replace(recipe, phases=(*recipe.phases, also)), overrides))


def test_an_optimizer_state_is_kept_where_the_recipe_says_that_it_comes_along() -> None:
    validate_recipe(apply_overrides(starting("sft", training_state=True), {"phases.sft.keep_optimizer_state": True}))


def test_mid_training_may_raise_theta() -> None:
    validate_recipe(starting("mid_1", rope_theta=5e3))


def test_recipes_without_adopted_models_are_what_they_were() -> None:
    told = recipe_as_json(smoke())
    assert "adopted" not in told and "release_training_state" not in told
    complete = recipe_as_json(replace(starting(), release_training_state=True))
    assert complete["adopted"][0]["location"] == "" and complete["release_training_state"] is True
    assert "adopted" not in [field.name for field in identity_fields(smoke())]
