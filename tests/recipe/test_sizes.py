"""`k2_1b` and `k2_8b`: derived values against ones computed by hand, and what the rules must keep."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from k2model.recipe import load_recipe
from k2model.recipe.counts import count_parameters
from k2model.recipe.k2_sizes import SIZES, derivation, sized
from k2model.recipe.memory import training_memory
from k2model.recipe.mixtures import known_sizes, plan_mixture
from k2model.recipe.overrides import row_name, value_at
from k2model.recipe.schema import Recipe

BASE = load_recipe("k2_70b")

#: 2 x 2048^2 (q, o) + 2 x 2048 x 1024 (k, v) + 3 x 2048 x 7168 (ffn) + 2 x 2048 (norms), 16 times, + 2048; of the
#: vocabulary: 250,000 x (0.906 / 68.45)^0.833 x 4 = 27,300 -> 27 x 1,024.
ONE_B = {
    "model.hidden_size": 2048, "model.n_layers": 16, "model.n_heads": 16, "model.ffn_size": 7168,
    "model.n_kv_heads": 8, "model.head_dim": 128, "model.vocab_size": 27_648, "model.init_std": 0.02,
    "phases.pretrain.global_batch": 224,  # 9,830,400 x (1/71.2)^0.383 = 1.92M tokens = 234 x 8,192; in 32s
    "phases.pretrain.steps": 94_083,  # 169.4 x 1.019e9 / (224 x 8,192)
    "phases.pretrain.optimizer.lr": 6e-4,
    "phases.pretrain.optimizer.weight_decay": 0.166,  # 1 / (0.10667 x 6e-4 x 94,083)
    "phases.mid_1.global_batch": 320, "phases.mid_2.global_batch": 40,
    "phases.mid_3.global_batch": 20, "phases.mid_4.global_batch": 5,
    "phases.mid_1.optimizer.lr": 6e-5, "phases.mid_4.parallelism.context": 8,
    "phases.pretrain.parallelism.zero_stage": 1,  # 1.02e9 x (4 + 4 + 12/8) = 9.7 GB
    "phases.sft.steps": 6_300, "phases.sft.global_batch": 128, "phases.sft.optimizer.lr": 8e-5,
    "cluster.infiniband_devices_per_node": 0,
}  # fmt: skip
EIGHT_B = {
    "model.hidden_size": 4096, "model.n_layers": 32, "model.n_heads": 32, "model.ffn_size": 14_336,
    "model.vocab_size": 74_752, "model.init_std": 0.0141,
    "phases.pretrain.global_batch": 512, "phases.pretrain.steps": 306_583,
    "phases.pretrain.optimizer.lr": 3e-4,  # Llama 3 8B's
    "phases.pretrain.optimizer.weight_decay": 0.102,
    "phases.mid_4.global_batch": 12, "phases.mid_4.parallelism.context": 16,
    "phases.pretrain.parallelism.zero_stage": 2,  # stage 1: 7.59e9 x 8.2 = 62 GB; stage 2: x 4.25 = 32 GB
    "phases.sft.steps": 6_300, "phases.sft.optimizer.lr": 4e-5,
    "cluster.infiniband_devices_per_node": 8,
}  # fmt: skip


@pytest.fixture(params=list(SIZES))
def recipe(request) -> Recipe:
    return load_recipe(request.param)


@pytest.mark.parametrize(("name", "by_hand"), [("k2_1b", ONE_B), ("k2_8b", EIGHT_B)])
def test_derived_values_are_those_computed_by_hand(name, by_hand):
    recipe = load_recipe(name)
    assert {field: value_at(recipe, field) for field in by_hand} == by_hand


def test_a_model_is_as_large_as_its_name_says(recipe):
    wanted = SIZES[recipe.name].parameters
    assert abs(count_parameters(recipe.model) / wanted - 1) < 0.1
    assert {"k2_1b": 1_019_283_456, "k2_8b": 7_591_956_480}[recipe.name] == count_parameters(recipe.model)


def test_tokens_a_parameter_and_averaging_timescales_are_k2s(recipe):
    ratio = count_parameters(recipe.model) / count_parameters(BASE.model)
    for own, theirs in zip(recipe.phases, BASE.phases, strict=True):
        wanted = theirs.tokens * (1 if own.name == "sft" else ratio)
        assert abs(own.tokens / wanted - 1) < 1e-3, own.name
        tau, k2s = (1 / (p.optimizer.lr * p.optimizer.weight_decay * p.steps) for p in (own, theirs))
        assert abs(tau / k2s - 1) < 5e-3, own.name
        assert own.optimizer.lr / theirs.optimizer.lr == pytest.approx(
            BASE.model.hidden_size / recipe.model.hidden_size
        )


def test_context_grows_as_k2s_with_equal_steps_in_mid_training(recipe):
    for field in ("sequence_length", "rope_theta", "parent", "packing", "mixing", "seed"):
        assert [getattr(p, field) for p in recipe.phases] == [getattr(p, field) for p in BASE.phases], field
    assert len({p.tokens_per_step for p in recipe.phases if p.name.startswith("mid")}) == 1


def test_shapes_and_batches_divide_as_hardware_and_layouts_need(recipe):
    model = recipe.model
    assert model.hidden_size % 1024 == model.vocab_size % 1024 == model.ffn_size % 1024 == 0
    assert model.n_heads * model.head_dim == model.hidden_size and model.n_heads % model.n_kv_heads == 0
    for phase in recipe.phases:
        layout = phase.parallelism
        workers = layout.nodes * layout.workers_per_node
        assert workers == 8 * SIZES[recipe.name].nodes
        assert phase.global_batch % (workers // layout.context * layout.micro_batch) == 0, phase.name
        assert training_memory(model, phase).peak <= 0.8 * 80e9, phase.name


def test_pre_training_keeps_k2s_shares_and_repeats_no_source_more_often(recipe):
    sizes = known_sizes(BASE)
    theirs, own = (plan_mixture(r.phase("pretrain"), sizes).portions for r in (BASE, recipe))
    for one, other in zip(theirs, own, strict=True):
        assert one.entry.name == other.entry.name and one.share == pytest.approx(other.share, rel=0.01, abs=1e-9)
        assert other.epochs <= one.epochs
    assert recipe.phase("mid_4").mixture == recipe.phase("mid_1").mixture == BASE.phase("mid_1").mixture
    assert recipe.phase("sft").mixture == BASE.phase("sft").mixture


def test_nothing_differs_from_k2_70b_that_the_derivation_does_not_name(recipe):
    named = {row.field for row in derivation(recipe)[1]}
    ours, theirs = dict(leaves(recipe)), dict(leaves(BASE))
    differing = {field for field in ours.keys() | theirs.keys() if ours.get(field) != theirs.get(field)}
    mixtures = {field for field in differing if ".mixture." in field}
    texts = {field for field in differing if field.split(".")[0] in ("name", "description", "notes")}
    assert {f"phases.{field.split('.')[1]}.mixture" for field in mixtures} <= named
    assert differing - mixtures - texts <= named
    assert all(row.rule.words and row.rule.source for row in derivation(recipe)[1])


def test_a_derivation_tells_what_was_set_in_place_of_a_value():
    base, rows = derivation(load_recipe("k2_1b", {"phases.mid_1.optimizer.lr": 1e-4}))
    (row,) = (row for row in rows if row.field == "phases.mid_1.optimizer.lr")
    assert (base, row.base, row.value, row.how) == ("k2_70b", 1.5e-5, 1e-4, "set in place of 6e-05")
    assert derivation(load_recipe("laptop")) == ("", [])


def test_what_is_derived_is_what_the_rows_say(recipe):
    for row in sized(recipe.name)[1]:
        if not row.told:
            assert value_at(recipe, row.field) == row.value and value_at(BASE, row.field) == row.base


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value of a recipe by its dotted name."""
    if is_dataclass(value):
        for field in fields(value):
            yield from leaves(getattr(value, field.name), f"{path}.{field.name}".lstrip("."))
    elif isinstance(value, tuple):
        for position, element in enumerate(value):
            name = row_name(element) if is_dataclass(element) else position
            yield from leaves(element, f"{path}.{name}")
    else:
        yield path, value
