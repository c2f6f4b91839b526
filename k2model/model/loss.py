"""Next-token loss over marked targets, without ever holding the logits of a whole batch, and the output matrix.

The output matrix and the cross-entropy are one function: logits are made for some positions at a time, and since the
gradient of a sum of losses is known up to one factor, the gradients are computed in the forward pass, while a chunk's
logits are there (the idea of Liger-Kernel's fused linear cross-entropy, arXiv:2410.10989). Logits and loss both go
through the module's own forward, so that DeepSpeed's hooks find its weight gathered. The vocabulary may be cut over
workers. Averaging is the training engine's business.

Shape suffixes: B batch, T sequence, P all positions, N positions of one chunk, D hidden, V (local) vocabulary.
"""

from dataclasses import dataclass
from typing import Any, overload

import torch
import torch.distributed as dist
from torch import Tensor

from k2model.model.parallel import Shard, gather_positions, gather_vocabulary
from k2model.model.products import Linear, Products, without_autocast
from k2model.recipe.memory import CHUNK_LOGITS, MIN_CHUNK

IGNORED = -100


def shifted_targets(tokens_BT: Tensor, loss_BT: Tensor) -> Tensor:
    """[B, T] int64: at position t the token t+1 where it is a target, `IGNORED` elsewhere.

    `loss_BT[b, t]` says whether predicting token t (from position t-1) counts; position 0 of a row
    has no prediction and never does. Shifting the targets instead of the logits spares a copy of the logits.
    """
    targets_BT = torch.full(tokens_BT.shape, IGNORED, dtype=torch.int64, device=tokens_BT.device)
    targets_BT[:, :-1] = torch.where(loss_BT[:, 1:].bool(), tokens_BT[:, 1:].long(), IGNORED)
    return targets_BT


@dataclass(frozen=True)
class LossSettings:
    """`products`: how matrices are multiplied; `tensor`: over whom the vocabulary is cut; `train`: gradients too."""

    z_loss: float
    products: Products
    tensor: Shard
    train: bool


class LinearCrossEntropy(torch.autograd.Function):
    """(sum over targets of cross-entropy + z_loss * log-partition^2, cross-entropy [P] without gradient), fp32.

    Positions whose target is `IGNORED` cost nothing and have 0 in the second. The gradient of the
    hidden states is that of this worker's part of the vocabulary; the caller sums it.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_PD: Tensor, weight_VD: Tensor, targets_P: Tensor, settings: LossSettings
    ) -> tuple[Tensor, Tensor]:
        weight = settings.products.operand(weight_VD)
        loss = torch.zeros((), device=hidden_PD.device)
        nats_P = torch.zeros(targets_P.shape, device=hidden_PD.device)
        if settings.train:
            ctx.dtype = weight_VD.dtype
            ctx.hidden_grad_PD = torch.zeros_like(hidden_PD)
            ctx.weight_grad_VD = torch.zeros(weight.shape, device=weight.device)
        places_M = (targets_P != IGNORED).nonzero().squeeze(1)
        chunk = max(CHUNK_LOGITS // len(weight), MIN_CHUNK)
        for first in range(0, len(places_M), chunk):
            places_N = places_M[first : first + chunk]
            hidden_ND = settings.products.operand(hidden_PD[places_N])
            logits_NV = (hidden_ND @ weight.T).float()
            nats_N, partition_N, grad_NV = _cross_entropy(logits_NV, targets_P[places_N], settings)
            nats_P[places_N] = nats_N
            loss += nats_N.sum() + settings.z_loss * partition_N.square().sum()
            if settings.train:
                grad_NV = settings.products.operand(grad_NV)
                ctx.hidden_grad_PD[places_N] = (grad_NV @ weight).to(hidden_PD.dtype)
                if hidden_ND.dtype is ctx.weight_grad_VD.dtype:
                    ctx.weight_grad_VD.addmm_(grad_NV.T, hidden_ND)
                else:
                    ctx.weight_grad_VD += grad_NV.T @ hidden_ND
        ctx.mark_non_differentiable(nats_P)
        return loss, nats_P

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden_grad, weight_grad = ctx.hidden_grad_PD, ctx.weight_grad_VD
        assert hidden_grad is not None, "the gradients are scaled in place: one backward pass a loss"
        ctx.hidden_grad_PD = ctx.weight_grad_VD = None
        return hidden_grad.mul_(grad), weight_grad.mul_(grad).to(ctx.dtype), None, None


def _cross_entropy(logits_NV: Tensor, targets_N: Tensor, settings: LossSettings) -> tuple[Tensor, Tensor, Tensor]:
    """(cross-entropy [N], log-partition [N], gradient w.r.t. the logits), which takes the logits' memory."""
    tensor, rows_N = settings.tensor, torch.arange(len(targets_N), device=targets_N.device)
    local_N = targets_N - tensor.rank * logits_NV.shape[1]
    mine_N = (local_N >= 0) & (local_N < logits_NV.shape[1])
    local_N = torch.where(mine_N, local_N, 0)
    top_N = _reduced(logits_NV.amax(dim=1), dist.ReduceOp.MAX, tensor)
    logits_NV -= top_N[:, None]
    sums_2N = torch.stack((torch.where(mine_N, logits_NV[rows_N, local_N], 0.0), logits_NV.exp_().sum(dim=1)))
    target_N, total_N = _reduced(sums_2N, dist.ReduceOp.SUM, tensor)
    nats_N = total_N.log() - target_N
    partition_N = total_N.log() + top_N
    if settings.train:
        logits_NV *= ((1.0 + 2.0 * settings.z_loss * partition_N) / total_N)[:, None]
        logits_NV[rows_N, local_N] -= mine_N.float()
    return nats_N, partition_N, logits_NV


def _reduced(x: Tensor, operation: Any, tensor: Shard) -> Tensor:
    if tensor.size > 1:
        dist.all_reduce(x, operation, group=tensor.group)
    return x


class Head(Linear):
    """`vocab_size` is the whole vocabulary's; over `tensor` each worker holds an equal part of its rows."""

    def __init__(self, hidden_size: int, vocab_size: int, tensor: Shard) -> None:
        super().__init__(hidden_size, vocab_size // tensor.size)
        self.tensor = tensor

    @overload  # type: ignore[override]  # nobody calls it as the layer it is made of
    def forward(self, hidden: Tensor) -> Tensor: ...

    @overload
    def forward(self, hidden: Tensor, targets: Tensor, z_loss: float = 0.0) -> tuple[Tensor, Tensor]: ...

    def forward(
        self, hidden: Tensor, targets: Tensor | None = None, z_loss: float = 0.0
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits [..., V] of hidden states [..., D]; with targets [...] what `K2Model.loss` returns. Over `tensor`
        hidden states [B, t, D] are slices, logits and targets of all positions, [B, T]."""
        hidden = gather_positions(hidden, self.tensor)
        if targets is None:
            return gather_vocabulary(super().forward(hidden), self.tensor)
        products = Products.of(hidden, self.weight)
        settings = LossSettings(z_loss, products, self.tensor, train=torch.is_grad_enabled())
        with without_autocast(hidden.device.type):
            loss, nats = LinearCrossEntropy.apply(hidden.flatten(0, -2), self.weight, targets.flatten(), settings)
        return loss, nats.view(targets.shape)
