"""A recipe of another size, derived from a measured one by stated rules.

`derive(base, size)` gives the recipe together with its derivation: one `Derived` for each value that is not the base's,
with the rule it comes from, the rule's source, and the arithmetic. The recipe is made from these rows and from nothing
else, so the two cannot differ. `k2 plan RECIPE --why` prints them.

Where a rule is a published law, its exponent is the law's and its constant the base's: the law is only asked how much
smaller a value gets, never how large it is. The rules are `k2model.recipe.rules`.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from k2model.recipe.cluster import GPUS
from k2model.recipe.counts import count_non_embedding_parameters, count_parameters
from k2model.recipe.memory import training_memory
from k2model.recipe.mixtures import known_sizes, plan_mixture
from k2model.recipe.overrides import apply_overrides
from k2model.recipe.rules import (
    BATCH,
    BATCH_POWER,
    BYTES_PER_ENTRY,
    CHECKPOINTS,
    CLUSTER,
    DECAY,
    FOR_ALL,
    FOR_STATES,
    INITIAL,
    LAYER_WIDTH,
    LAYOUT,
    MIXTURES,
    POSITIONS,
    RATE,
    SHAPE,
    TOKENS,
    VOCABULARY,
    VOCABULARY_POWER,
    WARMUP,
    WARMUP_STEPS,
    Rule,
)
from k2model.recipe.schema import MixtureEntry, ModelConfig, Parallelism, PhaseConfig, PhaseKind, Recipe
from k2model.units import readable_count

HEAD_GROUP = 1024  # 8 key/value heads of 128
VOCABULARY_UNIT = 1024  # 128 rows of the head for each of up to 8 tensor-parallel workers


@dataclass(frozen=True)
class Derived:
    """One value. `field` is its dotted name in the recipe, `base` what the base recipe has there, `how` the arithmetic.

    `told`: the row only tells what others come to (a sum, a mixture): it is nothing that could be set.
    """

    field: str
    base: Any
    value: Any
    rule: Rule
    how: str = ""
    told: bool = False


@dataclass(frozen=True)
class Size:
    """What a person chooses; all else follows. `gpu`: a row of `GPUS`."""

    name: str
    parameters: float
    nodes: int
    gpu: str = "H100-80GB"

    @property
    def memory(self) -> float:
        """Bytes of one GPU."""
        return GPUS[self.gpu].memory


def derive(base: Recipe, size: Size) -> tuple[Recipe, tuple[Derived, ...]]:
    """The recipe `size.name` and how it came about. What no row names is as in `base`, but for its texts."""
    shape = [*_shape(base, size), *_cluster(base, size)]
    recipe = _with(base, shape)
    rows = list(shape)
    layouts = {phase.name: _layout(recipe.model, phase, size) for phase in base.phases}
    for phase in base.phases:
        rows += _phase(base, phase, recipe.model, layouts)
    recipe = _with(recipe, rows[len(shape) :])
    mixtures = _mixtures(base)
    recipe = replace(
        recipe,
        name=size.name,
        phases=tuple(replace(phase, mixture=mixtures[phase.name]) for phase in recipe.phases),
    )
    return recipe, (*rows, *_told_mixtures(base, recipe))


def _with(recipe: Recipe, rows: Iterable[Derived]) -> Recipe:
    changed: Recipe = apply_overrides(recipe, {row.field: row.value for row in rows if not row.told})
    return changed


def _shape(base: Recipe, size: Size) -> Iterator[Derived]:
    old = base.model
    widths = range(HEAD_GROUP, old.hidden_size + 1, HEAD_GROUP)
    model = min(
        (_model(old, width) for width in widths), key=lambda m: abs(math.log(count_parameters(m) / size.parameters))
    )
    for name in ("hidden_size", "n_layers", "n_heads", "ffn_size"):
        yield Derived(f"model.{name}", getattr(old, name), getattr(model, name), SHAPE)
    blocks, embeddings = count_non_embedding_parameters(model), 2 * model.vocab_size * model.hidden_size
    told = f"{readable_count(blocks)} + {readable_count(embeddings)} of embeddings"
    yield Derived("parameters", count_parameters(old), blocks + embeddings, SHAPE, told, told=True)
    how = (
        f"{old.vocab_size:,} x ({readable_count(blocks)} / {readable_count(count_non_embedding_parameters(old))})"
        f"^{VOCABULARY_POWER} x {old.hidden_size:,} / {model.hidden_size:,}"
    )
    yield Derived("model.vocab_size", old.vocab_size, model.vocab_size, VOCABULARY, how)
    yield Derived("tokenizer.vocab_size", base.tokenizer.vocab_size, model.vocab_size, VOCABULARY)
    sample = model.vocab_size * BYTES_PER_ENTRY
    yield Derived("tokenizer.sample_bytes", base.tokenizer.sample_bytes, sample, VOCABULARY)
    how = f"{old.init_std:g} x sqrt({old.hidden_size:,} / {model.hidden_size:,})"
    yield Derived("model.init_std", old.init_std, model.init_std, INITIAL, how)


def _model(old: ModelConfig, width: int) -> ModelConfig:
    """The model of a width, by the rules of shape, vocabulary and initial weights."""
    model = replace(
        old,
        hidden_size=width,
        n_layers=width // LAYER_WIDTH,
        n_heads=width // old.head_dim,
        ffn_size=old.ffn_size * width // old.hidden_size,
        init_std=_digits(old.init_std * math.sqrt(old.hidden_size / width)),
    )
    shrunk = (count_non_embedding_parameters(model) / count_non_embedding_parameters(old)) ** VOCABULARY_POWER
    entries = old.vocab_size * old.hidden_size * shrunk / width
    return replace(model, vocab_size=max(1, round(entries / VOCABULARY_UNIT)) * VOCABULARY_UNIT)


def _layout(model: ModelConfig, phase: PhaseConfig, size: Size) -> Parallelism:
    old = phase.parallelism
    layout = replace(old, nodes=size.nodes, tensor=1, micro_batch=max(1, POSITIONS // phase.sequence_length))
    while layout.zero_stage < 3 and training_memory(model, phase, layout).states > FOR_STATES * size.memory:
        layout = replace(layout, zero_stage=layout.zero_stage + 1)
    while training_memory(model, phase, layout).peak > FOR_ALL * size.memory:
        if layout.context == model.n_heads:
            break  # no more workers can share a row; the estimate in the derivation says what it would take
        layout = replace(layout, context=2 * layout.context)
    return layout


def _phase(base: Recipe, phase: PhaseConfig, model: ModelConfig, layouts: dict[str, Parallelism]) -> Iterator[Derived]:
    where, layout = f"phases.{phase.name}", layouts[phase.name]
    whole, width = phase.kind is PhaseKind.SFT, base.model.hidden_size / model.hidden_size
    shrunk = 1.0 if whole else count_parameters(model) / count_parameters(base.model)
    batch, how = _batch(base, phase, shrunk, layouts)
    steps = round(phase.tokens * shrunk / (batch * phase.sequence_length))
    done = replace(phase, global_batch=batch, steps=steps)
    rate = _digits(phase.optimizer.lr * width)
    tau = 1 / (phase.optimizer.lr * phase.optimizer.weight_decay * phase.steps)
    warmup = round(phase.schedule.warmup_steps * steps / phase.steps) if phase.parent else WARMUP_STEPS
    save = _round_number(phase.checkpoints.save_every * steps / phase.steps, steps, phase)
    keep = save * (phase.checkpoints.keep_every // phase.checkpoints.save_every)
    a_parameter = phase.tokens / count_parameters(base.model)
    told = "the whole list" if whole else f"{a_parameter:.4g} a parameter x {readable_count(count_parameters(model))}"
    yield Derived(f"{where}.tokens", phase.tokens, done.tokens, TOKENS, told, told=True)
    told = f"tokens / ({batch:,} x {phase.sequence_length:,})"
    yield Derived(f"{where}.steps", phase.steps, steps, TOKENS, told)
    yield Derived(f"{where}.global_batch", phase.global_batch, batch, BATCH, how)
    yield Derived(f"{where}.optimizer.lr", phase.optimizer.lr, rate, RATE, f"{phase.optimizer.lr:g} x {width:g}")
    decay = _digits(1 / (tau * rate * steps))
    how = f"1 / (tau {tau:.4g} x {rate:g} x {steps:,})"
    yield Derived(f"{where}.optimizer.weight_decay", phase.optimizer.weight_decay, decay, DECAY, how)
    yield Derived(f"{where}.schedule.warmup_steps", phase.schedule.warmup_steps, warmup, WARMUP)
    for name in ("cooldown_steps", "anneal_steps"):
        if stretch := getattr(phase.schedule, name):  # shares of a phase, as a warm-up of one that has a parent
            yield Derived(f"{where}.schedule.{name}", stretch, round(stretch * steps / phase.steps), WARMUP)
    memory = training_memory(model, phase, layout)
    yield Derived(f"{where}.parallelism.nodes", phase.parallelism.nodes, layout.nodes, LAYOUT, str(memory))
    for name in ("zero_stage", "tensor", "context", "micro_batch"):
        # What they come to together stands beside the nodes.
        yield Derived(f"{where}.parallelism.{name}", getattr(phase.parallelism, name), getattr(layout, name), LAYOUT)
    yield Derived(f"{where}.checkpoints.save_every", phase.checkpoints.save_every, save, CHECKPOINTS)
    yield Derived(f"{where}.checkpoints.keep_every", phase.checkpoints.keep_every, keep, CHECKPOINTS)


def _batch(base: Recipe, phase: PhaseConfig, shrunk: float, layouts: dict[str, Parallelism]) -> tuple[int, str]:
    """Sequences in a step, and how they came about. The unit is what every phase with k2_70b's tokens per step can
    share evenly over its workers."""
    alike = [other for other in base.phases if other.tokens_per_step == phase.tokens_per_step]
    unit = math.lcm(*(_shared_evenly(other, layouts[other.name]) for other in alike))
    wanted = phase.tokens_per_step * shrunk**BATCH_POWER
    tokens = max(1, round(wanted / unit)) * unit
    if shrunk == 1:
        return tokens // phase.sequence_length, "as many tokens as k2_70b's"
    return tokens // phase.sequence_length, (
        f"{phase.tokens_per_step:,} x {shrunk:.4g}^{BATCH_POWER} = {wanted:,.0f} tokens; {tokens // unit} x {unit:,}"
    )


def _shared_evenly(phase: PhaseConfig, layout: Parallelism) -> int:
    """Tokens of one backward pass of all workers."""
    data = layout.nodes * layout.workers_per_node // (layout.tensor * layout.context)
    return data * layout.micro_batch * phase.sequence_length


def _round_number(wanted: float, steps: int, phase: PhaseConfig) -> int:
    """The nearest of 1, 2 and 5 x a power of ten, by ratio; as it is where the phase is as long as it was."""
    if steps == phase.steps:
        return phase.checkpoints.save_every
    rounds = [digit * 10**power for power in range(1, 8) for digit in (1, 2, 5)]
    return min(rounds, key=lambda number: abs(math.log(number / wanted)))


def _cluster(base: Recipe, size: Size) -> Iterator[Derived]:
    devices = base.cluster.infiniband_devices_per_node
    needed = devices if size.nodes > 1 else 0
    yield Derived("cluster.infiniband_devices_per_node", devices, needed, CLUSTER)
    yield Derived("cluster.gpu", base.cluster.gpu, size.gpu, CLUSTER)


def _mixtures(base: Recipe) -> dict[str, tuple[MixtureEntry, ...]]:
    """Of every phase; pre-training's list of epochs as shares, in percent, and the parent's where none is public."""
    sizes, found = known_sizes(base), {}
    for phase in base.phases:
        plan = plan_mixture(phase, sizes)
        if any(entry.epochs for entry in phase.mixture):
            found[phase.name] = tuple(
                replace(p.entry, epochs=0.0, weight=round(100 * (p.share or 0.0), 6)) for p in plan.portions
            )
        else:
            found[phase.name] = phase.mixture or found[phase.parent]
    return found


def _told_mixtures(base: Recipe, recipe: Recipe) -> Iterator[Derived]:
    sizes = known_sizes(base)
    for old, phase in zip(base.phases, recipe.phases, strict=True):
        epochs = [p.share * phase.tokens / p.available.tokens for p in plan_mixture(phase, sizes).portions
                  if p.share and p.available]  # fmt: skip
        how = f"no source more than {max(epochs):.3f} times, by K2's token counts" if epochs else ""
        was = f"{len(old.mixture)} entries" if old.mixture else "not public"
        value = f"{len(phase.mixture)} entries" if old.mixture else f"those of {old.parent}"
        yield Derived(f"phases.{phase.name}.mixture", was, value, MIXTURES, how, told=True)


def _digits(value: float) -> float:
    """To three digits."""
    return float(f"{value:.3g}")
