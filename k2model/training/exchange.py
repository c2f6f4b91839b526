"""The one small message a step: what all workers must know of each other before they go on.

Targets of the step to come, losses of the step behind, the wish to stop, and how the checkpoint in flight
gets on travel in one all-reduce of a CPU tensor, so that a decision made from its sums is the same on all
workers. Gradients are not its business.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from k2model.training.batch import Batch
from k2model.training.world import World


@dataclass(frozen=True)
class LocalLoss:
    """Sums of one worker over its own targets of a step, each [sources] fp64 on the CPU: nats and targets."""

    nats_S: Tensor
    targets_S: Tensor


@dataclass(frozen=True)
class Heard:
    """What all workers said, summed. `targets`, `attended`: of the step to come (see `Batch`); `stop`: how many
    want to end; `report`: of the save in flight (see `Saver`); `nats_S`, `targets_S`: of the step behind, zeros
    when there was none."""

    targets: int
    attended: int
    stop: int
    report: list[int]
    nats_S: Tensor
    targets_S: Tensor


class Exchange:
    def __init__(self, world: World, sources: int) -> None:
        self.world, self.sources = world, sources

    def __call__(self, ahead: Batch | None, stop: bool, report: Sequence[int], behind: LocalLoss | None) -> Heard:
        """Say and hear. Collective: every worker calls it equally often. Sums up to 2^53 are exact."""
        counts = (ahead.targets, ahead.attended) if ahead is not None else (0, 0)
        head = torch.tensor([*counts, int(stop), *report], dtype=torch.float64)
        silent = torch.zeros(2 * self.sources, dtype=torch.float64)
        message = torch.cat((head, silent if behind is None else torch.cat((behind.nats_S, behind.targets_S))))
        if self.world.size > 1:
            dist.all_reduce(message)
        targets, attended, stopping, *reports = (int(value) for value in message[: len(head)].tolist())
        nats_S, targets_S = message[len(head) :].split(self.sources)
        return Heard(targets, attended, stopping, reports, nats_S, targets_S)
