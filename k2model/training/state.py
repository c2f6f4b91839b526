"""The training state as named tensors: what a checkpoint holds and how it goes in and out of the engine.

Names are `model.<parameter>` and `optimizer.<parameter>.<slot>`; all is fp32. A worker sees the flat pieces
it holds under its ZeRO stage, as views of the engine's own memory: saving and loading gather nothing.
Files are left to `checkpoint`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from k2model.errors import CheckpointMismatch
from k2model.model.parallel import Shard
from k2model.recipe.schema import OptimizerName
from k2model.training.checkpoint import MODEL, OPTIMIZER, InMemory, NamedTensors, Piece, Placement, share
from k2model.training.layout import Layout
from k2model.training.optimizers import slots_of


class TrainingState:
    """Where training starts from. `tensors`: whole ones by name, read from a checkpoint as they are asked for.
    `optimizer_steps` None: weights alone, a fresh optimizer. `origin` says in messages where they come from.
    """

    def __init__(self, tensors: Mapping[str, Tensor], optimizer_steps: int | None, origin: str) -> None:
        self.tensors = tensors if isinstance(tensors, NamedTensors) else InMemory(tensors)
        self.optimizer_steps, self.origin = optimizer_steps, origin


def whole_shape(parameter: str, local: torch.Size, tensor: Shard) -> torch.Size:
    """The shape of a parameter of which this worker holds `local`, its tensor-parallel part."""
    return torch.Size(Placement.of(parameter, local, tensor).shape)


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
        found = state.tensors.shapes[name]
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


@dataclass(frozen=True)
class _Named:
    """One tensor of the state: `parameter` itself or the `slot` of the optimizer for it."""

    name: str
    parameter: nn.Parameter
    slot: str | None
    place: Placement


class NamedState:
    """The state of a DeepSpeed engine by name, as far as this worker holds it. Nothing here is collective."""

    def __init__(
        self, engine: Any, optimizer: torch.optim.Optimizer, rule: OptimizerName, zero_stage: int, layout: Layout
    ) -> None:
        self.engine, self.optimizer, self.zero_stage, self.layout = engine, optimizer, zero_stage, layout
        self.named = [
            _Named(name if slot is None else slot_name(name, slot), parameter, slot, place)
            for name, parameter, place in self._parameters()
            for slot in (None, *slots_of(name, torch.Size(place.shape), rule))
        ]
        self._create_slots()

    def _parameters(self) -> Iterator[tuple[str, nn.Parameter, Placement]]:
        for name, parameter in self.engine.module.named_parameters():
            local = getattr(parameter, "ds_shape", parameter.shape)
            yield name, parameter, Placement.of(name, local, self.layout.tensor)

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

    def pieces(self) -> list[Piece]:
        """What this worker writes of the state, sorted by name: the pieces of all workers together are disjoint
        and complete. Views of memory that the next step changes."""
        layout = self.layout
        cut: list[Piece] = []
        uncut: list[Piece] = []  # by tensor parallelism: all of its workers hold the same
        for entry, piece in self._held():
            (uncut if entry.place.size == torch.Size(entry.place.shape).numel() else cut).append(piece)
        tensor, replicas = layout.tensor, layout.replicas if self.zero_stage == 0 else Shard()
        mine = [
            *share(cut, replicas.rank, replicas.size),
            *share(uncut, replicas.rank * tensor.size + tensor.rank, replicas.size * tensor.size),
        ]
        return sorted(mine, key=lambda piece: piece.name)

    def load_optimizer(self, tensors: NamedTensors, steps: int) -> None:
        """Fill this worker's part of all slots; `steps` is how many steps they have seen."""
        for entry, piece in self._held():
            if entry.slot is not None:
                piece.tensor.copy_(tensors.read(piece.name, piece.start, piece.tensor.numel(), piece.columns))
        for state in self.optimizer.state.values():
            state["step"] = steps

    @property
    def optimizer_steps(self) -> int:
        """Steps the optimizer state has seen, those of earlier phases included where their state was kept."""
        return max((state["step"] for state in self.optimizer.state.values()), default=0)

    def _held(self) -> Iterator[tuple[_Named, Piece]]:
        """All that this worker holds of the fp32 state, as views; under ZeRO a partition of it."""
        read = {0: self._whole, 1: self._fragment, 2: self._fragment, 3: self._partition}[self.zero_stage]
        for entry in self.named:
            found = read(entry.parameter, entry.slot)
            if found is not None:
                start, values = found
                place = entry.place
                yield entry, Piece(entry.name, place.shape, place.columns, place.start + start, values.detach())

    def _whole(self, parameter: nn.Parameter, slot: str | None) -> tuple[int, Tensor]:
        tensor = parameter.data if slot is None else self.optimizer.state[parameter][slot]
        return 0, tensor.view(-1)

    def _fragment(self, parameter: nn.Parameter, slot: str | None) -> tuple[int, Tensor] | None:
        """ZeRO 1 and 2 cut each group, its parameters laid end to end, in equal ranges."""
        mapping = parameter._hp_mapping  # type: ignore[attr-defined]
        if mapping is None:
            return None
        return mapping.lp_fragment_address.start, mapping.get_hp_fragment(slot)

    def _partition(self, parameter: nn.Parameter, slot: str | None) -> tuple[int, Tensor] | None:
        """ZeRO 3 cuts each parameter in equal ranges, the last ones padded."""
        wrapped = self.engine.optimizer
        sub_group, offset, size = wrapped.grad_position[wrapped.get_param_id(parameter)]
        flat = wrapped.fp32_partitioned_groups_flat[sub_group]
        values = flat if slot is None else self.optimizer.state[flat][slot]
        start = size * wrapped._get_param_partition_rank(parameter)
        real = min(size, parameter.ds_numel - start)  # type: ignore[attr-defined]
        return (start, values[offset : offset + real]) if real > 0 else None
