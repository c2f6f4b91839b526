"""Hand-written gradients against numerical ones, and values against the formulas in plain torch."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from k2model.model.fused import rms_norm, split_and_rotate, swiglu
from k2model.model.transformer import rope_tables


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    torch.manual_seed(sum(shape))
    return torch.randn(shape, dtype=dtype, requires_grad=True)


def rotated_by_formula(x_BHTE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x_BHTE.chunk(2, dim=-1)
    return x_BHTE * cos + torch.cat((-second, first), dim=-1) * sin


def test_rms_norm() -> None:
    x, gain = draw(2, 3, 8), draw(8)
    assert torch.autograd.gradcheck(lambda x, gain: rms_norm(x, gain, 1e-3, torch.float64), (x, gain))
    expected = F.rms_norm(x, (8,), gain + 1.0, 1e-3)
    torch.testing.assert_close(rms_norm(x, gain, 1e-3, torch.float64), expected)


def test_rms_norm_of_a_zero_row_is_zero() -> None:
    x = torch.zeros(1, 4, requires_grad=True)
    y = rms_norm(x, torch.zeros(4), 1e-5, torch.float32)
    y.sum().backward()
    assert y.abs().max() == 0.0 and x.grad is not None and torch.isfinite(x.grad).all()


def test_swiglu() -> None:
    gate_and_up = draw(2, 3, 8)
    assert torch.autograd.gradcheck(swiglu, (gate_and_up,))
    gate, up = gate_and_up.chunk(2, dim=-1)
    torch.testing.assert_close(swiglu(gate_and_up), gate / (1 + torch.exp(-gate)) * up)


@pytest.mark.parametrize("positions", ["shared", "per row"])
def test_split_and_rotate(positions: str) -> None:
    heads = draw(2, 5, 6, 4)  # 4 query heads, one key and one value head
    cos, sin = (table.double() for table in rope_tables(1e4, 4, 9))
    if positions == "shared":
        cos, sin = cos[:5], sin[:5]
    else:
        rows = torch.stack([torch.arange(5), torch.arange(4, 9)])
        cos, sin = cos[rows][:, None], sin[rows][:, None]
    assert torch.autograd.gradcheck(lambda heads: split_and_rotate(heads, cos, sin, 4, 1), (heads,))
    query, key, value = split_and_rotate(heads, cos, sin, 4, 1)
    transposed = heads.transpose(1, 2)
    torch.testing.assert_close(query, rotated_by_formula(transposed[:, :4], cos, sin))
    torch.testing.assert_close(key, rotated_by_formula(transposed[:, 4:5], cos, sin))
    torch.testing.assert_close(value, transposed[:, 5:])


def test_in_bf16_results_are_those_of_fp32_rounded() -> None:
    """Whatever they are given and asked for, the functions compute in fp32 where a sum is taken."""
    x, gain = draw(4, 64, dtype=torch.float32), draw(64, dtype=torch.float32)
    wide = rms_norm(x, gain, 1e-5, torch.float32)
    assert torch.equal(rms_norm(x, gain, 1e-5, torch.bfloat16), wide.bfloat16())
    heads = draw(1, 3, 3, 8, dtype=torch.float32).bfloat16()
    cos, sin = rope_tables(1e4, 8, 3)
    query, _, _ = split_and_rotate(heads, cos, sin, 1, 1)
    expected = rotated_by_formula(heads.float().transpose(1, 2)[:, :1], cos, sin)
    torch.testing.assert_close(query, expected.bfloat16())
