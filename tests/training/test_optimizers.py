"""The optimizer against torch's own Muon and AdamW, tensor by tensor."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from k2model.recipe.schema import OptimizerConfig, OptimizerName
from k2model.training import optimizers
from k2model.training.optimizers import K2Optimizer, newton_schulz, slots_of

SHAPES = {
    "model.embedding.weight": (32, 8),
    "model.blocks.0.attention.query.weight": (8, 8),
    "model.blocks.0.mlp.gate.weight": (24, 8),
    "model.blocks.0.mlp.down.weight": (8, 24),
    "model.blocks.0.mlp_norm.weight": (8,),
    "model.blocks.1.attention.query.weight": (8, 8),
    "model.norm.weight": (8,),
    "model.head.weight": (32, 8),
}
MUON = OptimizerConfig(OptimizerName.MUON, lr=0.02, weight_decay=0.1, beta1=0.8, beta2=0.9, muon_momentum=0.9)


def parameters(seed: int = 0) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in SHAPES.items()}


def give_gradients(seed: int, *sets: dict[str, nn.Parameter]) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, shape in SHAPES.items():
        gradient = torch.randn(shape, generator=generator)
        for parameters_ in sets:
            parameters_[name].grad = gradient.clone()


def reference(named: dict[str, nn.Parameter], config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    muon = [p for name, p in named.items() if p.dim() == 2 and "blocks" in name and config.name is OptimizerName.MUON]
    matrices = [p for p in named.values() if p.dim() == 2 and all(p is not m for m in muon)]
    gains = [p for p in named.values() if p.dim() == 1]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [{"params": matrices, "weight_decay": config.weight_decay}, {"params": gains, "weight_decay": 0.0}],
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
        )
    ]
    if muon:
        found.append(
            torch.optim.Muon(
                muon,
                lr=config.lr,
                weight_decay=config.weight_decay,
                momentum=config.muon_momentum,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return found


@pytest.mark.parametrize("name", list(OptimizerName))
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_steps_equal_those_of_torch(name: OptimizerName, clip: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "multiplies_bf16", lambda device: True)  # as torch's Muon does, fast or not
    config = replace(MUON, name=name)
    ours, theirs = parameters(), parameters()
    optimizer = K2Optimizer(ours.items(), config, clip)
    torchs = reference(theirs, config)
    for step in range(4):
        give_gradients(step, ours, theirs)
        norm = nn.utils.clip_grad_norm_(theirs.values(), clip or float("inf"))
        for other in torchs:
            other.step()
        optimizer.step()
        assert optimizer.grad_norm == pytest.approx(norm.item(), rel=1e-6)
    for key in SHAPES:
        torch.testing.assert_close(
            ours[key], theirs[key], rtol=2e-6, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.mark.parametrize("kernels", [True, False], ids=["bf16-kernels", "no-bf16-kernels"])
def test_newton_schulz_flattens_the_spectrum_of_tall_and_wide_matrices(
    kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizers, "multiplies_bf16", lambda device: kernels)
    generator = torch.Generator().manual_seed(1)
    for shape in ((3, 24, 8), (3, 8, 24)):
        singular = torch.linalg.svdvals(newton_schulz(torch.randn(shape, generator=generator), 5).float())
        # The quintic's fixed band (Jordan): it aims at about 0.7..1.2, not at exactly 1.
        assert singular.min() > 0.5 and singular.max() < 1.3


def test_newton_schulz_multiplies_the_same_with_and_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = torch.randn(3, 24, 16, generator=torch.Generator().manual_seed(2))
    found = []
    for kernels in (True, False):
        monkeypatch.setattr(optimizers, "multiplies_bf16", lambda device, kernels=kernels: kernels)
        found.append(newton_schulz(matrices, 5))
    assert found[0].dtype is found[1].dtype is torch.bfloat16
    # Sums in another order move a value across a border of bf16 now and then, which five iterations spread.
    assert (found[0] - found[1]).float().norm() < 0.02 * found[0].float().norm()


def test_muon_takes_matrices_inside_blocks_alone() -> None:
    muon = [n for n, s in SHAPES.items() if slots_of(n, torch.Size(s), OptimizerName.MUON) == ("momentum_buffer",)]
    assert muon == [n for n, s in SHAPES.items() if "blocks" in n and len(s) == 2]
    assert {slots_of(n, torch.Size(s), OptimizerName.ADAMW) for n, s in SHAPES.items()} == {("exp_avg", "exp_avg_sq")}
