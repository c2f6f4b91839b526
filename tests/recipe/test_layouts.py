"""Which layouts fit: refusals with the nearest that does, and the ranking."""

from dataclasses import replace

import pytest

from k2model.recipe import RecipeError, load_recipe
from k2model.recipe.cluster import GPUS
from k2model.recipe.layouts import candidate, fit_problem, ranked_layouts
from k2model.recipe.memory import FITS, held_parameters, training_memory
from k2model.recipe.parallelism import layout_problem
from k2model.recipe.schema import Recompute

K2 = load_recipe("k2_70b")
H100, H200 = GPUS["H100-80GB"], GPUS["H200"]


def test_k2_70b_fits_its_gpus_and_says_what_80_gb_take() -> None:
    assert K2.cluster.gpu == "H200"
    for phase in K2.phases:
        assert fit_problem(K2.model, phase, H200) is None
    problems = {phase.name: fit_problem(K2.model, phase, H100) for phase in K2.phases}
    assert [name for name, problem in problems.items() if problem] == ["sft"]  # two passes a step keep whole gradients
    assert problems["sft"].endswith("The nearest that fits (56 GB): zero_stage=2")


def test_a_layout_that_does_not_fit_is_refused_when_the_recipe_is_resolved() -> None:
    with pytest.raises(RecipeError, match=r"phases.mid_2.parallelism takes \d{3} GB .* fits .*: context=4"):
        load_recipe("k2_70b", {"phases.mid_2.parallelism.recompute": "none"})
    with pytest.raises(RecipeError, match="did you mean 'H200'"):
        load_recipe("k2_70b", {"cluster.gpu": "H20"})
    with pytest.raises(RecipeError, match="No layout over 1 nodes fits: take more nodes"):
        load_recipe("k2_70b", {"phases.sft.parallelism.nodes": "1", "cluster.gpu": "A100-80GB",
                               "phases.sft.parallelism.zero_stage": "3"})  # fmt: skip
    assert load_recipe("k2_70b", {"phases.mid_2.parallelism.recompute": "none", "cluster.gpu": ""})  # nothing is known


def test_the_nearest_that_is_offered_resolves() -> None:
    sft = {"cluster.gpu": "H100-80GB"}
    with pytest.raises(RecipeError, match=r"phases.sft.*: zero_stage=2"):
        load_recipe("k2_70b", sft)
    assert load_recipe("k2_70b", {**sft, "phases.sft.parallelism.zero_stage": "2"})


def test_ranked_layouts_work_fit_and_are_sorted() -> None:
    for phase in K2.phases:
        found = ranked_layouts(K2.model, phase, H100, phase.parallelism.nodes)
        assert found, phase.name
        assert [one.seconds for one in found] == sorted(one.seconds for one in found)
        for one in found:
            assert layout_problem(K2.model, replace(phase, parallelism=one.layout)) is None
            assert one.memory.peak <= FITS * 80e9 and one.seconds >= one.arithmetic


def test_what_a_layout_costs_by_hand() -> None:
    """Of mid_1: 4,096 tokens a GPU, tensor 8 in a node, 400 replicas over the network, all recomputed."""
    phase = K2.phase("mid_1")
    one = candidate(K2.model, phase, phase.parallelism, H200)
    tokens = 1_600 * 8_192
    flops = 4 / 3 * (6 * (72_548_360_192 - 250_000 * 8_192) * tokens + 12 * 80 * 8_192 * tokens * 8_192)
    assert one.arithmetic == pytest.approx(flops / (3_200 * 989e12 * 0.6))
    sent = 80 * 14 * (tokens / 400) * 8_192 * 2 * 7 / 8 / 450e9
    shared = 2 * 4 * held_parameters(K2.model, 8) * 399 / 400 / 50e9
    assert one.seconds == pytest.approx(one.arithmetic + sent + shared)


def test_memory_by_hand() -> None:
    phase = K2.phase("pretrain")
    memory = training_memory(K2.model, phase)
    gains = 161 * 8_192
    held = (72_548_360_192 - gains) / 8 + gains
    assert memory.weights == pytest.approx(4 * held + 2 * 8_192 * 128 * 4)
    assert memory.optimizer == pytest.approx(12 * held / 400) and memory.gradients == pytest.approx(4 * held / 400)
    assert memory.kept == 80 * 3 * 8_192 / 8 * 8_192 * 2  # each block's input, bf16, an eighth of the positions
    wide = replace(phase, bf16_residual=False)
    assert training_memory(K2.model, wide).kept == 2 * memory.kept
    kept = [
        training_memory(K2.model, phase, replace(phase.parallelism, recompute=how)).kept
        for how in (Recompute.FULL, Recompute.SELECTIVE, Recompute.NONE)
    ]
    assert kept == sorted(kept) and kept[2] > 8 * kept[0]


def test_zero_3_gathers_a_head_that_is_larger_than_its_bound() -> None:
    """250,000 x 8,192 values of fp32, where DeepSpeed would hold 1e9 of smaller ones."""
    phase = K2.phase("pretrain")
    layout = replace(phase.parallelism, tensor=1, zero_stage=3)
    memory = training_memory(K2.model, phase, layout)
    assert memory.moment == "loss"
    there = memory.weights + memory.optimizer + memory.kept + memory.head + memory.gradients
    assert memory.peak - there == pytest.approx(4 * 250_000 * 8_192)
