"""The training state as named tensors: what a checkpoint holds and how it goes in and out of the engine.

Names are `model.<parameter>` and `optimizer.<parameter>.<slot>`; tensors are whole and fp32 whatever
the ZeRO stage, so a checkpoint does not depend on how a phase was laid out over workers. Files are
left to `checkpoint`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from k2model.recipe.schema import OptimizerName
from k2model.training.errors import CheckpointMismatch
from k2model.training.optimizers import slots_of

MODEL, OPTIMIZER = "model.", "optimizer."


@dataclass(frozen=True)
class TrainingState:
    """Where training starts from. `optimizer_steps` None: weights alone, a fresh optimizer.

    `origin` says in messages where the tensors come from.
    """

    tensors: Mapping[str, Tensor]
    optimizer_steps: int | None
    origin: str


def tensor_shapes(parameters: Mapping[str, torch.Size], rule: OptimizerName) -> dict[str, torch.Size]:
    """Name -> shape of everything a checkpoint holds; `parameters` are named `model.<parameter>`."""
    named = dict(parameters)
    for parameter, shape in parameters.items():
        for slot in slots_of(parameter, shape, rule):
            named[slot_name(parameter, slot)] = shape
    return named


def slot_name(parameter: str, slot: str) -> str:
    """`model.norm.weight`, `exp_avg` -> `optimizer.norm.weight.exp_avg`."""
    return f"{OPTIMIZER}{parameter.removeprefix(MODEL)}.{slot}"


def check_fits(state: TrainingState, shapes: Mapping[str, torch.Size], phase: str) -> None:
    """Raise CheckpointMismatch naming the first tensor of `state` that does not fit `shapes`."""
    wanted = {n: s for n, s in shapes.items() if n.startswith(MODEL) or state.optimizer_steps is not None}
    for name, shape in wanted.items():
        if name not in state.tensors:
            raise CheckpointMismatch(
                f"phase '{phase}' needs tensor {name} {list(shape)}, which {state.origin} does not hold. "
                f"{_remedy(name)}"
            )
        found = state.tensors[name].shape
        if found != shape:
            raise CheckpointMismatch(
                f"tensor {name} is {list(found)} in {state.origin}, but phase '{phase}' needs {list(shape)}. "
                f"{_remedy(name)}"
            )
    extra = sorted(n for n in state.tensors if n.startswith(MODEL) and n not in wanted)
    if extra:
        raise CheckpointMismatch(
            f"{state.origin} holds {extra[0]}, which phase '{phase}' has no place for. {_remedy('')}"
        )


def _remedy(name: str) -> str:
    if name.startswith(OPTIMIZER):
        return (
            "The two phases use different optimizers: give them the same optimizer.name, or set "
            "keep_optimizer_state=false to start from the weights alone."
        )
    return "Both phases must share one model row (vocab_size, hidden_size, n_layers, ... of `model` in the recipe)."


class NamedState:
    """Reads and writes the state of a DeepSpeed engine by name. All its methods are collective."""

    def __init__(self, engine: Any, optimizer: torch.optim.Optimizer, rule: OptimizerName, zero_stage: int) -> None:
        self.engine, self.optimizer, self.zero_stage = engine, optimizer, zero_stage
        parameters = list(engine.module.named_parameters())
        self.slots = [
            (parameter, slot, slot_name(name, slot))
            for name, parameter in parameters
            for slot in slots_of(name, getattr(parameter, "ds_shape", parameter.shape), rule)
        ]
        self.parameters = parameters
        self._create_slots()

    def _create_slots(self) -> None:
        """Optimizer state exists before the first step, so that it can be filled from a checkpoint."""
        wrapped = self.engine.optimizer
        for index, group in enumerate(self.optimizer.param_groups):
            parameters = group["params"]
            if self.zero_stage == 3:
                parameters = [
                    flat
                    for sub_group, flat in enumerate(wrapped.fp32_partitioned_groups_flat)
                    if wrapped.sub_group_to_group_id[sub_group] == index
                ]
            self.optimizer.ensure_state(parameters, group["slots"])  # type: ignore[attr-defined]
        if self.zero_stage in (1, 2):
            wrapped._lazy_init_hp_params_optimizer_state()

    def collect(self, wanted: set[str]) -> dict[str, Tensor]:
        """The named tensors, whole, contiguous, fp32, on the CPU."""
        collected = {}
        for name, read in self._readers():
            # Under ZeRO a read gathers from all workers, so all must walk all names.
            tensor = read() if self.zero_stage or name in wanted else None
            if name in wanted:
                assert tensor is not None, name
                collected[name] = tensor.detach().to("cpu", torch.float32).contiguous()
        return collected

    def load_optimizer(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Fill all slots; `steps` is how many steps they have seen."""
        from deepspeed.utils import safe_set_full_optimizer_state

        for parameter, slot, name in self.slots:
            if self.zero_stage:
                safe_set_full_optimizer_state(parameter, tensors[name], slot)
            else:
                self.optimizer.state[parameter][slot].copy_(tensors[name])
        for state in self.optimizer.state.values():
            state["step"] = steps

    @property
    def optimizer_steps(self) -> int:
        return max((state["step"] for state in self.optimizer.state.values()), default=0)

    def _readers(self) -> Iterator[tuple[str, Callable[[], Tensor | None]]]:
        for name, parameter in self.parameters:
            yield name, lambda p=parameter: self._read_parameter(p)  # type: ignore[misc]
        for parameter, slot, name in self.slots:
            yield name, lambda p=parameter, s=slot: self._read_slot(p, s)  # type: ignore[misc]

    def _read_parameter(self, parameter: nn.Parameter) -> Tensor | None:
        from deepspeed.utils import safe_get_full_fp32_param

        return safe_get_full_fp32_param(parameter) if self.zero_stage else parameter.data

    def _read_slot(self, parameter: nn.Parameter, slot: str) -> Tensor | None:
        from deepspeed.utils import safe_get_full_optimizer_state

        if self.zero_stage:
            return safe_get_full_optimizer_state(parameter, slot)
        return self.optimizer.state[parameter][slot]
