"""AdamW, and Muon on the matrices inside blocks, as one torch optimizer the engine can step.

One class for both rows of the recipe keeps one layout of named state for checkpoints. Work that is
the same on every worker is not repeated: each orthogonalises its share of the matrices and the
updates are gathered, so state stays replicated and every worker applies identical bits. Learning
rate schedules, loss scaling and ZeRO partitioning are left to others.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from k2model.model.parallel import WHOLE, Shard
from k2model.model.products import multiplies_bf16
from k2model.recipe.schema import OptimizerConfig, OptimizerName

# Quintic Newton-Schulz coefficients of Keller Jordan, https://kellerjordan.github.io/posts/muon/
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ADAM_SLOTS = ("exp_avg", "exp_avg_sq")
MUON_SLOTS = ("momentum_buffer",)


def slots_of(name: str, shape: torch.Size, rule: OptimizerName) -> tuple[str, ...]:
    """The optimizer's tensors for a parameter. Muon takes the matrices inside blocks, AdamW the rest."""
    return MUON_SLOTS if rule is OptimizerName.MUON and len(shape) == 2 and "blocks." in name else ADAM_SLOTS


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig) -> list[dict[str, Any]]:
    """Groups `muon`, `adamw` with decay (matrices) and `adamw` without (gains); empty ones left out."""
    muon: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in named:
        if slots_of(name, parameter.shape, config.name) is MUON_SLOTS:
            muon.append(parameter)
        else:
            (decayed if parameter.dim() >= 2 else plain).append(parameter)
    groups = (
        {"params": muon, "rule": "muon", "slots": MUON_SLOTS, "weight_decay": config.weight_decay},
        {"params": decayed, "rule": "adamw", "slots": ADAM_SLOTS, "weight_decay": config.weight_decay},
        {"params": plain, "rule": "adamw", "slots": ADAM_SLOTS, "weight_decay": 0.0},
    )
    return [group for group in groups if group["params"]]


class K2Optimizer(torch.optim.Optimizer):
    """AdamW (Loshchilov & Hutter, arXiv:1711.05101) and Muon with the update size of AdamW
    (0.2 sqrt(max(rows, columns)), Moonlight, arXiv:2502.16982).

    `clip` > 0 scales all gradients down to that global norm before the update, 0 only measures;
    `grad_norm` is the norm before clipping of the last step. None leaves both to the engine. `tensor`: the
    workers that hold parts of the same matrices, whose gradients make one norm.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        config: OptimizerConfig,
        clip: float | None,
        tensor: Shard = WHOLE,
    ) -> None:
        self.config, self.clip, self.tensor = config, clip, tensor
        self.grad_norm = math.nan
        super().__init__(parameter_groups(named, config), {"lr": config.lr})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's own, which its decorator only keeps from torch.compile: at the price of importing it, 2 s."""
        torch.optim.Optimizer.add_param_group.__wrapped__(self, param_group)  # type: ignore[attr-defined]

    def ensure_state(self, parameters: Iterable[Tensor], slots: tuple[str, ...]) -> None:
        """Zero state for parameters that have none, so that a checkpoint can be read before the first step."""
        for parameter in parameters:
            state = self.state[parameter]
            if "step" not in state:
                state["step"] = 0
                for slot in slots:
                    state[slot] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "gradients are computed by the engine before the step"
        if self.clip is not None:
            self._clip(self.clip)
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue  # ZeRO stage 3 steps one group at a time and empties the others
            self.ensure_state(parameters, group["slots"])
            (self._muon if group["rule"] == "muon" else self._adamw)(parameters, group)

    def _clip(self, limit: float) -> None:
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        gradients = [p.grad for p in parameters]
        norms = torch.stack(torch._foreach_norm(gradients))
        if self.tensor.size > 1:
            # A parameter that all have whole must count once.
            mine = [hasattr(p, "tensor_model_parallel") or self.tensor.rank == 0 for p in parameters]
            square = norms[torch.tensor(mine, device=norms.device)].square().sum()
            dist.all_reduce(square, group=self.tensor.group)
            self.grad_norm = square.sqrt().item()
        else:
            self.grad_norm = torch.linalg.vector_norm(norms).item()
        coefficient = limit / (self.grad_norm + 1e-6)
        if 0 < coefficient < 1.0:
            torch._foreach_mul_(gradients, coefficient)

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """One pass over each parameter and its state; torch's own kernel, called past the class that would keep
        its step counts in tensors and import torch.compile."""
        states = [self.state[p] for p in parameters]
        step = torch.full((), float(_advance(states)), device=parameters[0].device)  # a copy would wait for the device
        gradients = [p.grad for p in parameters if p.grad is not None]
        first, second = ([s[slot] for s in states] for slot in ADAM_SLOTS)
        torch._fused_adamw_(
            parameters,
            gradients,
            first,
            second,
            [],
            [step] * len(parameters),
            lr=group["lr"],
            beta1=self.config.beta1,
            beta2=self.config.beta2,
            weight_decay=group["weight_decay"],
            eps=self.config.eps,
            amsgrad=False,
            maximize=False,
        )

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        states = [self.state[p] for p in parameters]
        _advance(states)
        lr, momentum = group["lr"], self.config.muon_momentum
        gradients = [p.grad for p in parameters if p.grad is not None]
        buffers = [s["momentum_buffer"] for s in states]
        torch._foreach_lerp_(buffers, gradients, 1.0 - momentum)

        def direction(index: int) -> Tensor:
            return gradients[index].lerp(buffers[index], momentum)

        updates = orthogonalised(parameters, direction, self.config.muon_newton_schulz_steps)
        torch._foreach_mul_(parameters, 1.0 - lr * group["weight_decay"])
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.add_(update, alpha=-lr * 0.2 * math.sqrt(max(parameter.shape)))


def _advance(states: list[dict[str, Any]]) -> int:
    """Count one more step in every state; they all count alike. Returns the 1-based number."""
    step = states[0]["step"] + 1
    for state in states:
        assert state["step"] == step - 1, "parameters of one group have taken different numbers of steps"
        state["step"] = step
    return step


def orthogonalised(parameters: list[Tensor], direction: Callable[[int], Tensor], iterations: int) -> list[Tensor]:
    """bf16 updates in the parameters' order and shapes [rows, columns]; `direction(i)` gives what to orthogonalise.

    Matrices of one shape go round the workers, each computes its own in one batched product chain,
    and one all-gather brings all of them to everyone. Gathering bf16 loses nothing.
    """
    world = dist.get_world_size() if dist.is_initialized() else 1
    rank = dist.get_rank() if world > 1 else 0
    by_shape: dict[torch.Size, list[int]] = defaultdict(list)
    for index, parameter in enumerate(parameters):
        by_shape[parameter.shape].append(index)

    place: dict[int, tuple[int, int]] = {}  # index -> (owner, offset in the owner's buffer)
    own: list[Tensor] = []
    offset = turn = 0
    for shape, indices in by_shape.items():
        slots = math.ceil(len(indices) / world)
        for position, index in enumerate(indices):
            place[index] = ((turn + position) % world, offset + (position // world) * shape.numel())
        mine = [index for index in indices if place[index][0] == rank]
        block = torch.zeros(slots, *shape, dtype=torch.bfloat16, device=parameters[indices[0]].device)
        if mine:
            block[: len(mine)] = newton_schulz(torch.stack([direction(index) for index in mine]), iterations)
        own.append(block.flatten())
        offset += block.numel()
        turn += len(indices)  # the next shape's remainder starts with another worker
    gathered = _all_gather(torch.cat(own), world)
    return [
        gathered[owner, start : start + p.numel()].view(p.shape)
        for p, (owner, start) in ((p, place[i]) for i, p in enumerate(parameters))
    ]


def _all_gather(own: Tensor, world: int) -> Tensor:
    """[world, n] of every worker's bf16 buffer."""
    if world == 1:
        return own[None]
    gathered = torch.empty(world, own.numel(), dtype=own.dtype, device=own.device)
    dist.all_gather_single(gathered.view(-1), own)
    return gathered


def newton_schulz(matrices: Tensor, iterations: int) -> Tensor:
    """Nearly orthogonal factor of each matrix of a batch [n, rows, columns], in bf16.

    Pushes all singular values towards 1 by a quintic iteration on the smaller side.
    """
    a, b, c = NEWTON_SCHULZ
    # Where bf16 cannot be multiplied, its values are, in fp32.
    wide = torch.bfloat16 if multiplies_bf16(matrices.device.type) else torch.float32

    def rounded(x: Tensor) -> Tensor:
        return x.to(torch.bfloat16).to(wide)

    x = rounded(matrices)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT.contiguous()
    x = rounded(x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp(min=1e-7))
    for _ in range(iterations):
        gram = rounded(x @ x.mT)
        x = rounded(torch.baddbmm(x, rounded(torch.baddbmm(gram, gram, gram, beta=b, alpha=c)), x, beta=a))
    return (x.mT if tall else x).to(torch.bfloat16)
