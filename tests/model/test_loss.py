"""The loss against values worked out by hand."""

import math

import torch

from k2model.model.loss import loss_sum


def test_by_hand() -> None:
    # Row 0: from position 0 the probabilities of tokens 0, 1, 2 are 1/2, 1/4, 1/4.
    logits = torch.zeros(2, 3, 3)
    logits[0, 0] = torch.tensor([math.log(2.0), 0.0, 0.0])
    tokens = torch.tensor([[0, 1, 2], [2, 2, 0]], dtype=torch.int32)
    loss = torch.tensor([[True, True, False], [False, False, True]])
    nats, count = loss_sum(logits, tokens, loss)
    assert count.item() == 2
    torch.testing.assert_close(nats.item(), math.log(4.0) + math.log(3.0))


def test_the_last_position_and_what_follows_it_do_not_count() -> None:
    logits = torch.randn(1, 4, 5)
    tokens, loss = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[True, False, False, False]])
    nats, count = loss_sum(logits, tokens, loss)
    assert (nats.item(), count.item()) == (0.0, 0)


def test_bfloat16_logits_are_summed_in_fp32() -> None:
    logits = torch.randn(4, 300, 50).to(torch.bfloat16)
    tokens = torch.randint(0, 50, (4, 300))
    loss = torch.ones(4, 300, dtype=torch.bool)
    nats, count = loss_sum(logits, tokens, loss)
    exact = -logits.double().log_softmax(-1)[:, :-1].gather(-1, tokens[:, 1:, None]).sum()
    assert nats.dtype is torch.float32 and count.item() == 4 * 299
    torch.testing.assert_close(nats.double(), exact, rtol=1e-5, atol=0)


def test_gradient_only_where_it_counts() -> None:
    logits = torch.randn(1, 4, 5, requires_grad=True)
    nats, _ = loss_sum(logits, torch.tensor([[1, 2, 3, 4]]), torch.tensor([[True, False, True, False]]))
    nats.backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum(dim=(0, 2)).gt(0).tolist() == [False, True, False, False]
