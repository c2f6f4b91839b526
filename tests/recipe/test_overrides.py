"""Dotted overrides are typed, reach every field, and never pass silently."""

import pytest

from k2model.recipe import OverrideError, load_recipe
from k2model.recipe.schema import Packing


def test_overrides_reach_nested_fields_and_leave_the_rest_alone():
    plain = load_recipe("laptop")
    changed = load_recipe("laptop", {"phases.sft.optimizer.lr": 1e-5, "phases.sft.mixture.prose.weight": 4})
    assert changed.phase("sft").optimizer.lr == 1e-5
    assert {e.source: e.weight for e in changed.phase("sft").mixture}["prose"] == 4.0
    assert changed.phases[:-1] == plain.phases[:-1]
    assert changed.model == plain.model


@pytest.mark.parametrize(
    ("path", "given", "stored"),
    [
        ("phases.sft.steps", 100.0, 100),
        ("phases.sft.steps", "120", 120),
        ("phases.sft.optimizer.lr", "1e-5", 1e-5),
        ("phases.sft.rope_theta", 5, 5.0),
        ("phases.sft.keep_optimizer_state", "false", False),
        ("phases.sft.packing", "concatenate", Packing.CONCATENATE),
        ("notes", ["a", "b"], ("a", "b")),
    ],
)
def test_values_are_converted_to_the_field_type(path, given, stored):
    value = load_recipe("laptop", {path: given})
    for part in path.split("."):
        value = (
            value.phase(part)
            if part == "sft"
            else (value.phases and value)
            if part == "phases"
            else getattr(value, part)
        )
    assert value == stored
    assert type(value) is type(stored)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("phases.sft.optimizer.lrr", 1.0, "unknown name 'lrr'; did you mean 'lr'"),
        ("phases.stf.optimizer.lr", 1.0, "did you mean 'sft'"),
        ("learning_rate", 1.0, "unknown name 'learning_rate'"),
        ("phases.sft.steps", "ten", "is str, expected int"),
        ("phases.sft.steps", 1.5, "is float, expected int"),
        ("phases.sft.steps", True, "is bool, expected int"),
        ("phases.sft.keep_optimizer_state", 1, "is int, expected bool"),
        ("phases.sft.optimizer.name", "adam", "did you mean 'adamw'"),
        ("phases.sft.optimizer", 1, "names a group"),
        ("phases.sft", 1, "names a whole row"),
        ("gates.mid_4.minimum", 0.1, "rows are called 'mid_4'"),
        ("phases", 1, "names a group"),
        ("phases.sft.optimizer.lr.x", 1, "goes below a plain value"),
    ],
)
def test_wrong_overrides_are_refused(path, value, message):
    with pytest.raises(OverrideError, match=message):
        load_recipe("laptop", {path: value})
