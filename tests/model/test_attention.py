"""Both formulations of attention against a softmax over the whole square, and what they keep for backward."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import varlen

from k2model.model import attention
from k2model.model.attention import BLOCK, BlockAttention, DocumentAttention, document_starts
from tests.model.conftest import packed

SIZE = 16


def written_out(query: Tensor, key: Tensor, value: Tensor, document: Tensor) -> Tensor:
    """Every query against every key of its run of one document number."""
    group, length = query.shape[1] // key.shape[1], query.shape[2]
    key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    scores = query @ key.transpose(2, 3) / SIZE**0.5
    for row, numbers in enumerate(document.tolist()):
        for t in range(length):
            start = next((s for s in range(t, 0, -1) if numbers[s - 1] != numbers[t]), 0)
            scores[row, :, t, :start] = -torch.inf
            scores[row, :, t, t + 1 :] = -torch.inf
    return scores.softmax(dim=-1) @ value


def inputs(heads: tuple[int, int], length: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Query, key and value of two rows, cut out of one tensor as the model's are."""
    torch.manual_seed(1)
    both = torch.randn(2, length, heads[0] + 2 * heads[1], SIZE, dtype=dtype)
    return [x.transpose(1, 2).requires_grad_() for x in both.split([heads[0], heads[1], heads[1]], dim=2)]


def with_gradients(attend: Callable[..., Tensor], tensors: list[Tensor]) -> list[Tensor]:
    out = attend(*tensors)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).bfloat16().to(out.dtype)
    return [out, *torch.autograd.grad((out * weight).sum(), tensors)]


@pytest.mark.parametrize("heads", [(6, 2), (3, 1), (4, 4)])
@pytest.mark.parametrize("kept", [0, 2 * 6 * BLOCK * BLOCK, 2**23], ids=["recomputed", "in part", "kept"])
def test_both_equal_the_whole_square(monkeypatch: pytest.MonkeyPatch, heads: tuple[int, int], kept: int) -> None:
    monkeypatch.setattr(attention, "KEPT_WEIGHTS", kept)
    document = torch.cat([packed([140, 5, 90], 300), packed([300], 300)])
    tensors = inputs(heads, 300)
    expected = with_gradients(lambda q, k, v: written_out(q, k, v, document), tensors)
    for kind in (BlockAttention, DocumentAttention):
        for found, wanted in zip(with_gradients(kind.causal(300, document), tensors), expected, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-10, rtol=0)


def varlen_as_documented(
    query: Tensor, key: Tensor, value: Tensor, ends_q: Tensor, ends_k: Tensor, max_q: int, max_k: int, **options: object
) -> Tensor:
    """torch.nn.attention.varlen's contract in plain torch, since its kernel needs CUDA: sequences end to end
    [positions, heads, size], delimited by cumulative int32 positions of which none is longer than the maxima."""
    assert options == {"window_size": (-1, 0), "enable_gqa": query.shape[1] != key.shape[1]}
    assert ends_q.dtype is ends_k.dtype is torch.int32 and torch.equal(ends_q, ends_k) and len(query) == ends_q[-1]
    sizes = ends_q.diff().tolist()
    assert max_q == max_k == max(sizes)
    parts = zip(*(x.transpose(0, 1)[None].split(sizes, dim=2) for x in (query, key, value)), strict=True)
    outs = [F.scaled_dot_product_attention(*part, is_causal=True, enable_gqa=True) for part in parts]
    return torch.cat(outs, dim=2)[0].transpose(0, 1)


@pytest.mark.parametrize("heads", [(6, 2), (4, 4)])
def test_all_documents_in_one_call_equal_the_whole_square(
    monkeypatch: pytest.MonkeyPatch, heads: tuple[int, int]
) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", varlen_as_documented)
    document = torch.cat([packed([140, 5, 90], 300), packed([300], 300)])
    attend = DocumentAttention.causal(300, document, in_one_call=True)
    tensors = inputs(heads, 300)
    expected = with_gradients(lambda q, k, v: written_out(q, k, v, document), tensors)
    for found, wanted in zip(with_gradients(attend, tensors), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-10, rtol=0)


def test_torchs_own_kernel_takes_what_one_call_gives_it() -> None:
    """Shapes alone, forward and backward: the kernel itself needs CUDA."""
    on_cpu = DocumentAttention.causal(300, packed([140, 5, 90], 300), in_one_call=True)
    assert on_cpu.ends is not None
    attend = DocumentAttention(on_cpu.lengths, on_cpu.ends.to("meta"))
    tensors = [torch.empty(1, n, 300, SIZE, device="meta", requires_grad=True) for n in (6, 2, 2)]
    out = attend(*tensors)
    out.sum().backward()
    assert out.shape == tensors[0].shape and out.device.type == "meta"
    assert all(x.grad is not None and x.grad.shape == x.shape for x in tensors)


@pytest.mark.parametrize("kind", [BlockAttention, DocumentAttention])
def test_without_documents_a_row_is_one(kind: type[BlockAttention] | type[DocumentAttention]) -> None:
    tensors = inputs((4, 2), 200)
    plain, one = kind.causal(200), kind.causal(200, torch.zeros(2, 200, dtype=torch.int32))
    for found, wanted in zip(with_gradients(plain, tensors), with_gradients(one, tensors), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [BlockAttention, DocumentAttention])
def test_other_documents_change_no_bit(
    kind: type[BlockAttention] | type[DocumentAttention], dtype: torch.dtype
) -> None:
    attend = kind.causal(270, packed([130, 70, 50], 270).expand(2, -1))
    before, after = inputs((6, 2), 270, dtype), inputs((6, 2), 270, dtype)
    with torch.no_grad():
        for x in after:
            x[:, :, :130] *= -2.0
    one, two = with_gradients(attend, before), with_gradients(attend, after)
    assert not torch.equal(one[0][:, :, :130], two[0][:, :, :130])
    assert all(torch.equal(x[:, :, 130:], y[:, :, 130:]) for x, y in zip(one, two, strict=True))


def test_bfloat16_gradients_are_summed_in_fp32() -> None:
    """Over many blocks a sum in bfloat16 would lose what single blocks add."""
    length = 20 * BLOCK
    tensors = inputs((2, 1), length, torch.bfloat16)
    exact = [x.detach().double().requires_grad_() for x in tensors]
    document = torch.zeros(2, length, dtype=torch.int32)
    found = with_gradients(BlockAttention.causal(length, document), tensors)
    wanted = with_gradients(BlockAttention.causal(length, document), exact)
    for x, y in zip(found, wanted, strict=True):
        assert x.dtype is torch.bfloat16
        assert (x.double() - y).norm() < 0.01 * y.norm()


@pytest.mark.parametrize("kind", [BlockAttention, DocumentAttention])
def test_what_is_kept_grows_with_the_row_not_its_square(
    monkeypatch: pytest.MonkeyPatch, kind: type[BlockAttention] | type[DocumentAttention]
) -> None:
    monkeypatch.setattr(attention, "KEPT_WEIGHTS", 2 * BLOCK * BLOCK)

    def kept(length: int) -> int:
        sizes: dict[int, int] = {}

        def keep(x: Tensor) -> Tensor:
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        document = packed([length // 3, length // 2], length).expand(2, -1)
        tensors = inputs((2, 1), length, torch.float32)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            out = kind.causal(length, document)(*tensors)
        assert out.requires_grad
        return sum(sizes.values())

    short, long = kept(8 * BLOCK), kept(32 * BLOCK)
    assert long <= 4.2 * short


def test_document_starts_by_hand() -> None:
    document = torch.tensor([[0, 0, 1, 1, 1, -1, -1], [4, 5, 5, 5, 5, 5, 6]])
    assert document_starts(document).tolist() == [[0, 0, 2, 2, 2, 5, 5], [0, 1, 1, 1, 1, 1, 6]]
