"""Products by hand-written functions against plain torch, on processors with and without bf16 instructions."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from k2model.model import products
from k2model.model.products import linear


@pytest.fixture(params=[True, False], ids=["bf16-kernels", "no-bf16-kernels"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both kinds of processor; torch multiplies bf16 on either, only not fast."""
    monkeypatch.setattr(products, "multiplies_bf16", lambda device: request.param)
    return request.param


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, list[Tensor]]:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, dtype=dtype, requires_grad=True)
    return x, [torch.randn(n, 8, dtype=dtype, requires_grad=True) for n in (5, 2, 4)]


def test_gradients_are_the_derivatives() -> None:
    x, weights = inputs(torch.float64)
    assert torch.autograd.gradcheck(lambda *given: linear(*given), (x, *weights))


def test_fp32_is_plain_torch() -> None:
    x, weights = inputs()
    ours = linear(x, *weights)
    plain = torch.cat([F.linear(x, weight) for weight in weights], dim=-1)
    torch.testing.assert_close(ours, plain)
    grad = torch.randn_like(plain)
    ours_grads = torch.autograd.grad(ours, (x, *weights), grad)
    torch.testing.assert_close(ours_grads, torch.autograd.grad(plain, (x, *weights), grad))


def test_under_autocast_operands_are_bf16_and_sums_are_not(kernels: bool) -> None:
    """Both kinds of processor multiply the same numbers; only one rounds the results."""
    x, weights = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        ours = linear(x, *weights)
    assert ours.dtype is (torch.bfloat16 if kernels else torch.float32)
    exact = (x.bfloat16().double() @ torch.cat(weights).bfloat16().double().T).float()
    expected = exact.bfloat16() if kernels else exact
    torch.testing.assert_close(ours, expected, rtol=1e-2 if kernels else 1e-6, atol=1e-6)

    grad = torch.randn_like(ours)
    x_grad, *weight_grads = torch.autograd.grad(ours, (x, *weights), grad)
    assert x_grad.dtype is torch.float32 and all(g.dtype is torch.float32 for g in weight_grads)
    grad_PN, x_PD = grad.bfloat16().double().flatten(0, 1), x.bfloat16().double().flatten(0, 1)
    tolerance = {"rtol": 1e-2 if kernels else 1e-6, "atol": 2e-2 if kernels else 1e-5}
    torch.testing.assert_close(torch.cat(weight_grads), (grad_PN.T @ x_PD).float(), **tolerance)
    x_exact = (grad_PN @ torch.cat(weights).bfloat16().double()).float().view_as(x)
    torch.testing.assert_close(x_grad, x_exact, **tolerance)


def test_rounding_is_seen_where_fp32_would_not_round(kernels: bool) -> None:
    one = torch.tensor([[1.0 + 2.0**-12]])  # not a number of bf16, which has 8 bits
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(one, torch.ones(1, 1)).item() == 1.0
    assert linear(one, torch.ones(1, 1)).item() == 1.0 + 2.0**-12


def test_an_input_without_gradient_gets_none() -> None:
    x, weights = inputs()
    linear(x.detach(), *weights).sum().backward()
    assert x.grad is None and all(weight.grad is not None for weight in weights)
