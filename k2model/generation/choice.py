"""How the next token of each text is taken from its logits.

A token is drawn by one number of the request's own random stream, a generator of Python's, and the place of that number
among the summed probabilities. So what is drawn depends on seed and logits alone: not on device, batch or neighbours.

Shape suffixes: R texts, V vocabulary.
"""

from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor

from k2model.generation.slots import on_device


def likeliest(logits_RV: Tensor) -> Tensor:
    """[R] int64."""
    return logits_RV.argmax(dim=-1)


def drawn(
    logits_RV: Tensor, temperatures: Sequence[float], top_ps: Sequence[float], streams: Sequence[Random]
) -> Tensor:
    """[R] int64: a token of each, by softmax(logits / temperature) within the smallest set of likeliest tokens that
    has at least `top_p` of the probability (nucleus sampling, arXiv:1904.09751). Temperatures are above 0."""

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device="cpu").to(logits_RV.device)[:, None]

    shares_RV = (logits_RV / column(temperatures).float()).softmax(dim=-1)
    numbers_R1 = column([stream.random() for stream in streams])
    tokens_R = _placed(shares_RV.cumsum(dim=-1, dtype=torch.float64), numbers_R1)
    # Apart from the others, so that what they draw does not depend on whether some have a nucleus.
    if cut := [row for row, top_p in enumerate(top_ps) if top_p < 1.0]:
        rows = on_device(cut, logits_RV.device)
        tokens_R[rows] = _of_nucleus(shares_RV[rows], column(top_ps)[rows], numbers_R1[rows])
    return tokens_R


def _of_nucleus(shares_RV: Tensor, top_ps_R1: Tensor, numbers_R1: Tensor) -> Tensor:
    shares_RV, tokens_RV = shares_RV.sort(dim=-1, descending=True, stable=True)
    sums_RV = shares_RV.cumsum(dim=-1, dtype=torch.float64)
    # A token is outside when those before it have top_p already.
    outside_RV = sums_RV - shares_RV >= top_ps_R1
    outside_RV[:, 0] = False
    sums_RV = torch.where(outside_RV, 0.0, sums_RV).cummax(dim=-1).values
    return tokens_RV.gather(-1, _placed(sums_RV, numbers_R1)[:, None])[:, 0]


def _placed(sums_RV: Tensor, numbers_R1: Tensor) -> Tensor:
    """The first place whose sum exceeds number * total."""
    return torch.searchsorted(sums_RV, numbers_R1 * sums_RV[:, -1:], right=True)[:, 0].clamp(max=sums_RV.shape[1] - 1)


def log_probabilities(logits_RV: Tensor, tokens_R: Tensor) -> Tensor:
    """[R] fp32, in nats, at temperature 1."""
    return logits_RV.gather(-1, tokens_R[:, None])[:, 0] - logits_RV.logsumexp(dim=-1)
