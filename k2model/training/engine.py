"""One optimizer step on a batch, through DeepSpeed: objective, precision, accumulation, ZeRO.

Data, schedule, checkpoint files and metrics belong to others; the state by name is in `state`.

Shape suffixes: B rows of this worker, T sequence, V vocabulary.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from k2model.model import K2Model, shifted_targets
from k2model.model.products import multiplies_bf16
from k2model.recipe.schema import ModelConfig, PhaseConfig, Precision
from k2model.training.layout import Layout
from k2model.training.optimizers import K2Optimizer
from k2model.training.state import NamedState, TrainingState, check_fits, tensor_shapes, whole_shape
from k2model.training.world import World


@dataclass(frozen=True)
class StepOutcome:
    """`loss_sum`: nats over this worker's targets, a scalar not yet reduced over workers.
    `targets` and `grad_norm` (before clipping) are the global batch's."""

    loss_sum: Tensor
    targets: int
    grad_norm: float


class Objective(nn.Module):
    """The model with its summed loss. Its parameters are named as in checkpoints: `model.<parameter>`.

    Autocast sits inside, since DeepSpeed rules over any autocast around its own forward.
    """

    def __init__(self, model: K2Model, precision: Precision) -> None:
        super().__init__()
        self.model = model
        self.autocast = precision is Precision.BF16

    def forward(self, tokens_BT: Tensor, document_BT: Tensor, loss_BT: Tensor) -> Tensor:
        with torch.autocast(tokens_BT.device.type, torch.bfloat16, enabled=self.autocast):
            return self.model.loss(tokens_BT, shifted_targets(tokens_BT, loss_BT), document_BT)[0]


class Engine:
    """Model, optimizer and DeepSpeed engine of one phase on one worker."""

    def __init__(
        self, model_config: ModelConfig, phase: PhaseConfig, world: World, start: TrainingState | None = None
    ) -> None:
        """Start from `start`, or from random weights that are a function of the phase's seed.

        Collective; the world must be joined.

        Raises:
            CheckpointMismatch: `start` does not fit the model or the optimizer.
        """
        import deepspeed

        self.world, self.zero_stage = world, phase.parallelism.zero_stage
        self.rows = phase.global_batch // world.size
        self.micro_batch = min(phase.parallelism.micro_batch or self.rows, self.rows)
        _tell_how_bf16_is_multiplied(phase, world)
        torch.manual_seed(phase.seed)
        objective = Objective(K2Model(model_config, phase.rope_theta, phase.sequence_length), phase.precision)
        layout = Layout.of(world, phase.parallelism)
        parameters = {n: whole_shape(n, p.shape, layout.tensor) for n, p in objective.named_parameters()}
        self.shapes = tensor_shapes(parameters, phase.optimizer.name)
        if start is not None:
            check_fits(start, self.shapes, phase.name)
            with torch.no_grad():
                for name, parameter in objective.named_parameters():  # one at a time in memory
                    parameter.copy_(start.tensors.local(name, name, layout.tensor))
        # Without ZeRO, clipping in the optimizer saves the engine's second all-reduce and per-tensor norms.
        clip = phase.optimizer.grad_clip
        self.optimizer = K2Optimizer(objective.named_parameters(), phase.optimizer, None if self.zero_stage else clip)
        self.deepspeed, *_ = deepspeed.initialize(
            model=objective, optimizer=self.optimizer, config=self._config(clip), dist_init_required=False
        )
        self.state = NamedState(self.deepspeed, self.optimizer, phase.optimizer.name, self.zero_stage, layout)
        if start is not None and start.optimizer_steps is not None:
            self.state.load_optimizer(start.tensors, start.optimizer_steps)

    def _config(self, clip: float) -> dict[str, Any]:
        return {
            "train_micro_batch_size_per_gpu": self.micro_batch,
            "gradient_accumulation_steps": -(-self.rows // self.micro_batch),
            "gradient_clipping": clip if self.zero_stage else 0.0,
            "zero_optimization": {"stage": self.zero_stage},
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": None,
        }

    def step(self, batch: Mapping[str, Tensor], lr: float) -> StepOutcome:
        """One optimizer step on this worker's rows [B, T] of the global batch.

        The objective is the mean over all targets of the global batch, however they are spread: each
        backward pass scales its sum of nats such that the average DeepSpeed takes over workers is
        exactly that mean.
        """
        targets = self._global_targets(batch["loss"])  # stays on the CPU, as its group does
        scale = self.world.size / max(targets, 1)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        total = torch.zeros((), device=self.deepspeed.device)
        arguments = (batch[name].to(total.device) for name in ("tokens", "document", "loss"))
        pieces = zip(*(argument.split(self.micro_batch) for argument in arguments), strict=True)
        for tokens_BT, document_BT, loss_BT in pieces:
            loss = self.deepspeed(tokens_BT, document_BT, loss_BT)
            self.deepspeed.backward(loss * scale, scale_wrt_gas=False)
            self.deepspeed.step()
            total += loss.detach()
        norm = self.deepspeed.get_global_grad_norm() if self.zero_stage else self.optimizer.grad_norm
        return StepOutcome(total, targets, float(norm))

    def _global_targets(self, loss_BT: Tensor) -> int:
        count = loss_BT[:, 1:].sum()  # the first position of a row has no prediction
        if self.world.size > 1:
            dist.all_reduce(count)
        return int(count.item())


def _tell_how_bf16_is_multiplied(phase: PhaseConfig, world: World) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if world.first and phase.precision is Precision.BF16 and not multiplies_bf16(device):
        logging.getLogger("k2model").info(
            "%s: torch has no bf16 kernels for this processor; operands are rounded to bf16 and multiplied in fp32",
            phase.name,
        )
