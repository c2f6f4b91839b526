"""One optimizer step on a batch, through DeepSpeed: objective, precision, accumulation, parallelism, norms.

Data, schedule, checkpoint files and metrics belong to others; the state by name is in `state`. Norms of parameters and
updates tell a learning rate's health. They are measured on the fp32 pieces that workers hold between them, so nothing
is gathered, but they cost a copy of those pieces and a pass over them: only some steps are measured.

Shape suffixes: B rows of this worker, T its positions, R those of the whole row, S sources.
"""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from k2model.model import K2Model
from k2model.model.loss import IGNORED
from k2model.model.products import multiplies_bf16
from k2model.recipe.memory import reduce_bucket
from k2model.recipe.schema import ModelConfig, PhaseConfig, Precision
from k2model.training.batch import Batch, LocalLoss
from k2model.training.checkpoint import MODEL
from k2model.training.layout import Layout
from k2model.training.optimizers import K2Optimizer
from k2model.training.state import NamedState, TrainingState, check_fits, tensor_shapes, whole_shape


@dataclass(frozen=True)
class Norms:
    """Euclidean norms over all parameters after a step, and of the difference the step made."""

    parameters: float
    update: float

    @property
    def update_ratio(self) -> float:
        return self.update / self.parameters if self.parameters else math.nan


def measured_step(state: NamedState, step: Callable[[], Any]) -> Norms:
    """Take `step` and measure it, over the pieces of all workers, in fp64. Collective."""
    before = [values.clone() for values in _parameters(state)]
    step()
    sums = [torch.zeros(2, dtype=torch.float64)]
    for old, values in zip(before, _parameters(state), strict=True):
        both = torch.stack([values.double().square().sum(), (values - old).double().square().sum()])
        sums.append(both + sums.pop().to(both.device))  # waits for no device
    squares = sums.pop().to("cpu")
    if dist.get_world_size() > 1:
        dist.all_reduce(squares)
    parameters, update = squares.sqrt().tolist()
    return Norms(parameters, update)


def _parameters(state: NamedState) -> list[Tensor]:
    return [piece.tensor for piece in state.pieces() if piece.name.startswith(MODEL)]


@dataclass(frozen=True)
class StepOutcome:
    """`loss`: of this worker's targets, by source, not yet reduced over workers. `grad_norm` (before
    clipping) is the global batch's; `norms` where they were asked for."""

    loss: LocalLoss
    grad_norm: float
    norms: Norms | None


class Objective(nn.Module):
    """The model with its summed loss. Its parameters are named as in checkpoints: `model.<parameter>`.

    Autocast sits inside, since DeepSpeed rules over any autocast around its own forward.
    """

    def __init__(self, model: K2Model, precision: Precision, z_loss: float) -> None:
        super().__init__()
        self.model = model
        self.autocast = precision is Precision.BF16
        self.z_loss = z_loss

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor, document_BR: Tensor) -> tuple[Tensor, Tensor]:
        """(the sum to minimise, nats at each position [B, T] without gradient)."""
        with torch.autocast(tokens_BT.device.type, torch.bfloat16, enabled=self.autocast):
            return self.model.loss(tokens_BT, targets_BT, document_BR, self.z_loss)


class Engine:
    """Model, optimizer and DeepSpeed engine of one phase on one worker."""

    def __init__(
        self, model_config: ModelConfig, phase: PhaseConfig, layout: Layout, start: TrainingState | None = None
    ) -> None:
        """Start from `start`, or from random weights that are a function of the phase's seed.

        Collective; the world must be joined.

        Raises:
            CheckpointMismatch: `start` does not fit the model or the optimizer.
        """
        import deepspeed

        self.layout, self.parallelism = layout, phase.parallelism
        self.rows = phase.global_batch // layout.data.size
        self.micro_batch = min(phase.parallelism.micro_batch or self.rows, self.rows)
        _tell_how_bf16_is_multiplied(phase, layout)
        torch.manual_seed(phase.seed)
        model = K2Model(
            model_config, phase.rope_theta, phase.sequence_length, tensor=layout.tensor, context=layout.context,
            recompute=phase.parallelism.recompute,
            residual=torch.bfloat16 if phase.bf16_residual else torch.float32, draw=start is None,
        )  # fmt: skip
        objective = Objective(model, phase.precision, phase.z_loss)
        whole = {name: whole_shape(name, p.shape, layout.tensor) for name, p in objective.named_parameters()}
        self.shapes = tensor_shapes(whole, phase.optimizer.name)
        if start is not None:
            check_fits(start, self.shapes, phase.name)
            with torch.no_grad():
                for name, parameter in objective.named_parameters():  # one at a time in memory
                    parameter.copy_(start.tensors.local(name, name, layout.tensor))
        # Without ZeRO, clipping in the optimizer saves the engine's second all-reduce and per-tensor norms.
        clip = phase.optimizer.grad_clip
        own_clip = None if self.parallelism.zero_stage else clip
        self.optimizer = K2Optimizer(objective.named_parameters(), phase.optimizer, own_clip, layout.tensor)
        self.deepspeed, *_ = deepspeed.initialize(
            model=objective, optimizer=self.optimizer, config=self._config(clip), mpu=DeepSpeedGroups(layout),
            dist_init_required=False,
        )  # fmt: skip
        stage = self.parallelism.zero_stage
        self.state = NamedState(self.deepspeed, self.optimizer, phase.optimizer.name, stage, layout)
        if start is not None and start.optimizer_steps is not None:
            self.state.load_optimizer(start.tensors, start.optimizer_steps)

    def _config(self, clip: float) -> dict[str, Any]:
        stage = self.parallelism.zero_stage
        held = sum(parameter.numel() for group in self.optimizer.param_groups for parameter in group["params"])
        zero: dict[str, Any] = {"stage": stage, "reduce_bucket_size": reduce_bucket(held)}
        if self.parallelism.offload:
            zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        return {
            "train_micro_batch_size_per_gpu": self.micro_batch,
            "gradient_accumulation_steps": -(-self.rows // self.micro_batch),
            "gradient_clipping": clip if stage else 0.0,
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": None,
            "timers": {"throughput": {"enabled": False}},  # it would wait for the device twice a micro-batch
        }

    def step(self, batch: Batch, lr: float, targets: int, sources: int, with_norms: bool = False) -> StepOutcome:
        """One optimizer step on this worker's part of the global batch.

        The objective is the mean over all `targets` of the global batch, however they are spread: each
        backward pass scales its sum of nats such that the average DeepSpeed takes over the workers that
        share gradients is exactly that mean. `sources`: how many the losses are counted by.
        """
        scale = self.layout.replicas.size / max(targets, 1)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        nats = []
        for number, piece in enumerate(self._pieces(batch)):
            if number:
                self.deepspeed.step()  # counts the backward pass before
            loss, nats_BT = self.deepspeed(*piece)
            self.deepspeed.backward(loss * scale, scale_wrt_gas=False)
            nats.append(nats_BT)
        norms = measured_step(self.state, self.deepspeed.step) if with_norms else self.deepspeed.step()
        norm = self.deepspeed.get_global_grad_norm() if self.parallelism.zero_stage else self.optimizer.grad_norm
        return StepOutcome(self._by_source(batch, torch.cat(nats), sources), float(norm), norms)

    def _pieces(self, batch: Batch) -> Iterator[tuple[Tensor, ...]]:
        """Micro-batches of `Objective.forward`'s arguments, on the device."""
        arguments = (batch.tokens_BT, batch.targets_BT, batch.document_BR)
        device = self.deepspeed.device
        yield from zip(*(argument.to(device).split(self.micro_batch) for argument in arguments), strict=True)

    def _by_source(self, batch: Batch, nats_BT: Tensor, sources: int) -> LocalLoss:
        """Sums of nats and targets by source; workers that hold parts of the same matrices count once."""
        if self.layout.tensor.rank:
            return LocalLoss(torch.zeros(sources, dtype=torch.float64), torch.zeros(sources, dtype=torch.float64))
        bears = batch.targets_BT != IGNORED
        source = batch.source_BT[bears].long()
        nats = nats_BT.to("cpu", torch.float64)[bears]
        return LocalLoss(
            torch.bincount(source, nats, minlength=sources), torch.bincount(source, minlength=sources).double()
        )


class DeepSpeedGroups:
    """A `Layout` in the words of DeepSpeed's `mpu`: who shares gradients, who shares matrices."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def get_data_parallel_group(self) -> Any:
        return self.layout.replicas.group

    def get_data_parallel_world_size(self) -> int:
        return self.layout.replicas.size

    def get_data_parallel_rank(self) -> int:
        return self.layout.replicas.rank

    def get_data_parallel_group_ranks(self) -> list[int]:
        return self.layout.replica_ranks

    def get_model_parallel_group(self) -> Any:
        return self.layout.tensor.group

    def get_model_parallel_world_size(self) -> int:
        return self.layout.tensor.size

    def get_model_parallel_rank(self) -> int:
        return self.layout.tensor.rank

    get_tensor_model_parallel_group = get_model_parallel_group
    get_tensor_model_parallel_world_size = get_model_parallel_world_size
    get_tensor_model_parallel_rank = get_model_parallel_rank


def _tell_how_bf16_is_multiplied(phase: PhaseConfig, layout: Layout) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if layout.world.first and phase.precision is Precision.BF16 and not multiplies_bf16(device):
        logging.getLogger("k2model").info(
            "%s: torch has no bf16 kernels for this processor; operands are rounded to bf16 and multiplied in fp32",
            phase.name,
        )
