"""Nothing is made on another device than the tensors it works with.

No accelerator is needed to see that: while a model of this machine's memory runs, whatever does not say where it is
made is made on the meta device, and torch refuses to mix the two.
"""

from collections.abc import Iterator

import pytest
import torch
from torch.autograd.graph import _engine_run_backward

from k2model.model import transformer
from k2model.model.attention import BlockAttention, DocumentAttention
from k2model.model.loss import shifted_targets
from k2model.model.transformer import K2Model
from k2model.recipe.schema import OptimizerConfig, OptimizerName, Recompute
from k2model.training.optimizers import K2Optimizer
from tests.model.conftest import packed


@pytest.fixture
def elsewhere() -> Iterator[None]:
    with torch.device("meta"):
        yield


@pytest.fixture(autouse=True)
def _documents(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Attention as on an accelerator, where a test asks for it."""
    if "kind" in request.fixturenames and request.getfixturevalue("kind") is DocumentAttention:
        monkeypatch.setattr(transformer, "BlockAttention", DocumentAttention)


@pytest.mark.parametrize("name", [OptimizerName.ADAMW, OptimizerName.MUON])
@pytest.mark.parametrize("kind", [BlockAttention, DocumentAttention])
@pytest.mark.parametrize("recompute", [Recompute.NONE, Recompute.SELECTIVE, Recompute.FULL])
def test_training(
    model: K2Model,
    name: OptimizerName,
    kind: type,
    recompute: Recompute,
    request: pytest.FixtureRequest,
) -> None:
    model.recompute = recompute
    for block in model.blocks:
        block.selective = recompute is Recompute.SELECTIVE
    tokens, document = torch.randint(0, 97, (2, 200)), packed([130, 50], 200).expand(2, -1)
    optimizer = K2Optimizer(model.named_parameters(), OptimizerConfig(name, lr=1e-3), clip=1.0)
    before = [parameter.clone() for parameter in model.parameters()]
    request.getfixturevalue("elsewhere")
    with torch.autocast("cpu", torch.bfloat16):
        targets = shifted_targets(tokens, torch.ones_like(tokens))
        loss, _ = model.loss(tokens, targets, document, z_loss=1e-4)
    # As `loss.backward()`, which would set the mode of `elsewhere` aside.
    _engine_run_backward((loss,), (torch.ones_like(loss),), False, False, (), True, accumulate_grad=True)
    optimizer.step()
    assert loss.device.type == "cpu"
    moved = zip(before, model.parameters(), strict=True)
    assert all(p.device.type == "cpu" and not torch.equal(old, p) for old, p in moved)
