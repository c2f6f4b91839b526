"""Every layout that cannot work is refused by name before anything starts; K2's own layouts pass."""

from dataclasses import replace

import pytest

from k2model.recipe import RecipeError, load_recipe
from k2model.recipe.parallelism import layout_problem
from k2model.recipe.schema import OptimizerName


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"phases.sft.parallelism.zero_stage": 4}, r"zero_stage=4; there are \(0, 1, 2, 3\)"),
        ({"phases.sft.parallelism.context": 0}, "context=0 must be at least 1"),
        ({"phases.sft.parallelism.micro_batch": -1}, "micro_batch=-1 must be at least 0"),
        ({"phases.sft.parallelism.loader_cache_gb": 0}, "loader_cache_gb=0.0 must be above 0"),
        ({"phases.sft.parallelism.loader_wait_seconds": -1}, "loader_wait_seconds=-1.0 must be at least 0"),
        ({"phases.mid_4.parallelism.workers_per_node": 3}, "multiple of the 3 data-parallel workers"),
        ({"phases.mid_4.parallelism.tensor": 4}, "2 workers must be a multiple of tensor x context = 4 x 1 = 4"),
        ({"phases.mid_4.parallelism.tensor": 2}, "tensor=2 must divide model.n_heads=3"),
        (
            {
                "phases.mid_4.parallelism.tensor": 2,
                "model.n_heads": 4,
                "model.n_kv_heads": 1,
                "phases.mid_4.optimizer.name": "adamw",
            },
            "tensor=2 must divide model.n_kv_heads=1",
        ),
        ({"phases.mid_4.parallelism.context": 2}, "context=2 must divide the 3 query heads of a worker"),
        ({"phases.sft.parallelism.zero_stage": 1}, "zero_stage=1 cuts matrices into pieces, and optimizer.name=muon"),
        ({"phases.sft.parallelism.offload": True}, "offload moves the optimizer state that ZeRO shares out"),
        ({"phases.sft.checkpoints.keep_every": 150}, "keep_every=150 must be a multiple of save_every=100"),
        ({"phases.sft.checkpoints.keep_last": 0}, "keep_last=0 must be at least 1"),
        ({"phases.sft.spikes.threshold": 0}, "threshold=0.0 must be positive"),
        ({"phases.sft.spikes.window": 1}, "spikes.window=1 must be at least 8"),
        ({"phases.sft.bf16_residual": True, "phases.sft.precision": "fp32"}, "bf16_residual=true rounds the stream"),
        ({"phases.sft.z_loss": -1}, "z_loss=-1.0 must be a number, 0 or above"),
    ],
)
def test_impossible_layouts_are_refused_by_name(overrides, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("laptop", overrides)


@pytest.mark.parametrize(("tensor", "context", "length"), [(1, 3, 128), (3, 1, 128), (3, 3, 129)])
def test_a_sequence_that_cannot_be_cut_evenly_is_refused(tensor, context, length):
    """Tensor parallelism cuts the slice that context parallelism leaves."""
    model = replace(load_recipe("laptop").model, n_heads=9, n_kv_heads=3, ffn_size=300, vocab_size=300)
    phase = load_recipe("laptop").phase("sft")
    phase = replace(
        phase,
        sequence_length=length,
        optimizer=replace(phase.optimizer, name=OptimizerName.ADAMW),
        parallelism=replace(phase.parallelism, tensor=tensor, context=context, workers_per_node=tensor * context),
    )
    assert f"must be a multiple of parallelism.context x tensor = {context} x {tensor}" in layout_problem(model, phase)
    assert layout_problem(model, replace(phase, sequence_length=9 * length)) is None


def test_an_elastic_job_is_measured_by_the_workers_it_has():
    recipe = load_recipe("laptop")
    assert layout_problem(recipe.model, recipe.phase("mid_4"), workers=1) is None
    assert "multiple of the 3 data-parallel workers" in layout_problem(recipe.model, recipe.phase("mid_4"), workers=3)


def test_k2s_longest_stage_is_tensor_8_by_context_8_with_one_key_head_a_worker():
    recipe = load_recipe("k2_70b")
    layout = recipe.phase("mid_4").parallelism
    assert (layout.tensor, layout.context, layout.nodes * layout.workers_per_node) == (8, 8, 1600)
    assert recipe.model.n_kv_heads // layout.tensor == 1
    assert layout_problem(recipe.model, recipe.phase("mid_4")) is None
