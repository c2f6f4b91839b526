"""The loss against values worked out by hand and torch's cross-entropy on whole logits."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from k2model.model import loss, products, shifted_targets
from k2model.model.loss import Head
from k2model.model.parallel import WHOLE
from k2model.model.transformer import K2Model

VOCAB, HIDDEN = 53, 24


def head_of(weight: Tensor) -> Head:
    head = Head(weight.shape[1], weight.shape[0], WHOLE)
    head.load_state_dict({"weight": weight})
    return head


def written_out(hidden: Tensor, weight: Tensor, targets: Tensor, z_loss: float) -> tuple[Tensor, Tensor]:
    """On all logits at once, in the precision of its arguments."""
    logits = hidden.flatten(0, 1) @ weight.T
    nats = F.cross_entropy(logits, targets.flatten(), ignore_index=-100, reduction="none")
    partition = logits.exp().sum(-1).log()[targets.flatten() != -100]
    return nats.sum() + z_loss * (partition**2).sum(), nats.view(targets.shape)


def some(kept: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, weight and targets of which the fraction `kept` count."""
    random = torch.Generator().manual_seed(seed)
    hidden = torch.randn(3, 40, HIDDEN, generator=random)
    targets = torch.randint(0, VOCAB, (3, 40), generator=random)
    targets[torch.rand(3, 40, generator=random) >= kept] = -100
    return hidden, torch.randn(VOCAB, HIDDEN, generator=random), targets


def test_targets_are_shifted_by_hand() -> None:
    tokens = torch.tensor([[0, 1, 2], [2, 2, 0]], dtype=torch.int32)
    marks = torch.tensor([[True, True, False], [False, False, True]])
    assert shifted_targets(tokens, marks).tolist() == [[1, -100, -100], [-100, 0, -100]]


def test_by_hand() -> None:
    # With the identity as output matrix hidden states are logits; the probabilities are 1/2, 1/4, 1/4 and 1/3 each.
    logits = torch.tensor([[[math.log(2.0), 0.0, 0.0], [0.0, 0.0, 0.0], [5.0, 1.0, 2.0]]])
    total, nats = head_of(torch.eye(3))(logits, torch.tensor([[1, 0, -100]]), z_loss=0.1)
    torch.testing.assert_close(nats, torch.tensor([[math.log(4.0), math.log(3.0), 0.0]]))
    square = math.log(4.0) ** 2 + math.log(3.0) ** 2
    torch.testing.assert_close(total.item(), math.log(4.0) + math.log(3.0) + 0.1 * square)


@pytest.mark.parametrize("z_loss", [0.0, 0.3])
@pytest.mark.parametrize("kept", [1.0, 0.4])
@pytest.mark.parametrize("chunk", [7, 10_000])
def test_equals_whole_logits_with_gradients(
    monkeypatch: pytest.MonkeyPatch, chunk: int, kept: float, z_loss: float
) -> None:
    monkeypatch.setattr(loss, "CHUNK_LOGITS", chunk * VOCAB)
    monkeypatch.setattr(loss, "MIN_CHUNK", 1)
    hidden, weight, targets = some(kept)
    head, ours = head_of(weight), hidden.clone().requires_grad_()
    total, nats = head(ours, targets, z_loss)
    (3.0 * total).backward()
    exact = [x.double().requires_grad_() for x in (hidden, weight)]
    expected, each = written_out(*exact, targets, z_loss)
    (3.0 * expected).backward()
    assert total.dtype is nats.dtype is torch.float32 and not nats.requires_grad
    for found, wanted in (
        (total, expected),
        (nats, each),
        (ours.grad, exact[0].grad),
        (head.weight.grad, exact[1].grad),
    ):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-6 * wanted.abs().max().item())


def test_large_logits_do_not_overflow() -> None:
    hidden = torch.tensor([[[300.0, -300.0, 299.0]]], requires_grad=True)
    total, _ = head_of(torch.eye(3))(hidden, torch.tensor([[2]]))
    total.backward()
    assert total.item() == pytest.approx(1.0 + math.log1p(math.exp(-1.0)))
    assert hidden.grad is not None and hidden.grad.isfinite().all()


@pytest.mark.parametrize("kernels", [True, False], ids=["bf16-kernels", "no-bf16-kernels"])
def test_bfloat16_products_are_summed_in_fp32(kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "multiplies_bf16", lambda device: kernels)
    hidden, weight, targets = some(1.0)
    hidden, weight = (x.bfloat16().float() for x in (hidden, weight))  # so that only results are rounded
    head, ours = head_of(weight), hidden.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        total, nats = head(ours, targets)
    total.backward()
    exact = hidden.flatten(0, 1) @ weight.T
    logits = (exact.bfloat16() if kernels else exact).double()  # only kernels for bf16 give bf16
    each = F.cross_entropy(logits, targets.flatten(), reduction="none").view(targets.shape)
    assert total.dtype is nats.dtype is torch.float32
    torch.testing.assert_close(nats.double(), each, rtol=1e-5, atol=1e-5)
    exact = [x.double().requires_grad_() for x in (hidden, weight)]
    written_out(*exact, targets, 0.0)[0].backward()
    for found, wanted in ((ours.grad, exact[0].grad), (head.weight.grad, exact[1].grad)):
        assert found is not None and wanted is not None and found.dtype is torch.float32
        assert (found.double() - wanted).norm() < 0.01 * wanted.norm()


def test_without_targets_the_loss_is_zero_and_so_is_every_gradient(model: K2Model) -> None:
    tokens = torch.randint(0, 97, (2, 20))
    total, nats = model.loss(tokens, torch.full((2, 20), -100), torch.zeros_like(tokens), z_loss=0.1)
    total.backward()
    assert total.item() == 0.0 and nats.count_nonzero() == 0
    assert all(p.grad is not None and p.grad.count_nonzero() == 0 for p in model.parameters())


def test_evaluation_needs_no_gradient() -> None:
    hidden, weight, targets = some(0.5)
    with torch.no_grad():
        total, nats = head_of(weight)(hidden, targets)
    expected, each = written_out(hidden.double(), weight.double(), targets, 0.0)
    torch.testing.assert_close((total.double(), nats.double()), (expected, each), rtol=1e-6, atol=1e-5)
    assert not total.requires_grad
