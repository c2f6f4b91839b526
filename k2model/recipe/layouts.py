"""Which layouts of a phase fit a kind of GPU, how fast each would be, and the nearest to one that does not fit.

Seconds are for ranking: the model's arithmetic, again where blocks are recomputed, at `EFFICIENCY` of the peak, and
the bytes that collectives move at the data sheet's rates, one after the other, since the engine overlaps nothing. They
leave out the loader, the optimizer's pass and stragglers: they say which layout is faster and not when a run ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from k2model.recipe.cluster import Gpu
from k2model.recipe.counts import training_flops
from k2model.recipe.memory import FITS, Memory, held_parameters, training_memory
from k2model.recipe.parallelism import layout_problem
from k2model.recipe.schema import ModelConfig, Parallelism, PhaseConfig, Recompute

EFFICIENCY = 0.6  # of the peak, of matrix products and attention while they run: ours, of this order on H100
NAMED = ("recompute", "micro_batch", "zero_stage", "tensor", "context", "nodes")  # what differs, as it is told


@dataclass(frozen=True)
class Candidate:
    """A layout that works. `seconds`: of a step, for ranking; `arithmetic` the part that computes."""

    layout: Parallelism
    memory: Memory
    seconds: float
    arithmetic: float

    def fits(self, gpu: Gpu) -> bool:
        return self.memory.peak <= FITS * gpu.memory


def ranked_layouts(model: ModelConfig, phase: PhaseConfig, gpu: Gpu, nodes: int) -> list[Candidate]:
    """All layouts over `nodes` (of as many workers each as the phase has) that fit, the fastest first."""
    found = [candidate for candidate in _candidates(model, phase, gpu, nodes) if candidate.fits(gpu)]
    return sorted(found, key=lambda candidate: (candidate.seconds, candidate.memory.peak))


def fit_problem(model: ModelConfig, phase: PhaseConfig, gpu: Gpu) -> str | None:
    """What is wrong with a layout that takes more than `FITS` of the GPU's memory, with the nearest that does not."""
    layout = phase.parallelism
    memory = training_memory(model, phase)
    if memory.peak <= FITS * gpu.memory:
        return None
    parts = ", ".join(
        f"{name} {getattr(memory, name) / 1e9:.1f}"
        for name in ("weights", "gradients", "optimizer", "kept", "block", "head", "buffers")
    )
    said = (
        f"phases.{phase.name}.parallelism takes {memory.peak / 1e9:.0f} GB of a worker ({parts}), and of a "
        f"{gpu.name}'s {gpu.memory / 1e9:.0f} GB {FITS:.0%} may be planned with. "
    )
    fitting = ranked_layouts(model, phase, gpu, layout.nodes)
    if not fitting:
        return f"{said}No layout over {layout.nodes} nodes fits: take more nodes, or GPUs with more memory"
    nearest = min(fitting, key=lambda one: (len(changes(layout, one.layout)), one.seconds))
    return f"{said}The nearest that fits ({nearest.memory.peak / 1e9:.0f} GB): {told_changes(layout, nearest.layout)}"


def changes(old: Parallelism, new: Parallelism) -> list[str]:
    """Fields that differ."""
    return [name for name in NAMED if getattr(old, name) != getattr(new, name)]


def told_changes(old: Parallelism, new: Parallelism) -> str:
    return ", ".join(f"{name}={getattr(new, name)}" for name in changes(old, new)).replace("Recompute.", "").lower()


def _candidates(model: ModelConfig, phase: PhaseConfig, gpu: Gpu, nodes: int) -> Iterator[Candidate]:
    per_node = phase.parallelism.workers_per_node
    workers = nodes * per_node
    for tensor in _powers(per_node):
        for context in _powers(workers // tensor):
            base = replace(phase.parallelism, nodes=nodes, tensor=tensor, context=context, offload=False)
            if workers % (tensor * context) or layout_problem(model, replace(phase, parallelism=base)):
                continue
            rows = phase.global_batch * tensor * context // workers
            for micro in (micro for micro in sorted({1, 2, 3, 4, 8, rows}) if micro <= rows and not rows % micro):
                for stage in (1, 2, 3):
                    for recompute in Recompute:
                        layout = replace(base, micro_batch=micro, zero_stage=stage, recompute=recompute)
                        yield candidate(model, phase, layout, gpu)


def _powers(most: int) -> list[int]:
    return [2**power for power in range(most.bit_length()) if 2**power <= most]


def candidate(model: ModelConfig, phase: PhaseConfig, layout: Parallelism, gpu: Gpu) -> Candidate:
    """A layout with what it takes; rows count as one document each."""
    arithmetic = _arithmetic(model, phase, layout, gpu)
    seconds = arithmetic + _tensor(model, phase, layout, gpu) + _context(model, phase, layout, gpu)
    return Candidate(
        layout, training_memory(model, phase, layout), seconds + _data(model, phase, layout, gpu), arithmetic
    )


def _arithmetic(model: ModelConfig, phase: PhaseConfig, layout: Parallelism, gpu: Gpu) -> float:
    flops = training_flops(model, phase.tokens_per_step, phase.tokens_per_step * phase.sequence_length)
    passes = 4 / 3 if layout.recompute is Recompute.FULL else 1.0  # forward, twice that backward, and forward again
    return flops * passes / (layout.nodes * layout.workers_per_node * gpu.peak * EFFICIENCY)


def _positions(phase: PhaseConfig, layout: Parallelism) -> float:
    """That a worker multiplies in a step."""
    return phase.tokens_per_step * layout.tensor / (layout.nodes * layout.workers_per_node)


def _tensor(model: ModelConfig, phase: PhaseConfig, layout: Parallelism, gpu: Gpu) -> float:
    """Of a block forward two gathers and two scatters of all positions in bf16, backward six, and forward again where
    it is recomputed."""
    if layout.tensor == 1:
        return 0.0
    times = 14 if layout.recompute is Recompute.FULL else 10
    size = _positions(phase, layout) * model.hidden_size * 2 * (layout.tensor - 1) / layout.tensor
    return model.n_layers * times * size / gpu.link


def _context(model: ModelConfig, phase: PhaseConfig, layout: Parallelism, gpu: Gpu) -> float:
    """Of a block queries, keys, values and what attention gives, all to all; forward, backward, and forward again."""
    if layout.context == 1:
        return 0.0
    times = 3 if layout.recompute is Recompute.FULL else 2
    values = 2 * (model.n_heads + model.n_kv_heads) * model.head_dim / layout.tensor
    size = _positions(phase, layout) * values * 2 * (layout.context - 1) / layout.context
    near = layout.tensor * layout.context <= layout.workers_per_node
    return model.n_layers * times * size / (gpu.link if near else gpu.network)


def _data(model: ModelConfig, phase: PhaseConfig, layout: Parallelism, gpu: Gpu) -> float:
    """Gradients scattered and weights gathered, fp32; under ZeRO 3 weights once more for each pass of a micro-batch."""
    workers = layout.nodes * layout.workers_per_node
    replicas = workers / layout.tensor
    if replicas == 1:
        return 0.0
    times = 2.0
    if layout.zero_stage == 3:
        micro_batches = _positions(phase, layout) * layout.context / (layout.micro_batch * phase.sequence_length)
        times = 1 + micro_batches * (3 if layout.recompute is Recompute.FULL else 2)
    elif layout.zero_stage == 2:
        micro_batches = _positions(phase, layout) * layout.context / (layout.micro_batch * phase.sequence_length)
        times = 1 + micro_batches
    size = 4 * held_parameters(model, layout.tensor) * (replicas - 1) / replicas
    return times * size / (gpu.link if layout.nodes == 1 else gpu.network)
