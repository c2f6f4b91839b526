"""The planner's memory against measured peaks of real steps, and against steps of k2_70b on tensors without content."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from k2model.recipe import load_recipe
from k2model.recipe.memory import FITS, training_memory
from k2model.recipe.schema import ModelConfig, PhaseConfig, Recompute
from tests.training.job import phase
from tests.training.memory import imagined_peak, measured_peak
from tests.training.workers import run_workers

MODEL = ModelConfig(
    vocab_size=1024, hidden_size=256, n_layers=4, n_heads=4, n_kv_heads=2, head_dim=64, ffn_size=896, init_std=0.02
)
FP32 = 4
K2 = load_recipe("k2_70b")
#: Workers, tensor, context, ZeRO, recomputation; beside them the whole grid was measured once (docs/planning.md).
REAL = [
    (1, 1, 1, 1, "full"),
    (2, 1, 1, 2, "none"),
    (2, 2, 1, 0, "selective"),
    (2, 1, 2, 3, "full"),
]


def measured(workers: int, tensor: int, context: int, zero_stage: int, recompute: str) -> PhaseConfig:
    return phase(
        optimizer_name="adamw", precision="fp32", sequence_length=256, global_batch=4, micro_batch=2,
        workers_per_node=workers, tensor=tensor, context=context, zero_stage=zero_stage,
        recompute=Recompute(recompute),
    )  # fmt: skip


@pytest.mark.parametrize("case", REAL, ids=lambda case: "-".join(map(str, case)))
def test_the_plan_is_within_15_percent_of_real_steps(tmp_path: Path, case: Any) -> None:
    config = measured(*case)
    peaks = run_workers(case[0], tmp_path, measured_peak, MODEL, config)
    assert training_memory(MODEL, config, products=FP32).peak == pytest.approx(max(peaks), rel=0.15)


def one_pass(config: PhaseConfig, zero_stage: int) -> PhaseConfig:
    """One micro-batch a step. Without ZeRO every gradient is kept whole, with it none once it is reduced."""
    layout = replace(config.parallelism, zero_stage=zero_stage)
    data = layout.nodes * layout.workers_per_node // (layout.tensor * layout.context)
    return replace(config, global_batch=layout.micro_batch * data, parallelism=layout)


@pytest.mark.parametrize("config", K2.phases, ids=lambda config: config.name)
def test_the_plan_is_within_15_percent_of_a_step_of_k2_70b_without_content(config: PhaseConfig) -> None:
    """Forward and backward of all 80 layers on the meta device, with the groups of the phase's own layout: weights and
    gradients whole; the optimizer and ZeRO's buffers are not in it."""
    planned = training_memory(K2.model, one_pass(config, zero_stage=0))
    weights, peak, strays = imagined_peak(K2.model, config)
    assert not strays, "a tensor was made on another device than its operands"
    assert planned.weights == pytest.approx(weights, rel=1e-3)
    assert planned.peak - planned.optimizer == pytest.approx(peak, rel=0.15)
    assert training_memory(K2.model, config).peak < FITS * 141e9


def test_a_step_whose_gradients_are_shared_out() -> None:
    config, model = one_pass(K2.phase("mid_2"), zero_stage=1), replace(K2.model, n_layers=20)
    planned = training_memory(model, config)
    _, peak, _ = imagined_peak(model, config, keep_gradients=False)
    assert planned.peak - planned.optimizer - planned.buffers == pytest.approx(peak, rel=0.15)
