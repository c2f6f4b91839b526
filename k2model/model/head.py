"""The output matrix: hidden states to logits, or straight to the loss where logits would not fit.

Both go through the module's own forward, so that DeepSpeed's hooks find its weight gathered.
"""

from typing import overload

import torch
from torch import Tensor

from k2model.model.collectives import copy_to_group, gather_from_group
from k2model.model.linear import Linear
from k2model.model.loss import LossSettings, linear_cross_entropy
from k2model.model.parallel import Shard
from k2model.model.products import Products, without_autocast


class Head(Linear):
    """`vocab_size` is the whole vocabulary's; over `tensor` each worker holds an equal part of its rows."""

    def __init__(self, hidden_size: int, vocab_size: int, tensor: Shard) -> None:
        super().__init__(hidden_size, vocab_size // tensor.size)
        self.tensor = tensor

    @overload
    def forward(self, hidden: Tensor) -> Tensor: ...

    @overload
    def forward(self, hidden: Tensor, targets: Tensor, z_loss: float = 0.0) -> tuple[Tensor, Tensor]: ...

    def forward(
        self, hidden: Tensor, targets: Tensor | None = None, z_loss: float = 0.0
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits [..., V] of hidden states [..., D]; with targets [...] what `K2Model.loss` returns."""
        hidden = copy_to_group(hidden, self.tensor)
        if targets is None:
            return gather_from_group(super().forward(hidden), self.tensor)
        products = Products.of(hidden, self.weight)
        settings = LossSettings(z_loss, products, self.tensor, train=torch.is_grad_enabled())
        with without_autocast(hidden.device.type):
            loss, nats = linear_cross_entropy(hidden.flatten(0, -2), self.weight, targets.flatten(), settings)
        return loss, nats.view(targets.shape)
