"""What each phase of a recipe takes on the GPUs it names: arithmetic, days, memory, disk, bandwidth, money.

Everything is reckoned from the recipe; nothing is measured. Days are tokens over the arithmetic that the GPUs do at the
utilisation that the recipe states (`cluster.utilisation`, model FLOPs), divided by `goodput`. `PUBLISHED` are the
utilisations others report, as bounds to hold the stated one against.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from k2model.artifacts import ArtifactRef, Store
from k2model.errors import K2Error
from k2model.planning.goodput import DAY, Interruptions, goodput, recommended_interval
from k2model.recipe.cluster import GPUS, Gpu
from k2model.recipe.counts import count_parameters, training_flops
from k2model.recipe.memory import Memory, training_memory
from k2model.recipe.schema import PhaseConfig, Recipe

#: Share of the bf16 peak by the model's own arithmetic, where it was published.
PUBLISHED = (
    ("Llama 3 405B, 8,192 H100, rows of 8,192", 0.43, "arXiv:2407.21783, table 4"),
    ("Llama 3 405B, 16,384 H100, rows of 8,192", 0.41, "arXiv:2407.21783, table 4"),
    ("Llama 3 405B, 16,384 H100, rows of 131,072", 0.38, "arXiv:2407.21783, table 4"),
    ("MegaScale 175B, 12,288 A100", 0.552, "arXiv:2402.15627"),
)

STATE_BYTES = 12  # a parameter in a checkpoint: weights and AdamW's two moments, fp32
ROW_BYTES = 4 + 1 / 8  # a packed token: its id and whether it is a target
SAMPLED = 64  # rows, of which the mean is taken for all
SNAPSHOT = 5e9  # bytes/s from a GPU to its host's memory: what a save stops training for


@dataclass(frozen=True)
class PhaseEstimate:
    """Of one phase. Sizes are bytes, times seconds.

    `flops`: of the whole phase, the model's own arithmetic; `whole_rows`: each row was taken for one document, since
    nothing is packed yet; `step_seconds`: at the stated utilisation, without interruptions; `kept`: checkpoints that
    stay; `stored`: what the phase leaves in the store; `reads`: bytes/s of packed rows that each node reads;
    `recommended_steps`: between saves by Daly's estimate, None where nothing fails; `interruptions`: how many are
    expected; `goodput`: the share of time that trains with the recipe's own `save_every`.
    """

    phase: str
    tokens: int
    steps: int
    flops: float
    whole_rows: bool
    gpus: int
    step_seconds: float
    memory: Memory
    checkpoint: float
    kept: int
    stored: float
    reads: float
    save_every: int
    recommended_steps: int | None
    interruptions: float
    goodput: float

    @property
    def gpu_hours(self) -> float:
        """Interruptions included."""
        return self.days * 24 * self.gpus

    @property
    def days(self) -> float:
        """Of the clock, interruptions included."""
        return self.steps * self.step_seconds / self.goodput / DAY


def estimate(recipe: Recipe, gpu: Gpu, attended: Mapping[str, float] | None = None) -> list[PhaseEstimate]:
    """Of every phase on GPUs of this kind; `attended`: pairs of positions in a mean row, of the phases whose rows are
    packed. A row of which nothing is known counts as one document, which is the most it can take."""
    return [_of_phase(recipe, phase, gpu, (attended or {}).get(phase.name)) for phase in recipe.phases]


def gpu_of(recipe: Recipe) -> Gpu | None:
    """The recipe's kind of GPU; None where it names none."""
    return GPUS.get(recipe.cluster.gpu)


def token_prices(recipe: Recipe) -> dict[str, float]:
    """What a token costs to train on, by phase, in the currency of `cluster.price_per_gpu_hour`, with the time that
    interruptions take. Raises K2Error where the recipe names no GPU or no price of it."""
    gpu, price = gpu_of(recipe), recipe.cluster.price_per_gpu_hour
    if gpu is None or not price:
        raise K2Error("what a token costs is not known; set cluster.gpu and cluster.price_per_gpu_hour")
    return {one.phase: price * one.gpu_hours / one.tokens for one in estimate(recipe, gpu)}


def step_flops(recipe: Recipe, phase: PhaseConfig, attended: float | None = None) -> float:
    """Of the model's own arithmetic in an optimizer step."""
    pairs = phase.sequence_length**2 if attended is None else attended
    return training_flops(recipe.model, phase.tokens_per_step, round(phase.global_batch * pairs))


def interruptions_of(recipe: Recipe, phase: PhaseConfig) -> Interruptions:
    """What the phase's job lives through by the recipe's cluster, with saves as the engine makes them: a copy in
    memory that stops training, and a write beside it."""
    cluster, layout = recipe.cluster, phase.parallelism
    gpus = layout.nodes * layout.workers_per_node
    size = STATE_BYTES * count_parameters(recipe.model)
    return Interruptions(
        failure_rate=cluster.failures_per_gpu_day * gpus / DAY,
        save_blocks=size / gpus / SNAPSHOT,
        save_lands=size / (cluster.store_gb_per_second * 1e9),
        restart=cluster.restart_seconds,
    )


def _of_phase(recipe: Recipe, phase: PhaseConfig, gpu: Gpu, attended: float | None) -> PhaseEstimate:
    layout, cluster, parameters = phase.parallelism, recipe.cluster, count_parameters(recipe.model)
    gpus = layout.nodes * layout.workers_per_node
    flops = step_flops(recipe, phase, attended)
    seconds = flops / (gpus * gpu.peak * cluster.utilisation)
    met = interruptions_of(recipe, phase)
    every = min(phase.checkpoints.save_every or phase.steps, phase.steps)  # the last step is saved in any case
    share = goodput(every * seconds, met)
    if not share:
        raise K2Error(
            f"phases.{phase.name} would not come from one save to the next in any time worth telling: "
            f"{met.failure_rate * DAY:.3g} interruptions a day (cluster.failures_per_gpu_day x {gpus:,} GPUs), and "
            f"{every * seconds / DAY:.3g} days between saves (checkpoints.save_every)"
        )
    kept = 1 + ((phase.steps - 1) // phase.checkpoints.keep_every if phase.checkpoints.keep_every else 0)
    best = recommended_interval(met)
    # Data workers of one node; where a row is shared over nodes each of them reads it.
    readers = max(1, layout.workers_per_node // (layout.tensor * layout.context))
    data = gpus // (layout.tensor * layout.context)
    return PhaseEstimate(
        phase=phase.name,
        tokens=phase.tokens,
        steps=phase.steps,
        flops=flops * phase.steps,
        whole_rows=attended is None,
        gpus=gpus,
        step_seconds=seconds,
        memory=training_memory(recipe.model, phase),
        checkpoint=STATE_BYTES * parameters,
        kept=kept,
        stored=kept * STATE_BYTES * parameters + (2 if recipe.export.bf16 else 4) * parameters,
        reads=readers * phase.tokens_per_step / data * ROW_BYTES / seconds,
        save_every=every,
        recommended_steps=max(1, min(phase.steps, round(best / seconds))) if math.isfinite(best) else None,
        interruptions=met.failure_rate * phase.steps * seconds / share,
        goodput=share,
    )


def attended_pairs(store: Store, sequences: ArtifactRef) -> float:
    """The mean over rows of the sum of squared lengths of their documents, from rows spread evenly over the phase;
    padding attends to nothing worth counting."""
    import numpy as np

    from k2model.tokens import PackedSequences

    packed = PackedSequences.open(store, sequences)
    found = []
    for row in np.unique(np.linspace(0, packed.rows - 1, SAMPLED).astype(int)):
        document = packed.batch(int(row), 1)["document"].numpy()
        _, lengths = np.unique(document[document >= 0], return_counts=True)
        found.append(int(np.square(lengths.astype(np.int64)).sum()))
    return float(np.mean(found))
