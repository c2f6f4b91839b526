"""Peaks of memory: bytes of all tensors alive, op by op, of real steps and of steps on tensors without content."""

import contextlib
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from k2model.recipe.schema import ModelConfig, PhaseConfig
from k2model.training.world import World

DOCUMENT = 64  # tokens of each document of the measured rows


class LiveBytes(TorchDispatchMode):
    """Counts storages of one device from the op that made them until they are freed; what an op takes and gives back
    inside itself is not seen. `strays`: ops that gave tensors of another device than their operands'."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.now, self.peak = device, 0, 0
        self.strays: list[str] = []
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operands = {x.device.type for x in _tensors((args, kwargs)) if x.dim()}
        if function is torch.ops.aten.nonzero.default and operands == {"meta"}:  # of what has no content: all of it
            result = torch.empty(args[0].numel(), args[0].dim(), dtype=torch.int64, device="meta")
        else:
            result = function(*args, **(kwargs or {}))
        for made in _tensors(result):
            if made.device.type == self.device:
                self._count(made.untyped_storage())
            if made.dim() and operands and made.device.type not in operands:
                self.strays.append(f"{function}: {made.device} of {operands}")
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def measured_peak(world: World, model: ModelConfig, phase: PhaseConfig) -> int:
    """Bytes at the peak of two real steps, engine included, on this worker. Collective."""
    from k2model.training.engine import Engine
    from k2model.training.layout import Layout

    gc.collect()
    with LiveBytes("cpu") as live:
        layout = Layout.of(world, phase.parallelism)
        engine = Engine(model, phase, layout)
        for _ in range(2):
            batch = _batch(model, phase, layout)
            engine.step(batch, 1e-3, batch.targets, 1)
    return live.peak


def _batch(model: ModelConfig, phase: PhaseConfig, layout: Any) -> Any:
    from k2model.model.loss import shifted_targets
    from k2model.training.batch import Batch

    rows, length = phase.global_batch // layout.data.size, phase.sequence_length
    tokens = torch.randint(0, model.vocab_size, (rows, length))
    document = (torch.arange(length, dtype=torch.int32) // DOCUMENT).expand(rows, -1)
    targets = shifted_targets(tokens, torch.ones(rows, length, dtype=torch.bool))
    return Batch(
        tokens_BT=layout.context.cut(tokens, 1),
        targets_BT=layout.context.cut(targets, 1),
        document_BR=document,
        source_BT=layout.context.cut(torch.zeros(rows, length, dtype=torch.uint8), 1),
        targets=rows * (length - 1) * layout.data.size,
        attended=0,
    )


def imagined_peak(model: ModelConfig, phase: PhaseConfig, keep_gradients: bool = True) -> tuple[int, int, list[str]]:
    """(bytes of parameters and buffers, of all at the peak of a forward and a backward pass, ops that strayed) of one
    worker of a phase, on tensors without content; attention as FlashAttention's kernel keeps and gives. Without
    `keep_gradients` each is dropped when it is there, as one that ZeRO has reduced. Joins a world that is not there."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from k2model.model import K2Model
    from k2model.model.parallel import WHOLE, Shard

    layout = phase.parallelism
    dist.init_process_group("fake", rank=0, world_size=layout.nodes * layout.workers_per_node, store=FakeStore())
    try:
        tensor, context = (
            Shard(0, size, dist.new_group(list(range(size)))) if size > 1 else WHOLE
            for size in (layout.tensor, layout.context)
        )
        with LiveBytes("meta") as live, torch.device("meta"), _bf16_on_meta():
            residual = torch.bfloat16 if phase.bf16_residual else torch.float32
            built = K2Model(
                model, phase.rope_theta, phase.sequence_length, tensor=tensor, context=context,
                recompute=layout.recompute, residual=residual,
            )  # fmt: skip
            weights, live.peak = live.now, live.now
            if not keep_gradients:
                for parameter in built.parameters():
                    parameter.register_post_accumulate_grad_hook(lambda done: setattr(done, "grad", None))
            shape = (layout.micro_batch, phase.sequence_length // layout.context)
            tokens = torch.zeros(shape, dtype=torch.int64)
            loss, _ = built.loss(tokens, tokens)
            loss.backward()
    finally:
        dist.destroy_process_group()
    return weights, live.peak, live.strays


@contextlib.contextmanager
def _bf16_on_meta() -> Iterator[None]:
    """The meta device knows neither autocast nor which attention kernel would be taken."""
    from k2model.model import attention
    from k2model.model.products import Products

    of, causal = Products.of, attention._causal
    Products.of = classmethod(lambda cls, x, weight: cls(torch.bfloat16))  # type: ignore[method-assign,assignment]
    attention._causal = _Flash.apply
    try:
        yield
    finally:
        Products.of, attention._causal = of, causal  # type: ignore[method-assign]


class _Flash(torch.autograd.Function):
    """What the kernel keeps: its operands, its result and a log-sum for each query."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        result, sums = torch.empty_like(query), torch.empty(query.shape[:3], device=query.device)
        ctx.save_for_backward(query, key, value, result, sums)
        return result

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:  # type: ignore[override]
        return tuple(torch.empty_like(x) for x in ctx.saved_tensors[:3])
