"""How large the parameters are and how far a step moves them: two numbers that tell a learning rate's health.

Measured on the fp32 pieces that workers hold between them, whatever the layout, so nothing is gathered.
It costs a copy of those pieces and a pass over them, which is why only some steps are measured.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from k2model.training.checkpoint import MODEL
from k2model.training.state import NamedState


@dataclass(frozen=True)
class Norms:
    """Euclidean norms over all parameters after a step, and of the difference the step made."""

    parameters: float
    update: float

    @property
    def update_ratio(self) -> float:
        return self.update / self.parameters if self.parameters else math.nan


def measured_step(state: NamedState, step: Callable[[], Any]) -> Norms:
    """Take `step` and measure it. Collective."""
    before = [values.clone() for values in _parameters(state)]
    step()
    squares = torch.zeros(2, dtype=torch.float64)
    for old, values in zip(before, _parameters(state), strict=True):
        both = torch.stack([values.double().square().sum(), (values - old).double().square().sum()])
        squares += both.to("cpu")
    if dist.get_world_size() > 1:
        dist.all_reduce(squares)
    parameters, update = squares.sqrt().tolist()
    return Norms(parameters, update)


def _parameters(state: NamedState) -> list[Tensor]:
    return [piece.tensor for piece in state.pieces() if piece.name.startswith(MODEL)]
