"""Parameter and operation counts against published numbers and torch's own counter."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from k2model.model import count_parameters, training_flops
from k2model.model.transformer import K2Model
from k2model.recipe.laptop import laptop
from k2model.recipe.schema import ModelConfig
from tests.model.conftest import SMALL

K2_V2 = ModelConfig(
    vocab_size=250_000, hidden_size=8192, n_layers=80, n_heads=64, n_kv_heads=8, head_dim=128, ffn_size=28_672
)


def test_k2_v2_has_its_parameters_by_formula_and_by_tensors() -> None:
    assert count_parameters(K2_V2) == 72_548_360_192
    with torch.device("meta"):
        model = K2Model(K2_V2, 5e5, 16)
    assert sum(p.numel() for p in model.parameters()) == 72_548_360_192


def test_small_models_count_as_built() -> None:
    for config in (SMALL, laptop().model):
        assert count_parameters(config) == sum(p.numel() for p in K2Model(config, 1e4, 8).parameters())


def test_flops_agree_with_torchs_counter() -> None:
    length = 64
    with torch.device("meta"):
        model = K2Model(K2_V2, 5e5, length)
        tokens = torch.zeros(1, length, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        model(tokens).sum().backward()
    counted = counter.get_total_flops() / length
    # The counter knows nothing of the norms, whose gains the formula's N includes.
    assert abs(counted / training_flops(K2_V2, 1, length) - 1) < 1e-4
