"""Blocks computed again in the backward pass: the same bits, little memory, and DeepSpeed's hooks satisfied."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from k2model.model.transformer import K2Model
from tests.model.conftest import SMALL
from tests.model.workers import together

LENGTH, RATE = 150, 0.01


def built(recompute: bool, layers: int = SMALL.n_layers) -> K2Model:
    torch.manual_seed(0)
    return K2Model(replace(SMALL, n_layers=layers), 1e4, 300, recompute=recompute)


def loss_of(model: K2Model, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 97, (2, LENGTH), generator=random)
    document = (torch.arange(LENGTH) // 40).expand(2, -1)
    return model.loss(tokens, tokens.roll(-1, dims=1), document, z_loss=0.01)[0]


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("backward_inside", [False, True], ids=["outside", "inside"])
def test_recomputed_gradients_are_the_same_bits(bf16: bool, backward_inside: bool) -> None:
    """Also where the backward pass runs inside autocast, whose cache then holds casts without history."""
    results = []
    for recompute in (False, True):
        model = built(recompute)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = loss_of(model)
            if backward_inside:
                loss.backward()
        if not backward_inside:
            loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.parameters())])
    assert all(torch.equal(kept, again) for kept, again in zip(*results, strict=True))


def kept_elements(model: K2Model) -> int:
    """Of all tensors autograd keeps for backward, parameters aside."""
    parameters = {p.data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_of(model)
    assert loss.requires_grad
    return sum(kept.values())


def test_a_block_more_keeps_its_input_alone() -> None:
    inputs = 2 * LENGTH * SMALL.hidden_size
    assert kept_elements(built(True, layers=4)) - kept_elements(built(True, layers=3)) == inputs
    assert kept_elements(built(False, layers=4)) - kept_elements(built(False, layers=3)) > 5 * inputs


def test_no_compiler_is_imported() -> None:
    program = (
        "import sys, torch; from tests.model.test_recompute import *; loss_of(built(True)).backward();"
        "assert not {'torch._dynamo', 'torch._inductor'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


class Trained(torch.nn.Module):
    def __init__(self, model: K2Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, seed: int) -> torch.Tensor:
        return loss_of(self.model, seed)


def under_deepspeed(rank: int) -> dict[str, Any]:
    """For each ZeRO stage the weights after one plain gradient step of two workers with a row batch each."""
    from deepspeed import comm

    from k2model.training.world import World

    with World(rank, 2).joined():
        comm.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False)
        return {str(stage): one_step(stage, rank) for stage in range(4)}


def one_step(stage: int, rank: int) -> dict[str, torch.Tensor]:
    import deepspeed
    from deepspeed.utils import safe_get_full_fp32_param

    model = Trained(built(recompute=True))
    config = {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_clipping": 0.0,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config, dist_init_required=False)
    engine.backward(engine(rank))
    engine.step()
    read = safe_get_full_fp32_param if stage else lambda parameter: parameter.data
    return {name: read(parameter).clone() for name, parameter in model.model.named_parameters()}


def test_deepspeed_trains_a_recomputed_model_as_plain_torch_does(tmp_path: Path) -> None:
    workers = together(tmp_path, 2, under_deepspeed)
    plain = built(recompute=False)
    (sum(loss_of(plain, seed) for seed in range(2)) / 2).backward()
    for name, parameter in plain.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1
        expected = parameter.detach() - RATE * parameter.grad
        for stage, weights in [pair for worker in workers for pair in worker.items()]:
            torch.testing.assert_close(weights[name], expected, rtol=1e-5, atol=1e-5, msg=f"{name} at ZeRO {stage}")
