"""Blocks computed again in the backward pass: the same bits, little memory, and DeepSpeed's hooks satisfied."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from k2model.model.transformer import K2Model
from k2model.recipe.schema import Recompute
from tests.model.conftest import SMALL, kept_for_backward
from tests.model.workers import together

LENGTH, RATE = 150, 0.01


def built(recompute: Recompute, layers: int = SMALL.n_layers) -> K2Model:
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
    for recompute in Recompute:
        model = built(recompute)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = loss_of(model)
            if backward_inside:
                loss.backward()
        if not backward_inside:
            loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.parameters())])
    assert all(
        torch.equal(kept, selective) and torch.equal(kept, full) for kept, selective, full in zip(*results, strict=True)
    )


def test_what_a_block_more_keeps() -> None:
    """In fp32. Selectively: all but the results of both norms and SwiGLU's product; fully: the input alone."""
    kept = {}
    for recompute in Recompute:
        three, four = (built(recompute, layers) for layers in (3, 4))
        more = kept_for_backward(four, loss_of) - kept_for_backward(three, loss_of)
        kept[recompute] = more / (4 * 2 * LENGTH)  # numbers a position
    hidden, ffn = SMALL.hidden_size, SMALL.ffn_size
    assert kept[Recompute.FULL] == hidden
    assert kept[Recompute.NONE] - kept[Recompute.SELECTIVE] == 2 * hidden + ffn
    assert kept[Recompute.SELECTIVE] > 2 * hidden + 2 * ffn


def test_no_compiler_is_imported() -> None:
    program = (
        "import sys, torch; from tests.model.test_recompute import *; loss_of(built(Recompute.FULL)).backward();"
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
    """For each ZeRO stage and way to recompute: the weights after one plain gradient step of two workers with a row
    batch each."""
    from deepspeed import comm

    from k2model.training.world import World

    with World(rank, 2).joined():
        comm.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False)
        return {f"{how.value} at ZeRO {stage}": one_step(stage, rank, how) for stage in range(4) for how in Recompute}


def one_step(stage: int, rank: int, recompute: Recompute) -> dict[str, torch.Tensor]:
    import deepspeed
    from deepspeed.utils import safe_get_full_fp32_param

    model = Trained(built(recompute))
    config = {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_clipping": 0.0,
        # Every parameter is shared out at stage 3, which by default keeps small ones whole.
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
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
    plain = built(Recompute.NONE)
    (sum(loss_of(plain, seed) for seed in range(2)) / 2).backward()
    for name, parameter in plain.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1
        expected = parameter.detach() - RATE * parameter.grad
        for case, weights in [pair for worker in workers for pair in worker.items()]:
            torch.testing.assert_close(weights[name], expected, rtol=1e-5, atol=1e-5, msg=f"{name}, {case}")
