"""Next-token loss over marked targets. Averaging over workers is the training engine's business."""

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100


def shifted_targets(tokens_BT: Tensor, loss_BT: Tensor) -> Tensor:
    """[B, T] int64: at position t the token t+1 where it is a target, `IGNORED` elsewhere.

    Shifting the targets instead of the logits spares a copy of the logits.
    """
    targets_BT = torch.full(tokens_BT.shape, IGNORED, dtype=torch.int64, device=tokens_BT.device)
    targets_BT[:, :-1] = torch.where(loss_BT[:, 1:].bool(), tokens_BT[:, 1:].long(), IGNORED)
    return targets_BT


def loss_sum(logits_BTV: Tensor, tokens_BT: Tensor, loss_BT: Tensor) -> tuple[Tensor, Tensor]:
    """(sum of nats over targets in fp32, number of targets), both scalars.

    `loss_BT[b, t]` says whether predicting token t (from position t-1) counts; position 0 of a row
    has no prediction and never does. The mean is left to the caller, who may have to sum over
    micro-batches and workers first.
    """
    targets_BT = shifted_targets(tokens_BT, loss_BT)
    nats = F.cross_entropy(
        logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return nats, (targets_BT != IGNORED).sum()
