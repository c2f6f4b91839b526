"""`k2 plan`: what a recipe trains and takes, which of its steps are there already, which layouts its phases could have.

The tables of time and memory are of `k2model.planning`; a recipe that names no GPU (`cluster.gpu`) has none.
"""

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from k2model.cli.terminal import (
    as_json_option,
    console,
    overrides_option,
    pairs,
    records,
    say,
    show,
    store_option,
    table,
    tell_faults,
)
from k2model.cli.why import explain
from k2model.reporting.terminal import heading
from k2model.settings import recipe_name
from k2model.units import readable_count, readable_size

if TYPE_CHECKING:
    from k2model.planning.estimate import PhaseEstimate
    from k2model.recipe import Recipe

PHASES = ("phase", "from", "tokens", "rows x length", "workers", "a worker holds")
TIMES = ("phase", "FLOPs", "step", "days", "GPU-hours", "goodput", "saves every", "Daly's", "interruptions", "stored")
MEMORY = ("phase", "weights", "gradients", "optimizer", "kept", "block", "head", "buffers", "peak", "at")
LAYOUTS = ("phase", "tensor", "context", "ZeRO", "micro-batch", "recompute", "memory", "step", "arithmetic")
STEPS = ("step", "action", "why / where")
SHOWN = 5  # layouts of a phase
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(GB|GiB)", re.IGNORECASE)


class MemorySize(click.ParamType):
    """`80GB` or `80GiB`, in bytes."""

    name = "SIZE"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        found = _SIZE.fullmatch(value)
        if not found or not float(found[1]):
            self.fail(f"'{value}' is no size of memory; write 80GB or 80GiB", param, ctx)
        return float(found[1]) * (2**30 if found[2].lower() == "gib" else 1e9)


@click.command()
@click.argument("recipe", default=recipe_name)
@overrides_option
@store_option
@as_json_option
@click.option("--why", is_flag=True, help="Instead of the steps: where the recipe's values come from.")
@click.option("--layouts", is_flag=True, help="Instead of the steps: the fastest layouts of each phase that fit.")
@click.option(
    "--gpus", type=click.IntRange(min=1), help="With --layouts: over how many GPUs, instead of each phase's own."
)
@click.option("--memory", type=MemorySize(), help="With --layouts: of a GPU (80GB, 80GiB), instead of the recipe's.")
def plan(
    recipe: str,
    overrides: tuple[str, ...],
    store: str,
    as_json: bool,
    why: bool,
    layouts: bool,
    gpus: int | None,
    memory: float | None,
) -> None:
    """What RECIPE trains and takes, which of its steps are cached, which would run, and because of what.

    \b
    k2 plan
    k2 plan laptop --set phases.sft.optimizer.lr=5e-4
    k2 plan k2_1b --why
    k2 plan k2_70b --layouts --gpus 256 --memory 80GiB
    k2 plan mine.py --set 'phases.+={"like": "sft", "name": "sft_b"}' --set gates=[]
    """
    from k2model.artifacts import Store
    from k2model.inspect.inventory import take_inventory
    from k2model.lifecycle.jobs import jobs_of
    from k2model.lifecycle.missing import missing_data
    from k2model.lifecycle.plan import decide, resolve
    from k2model.lifecycle.steps import rows
    from k2model.planning.estimate import attended_pairs

    if (gpus or memory) and not layouts:
        raise click.UsageError("--gpus and --memory are for --layouts")
    if why:
        explain(recipe, pairs(overrides), as_json)
        return
    if layouts:
        _show_layouts(recipe, pairs(overrides), gpus, memory, as_json)
        return
    resolved = resolve(recipe, pairs(overrides), store)
    opened = Store.open(resolved.store)
    decided = decide(opened, resolved.recipe, list(rows(resolved.recipe)))
    packed = {d.name.split("/")[0]: made for d, made in decided if d.step == "sequences" and d.action == "cached"}
    attended = {phase: attended_pairs(opened, made) for phase, made in packed.items()}
    steps = [(d.name, d.action, d.reason or d.uri) for d, _ in decided]
    names = {made.name for d, made in decided if d.action in ("cached", "damaged")}
    faults = [fault for fault in take_inventory(opened).faults if fault.artifact in names]
    asked = [job for job in jobs_of(opened, resolved.recipe) if job.expected]
    if as_json:
        told = {"phases": record_of(resolved.recipe, attended), "steps": records(STEPS, steps)}
        more = {"endpoints": [asdict(job) for job in asked], "faults": [asdict(one) for one in faults]}
        click.echo(json.dumps(told | more))
    else:
        show_recipe(resolved.recipe, attended)
        show(STEPS, steps, as_json=False)
        for job in asked:
            say(f"{job.source} asks an endpoint: {job.standing}")
        tell_faults(faults)
    if problem := missing_data(resolved.recipe):
        say(f"\n{problem}", err=True)


def show_recipe(recipe: "Recipe", attended: "dict[str, float] | None" = None) -> None:
    """Print parameters and tokens, and, where the recipe names its GPUs, what each phase takes of them."""
    from k2model.planning.estimate import PUBLISHED, estimate, gpu_of
    from k2model.recipe.counts import count_parameters
    from k2model.recipe.memory import FITS, training_memory

    count = count_parameters(recipe.model)
    tokens = readable_count(sum(phase.tokens for phase in recipe.phases))
    out = console()
    out.print(heading(recipe.name, f"{readable_count(count)} parameters ({count:,}), {tokens} tokens"))
    rows = [
        (
            phase.name, phase.parent or "random weights", readable_count(phase.tokens),
            f"{phase.global_batch:,} x {phase.sequence_length:,}",
            f"{phase.parallelism.nodes * phase.parallelism.workers_per_node:,}",
            readable_size(training_memory(recipe.model, phase).peak),
        )
        for phase in recipe.phases
    ]  # fmt: skip
    out.print(table(PHASES, rows), "")
    if (gpu := gpu_of(recipe)) is None:
        return
    found = estimate(recipe, gpu, attended)
    cluster = recipe.cluster
    told = (
        f"at {cluster.utilisation:.0%} of {gpu.name}'s {gpu.peak / 1e12:,.0f} TFLOP/s (cluster.utilisation, the "
        f"model's own arithmetic); {1e3 * cluster.failures_per_gpu_day:.2f} interruptions of 1,000 GPUs a day, "
        f"{cluster.restart_seconds:.0f} s to restart. Estimates: nothing of it was measured on these GPUs."
    )
    out.print(heading("Time", told))
    out.print(table(TIMES, [*map(_times, found), _total(found, cluster.price_per_gpu_hour)]))
    if whole := [one.phase for one in found if one.whole_rows]:
        out.print(
            f"Each row counts as one document in {', '.join(whole)}, which is the most its attention can take: nothing "
            "is packed yet.",
            style="dim",
            highlight=False,
        )
    published = "; ".join(f"{name}: {share:.0%} ({source})" for name, share, source in PUBLISHED)
    out.print(f"Published utilisations: {published}.", style="dim", highlight=False)
    reads, saves = max(one.reads for one in found), max(one.checkpoint for one in found)
    out.print(
        f"A checkpoint is {_big(saves)} and lands in {saves / cluster.store_gb_per_second / 1e9:.0f} s at "
        f"{cluster.store_gb_per_second:g} GB/s; a node reads at most {readable_size(reads)}/s of rows.\n",
        highlight=False,
    )
    out.print(
        heading(
            "Memory",
            f"of one worker in GB, by component; `peak` is the widest moment, where not all are there. "
            f"{FITS:.0%} of {gpu.memory / 1e9:.0f} GB may be planned with.",
        ),
    )
    out.print(table(MEMORY, [_memory(one) for one in found]), "")


def _times(one: "PhaseEstimate") -> tuple[str, ...]:
    best = "never" if one.recommended_steps is None else f"{one.recommended_steps:,} steps"
    return (
        one.phase, f"{one.flops:.2e}", f"{one.step_seconds:.1f} s", f"{one.days:.1f}", f"{one.gpu_hours:,.0f}",
        f"{one.goodput:.1%}", f"{one.save_every:,} steps", best, f"{one.interruptions:.1f}", _big(one.stored),
    )  # fmt: skip


def _total(found: "list[PhaseEstimate]", price: float) -> tuple[str, ...]:
    hours = sum(one.gpu_hours for one in found)
    cost = f"price {hours * price:,.0f}" if price else ""
    return (
        "all", f"{sum(one.flops for one in found):.2e}", "", f"{sum(one.days for one in found):.1f}", f"{hours:,.0f}",
        "", cost, "", f"{sum(one.interruptions for one in found):.1f}", _big(sum(one.stored for one in found)),
    )  # fmt: skip


def _memory(one: "PhaseEstimate") -> tuple[str, ...]:
    memory = one.memory
    return (one.phase, *(f"{getattr(memory, name) / 1e9:.1f}" for name in MEMORY[1:-1]), memory.moment)


def _big(size: float) -> str:
    return f"{size / 1e12:,.1f} TB" if size >= 1e12 else readable_size(size)


def record_of(recipe: "Recipe", attended: "dict[str, float] | None" = None) -> list[dict[str, Any]]:
    """Of each phase what the tables show, as numbers; without time where the recipe names no GPU."""
    from k2model.planning.estimate import estimate, gpu_of
    from k2model.recipe.memory import training_memory

    if gpu := gpu_of(recipe):
        found = [(asdict(one), one) for one in estimate(recipe, gpu, attended)]
        price = recipe.cluster.price_per_gpu_hour
        return [
            told | {"days": one.days, "gpu_hours": one.gpu_hours} | ({"price": price * one.gpu_hours} if price else {})
            for told, one in found
        ]
    return [
        {"phase": phase.name, "tokens": phase.tokens, "memory": asdict(training_memory(recipe.model, phase))}
        for phase in recipe.phases
    ]


def _show_layouts(name: str, overrides: dict[str, str], gpus: int | None, memory: float | None, as_json: bool) -> None:
    """The fastest layouts of each phase that fit, beside its own."""
    from dataclasses import replace

    from k2model.planning.estimate import gpu_of
    from k2model.recipe import chosen_recipe
    from k2model.recipe.cluster import GPUS
    from k2model.recipe.layouts import candidate, ranked_layouts

    recipe = chosen_recipe(name, overrides)
    gpu = gpu_of(recipe)
    if gpu is None:
        raise click.UsageError(f"{recipe.name} names no GPU: add --set cluster.gpu=H100-80GB (or {', '.join(GPUS)})")
    if memory:
        gpu = replace(gpu, memory=memory)
    rows: list[tuple[Any, ...]] = []
    found: list[dict[str, Any]] = []
    for phase in recipe.phases:
        per_node = phase.parallelism.workers_per_node
        if gpus and gpus % per_node:
            raise click.UsageError(f"--gpus {gpus} is no multiple of the {per_node} workers of a node")
        nodes = gpus // per_node if gpus else phase.parallelism.nodes
        own = candidate(recipe.model, phase, phase.parallelism, gpu)
        if nodes == phase.parallelism.nodes:
            rows.append(_layout(f"{phase.name}, as it is" + ("" if own.fits(gpu) else " (does not fit)"), own))
        best = ranked_layouts(recipe.model, phase, gpu, nodes)[:SHOWN]
        found += [{"phase": phase.name, **asdict(one)} for one in best]
        rows += [_layout(phase.name, one) for one in best] or [
            (f"{phase.name}: none works and fits ({phase.global_batch:,} rows a step)", *[""] * 8)
        ]
    if as_json:
        click.echo(json.dumps(found))
        return
    out = console()
    out.print(table(LAYOUTS, rows))
    out.print(
        "Steps are for ranking: the arithmetic, again where blocks are recomputed, and what workers send each other, "
        "at rates of data sheets and nothing overlapping.",
        style="dim",
        highlight=False,
    )


def _layout(name: str, one: Any) -> tuple[Any, ...]:
    layout = one.layout
    return (
        name, layout.tensor, layout.context, layout.zero_stage, layout.micro_batch, layout.recompute.value,
        f"{one.memory.peak / 1e9:.0f} GB", f"{one.seconds:.2f} s", f"{one.arithmetic:.2f} s",
    )  # fmt: skip
