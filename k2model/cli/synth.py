"""`k2 synth`: run synthesis jobs and look at what they can be made of. Imports nothing heavy until it runs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k2model.cli.terminal import CommandGroup, as_json_option, overrides_option, pairs, say, show, store_option
from k2model.settings import recipe_name

if TYPE_CHECKING:
    from k2model.recipe.synthesis import SynthesisConfig

JOBS = ("source", "teacher", "cases", "standing", "samples")


@click.group(cls=CommandGroup)
def synth() -> None:
    """Documents that a teacher writes and a program verifies."""


@synth.command("run")
@click.argument("job")
@click.option("--recipe", default=recipe_name, show_default="the recipe that K2_RECIPE names", help="Of a job by name.")
@click.option("--workers", default=1, show_default=True, help="Processes that make documents.")
@click.option("--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Override a field of the job.")
@store_option
@as_json_option
def run(job: str, recipe: str, workers: int, overrides: tuple[str, ...], store: str, as_json: bool) -> None:
    """Make the documents of JOB: a TOML file, or the name of a source of the recipe that has one.

    It is the artifact that a lifecycle makes of the job and finds when it is there. What an endpoint has said is not
    asked again.

    \b
    k2 synth run traces.toml --workers 2
    k2 synth run traces.toml --set count=100 --set endpoint.concurrency=8
    k2 synth run synth/safety --recipe laptop
    """
    from k2model.artifacts import Store, make, read_json
    from k2model.recipe.synthesis import TeacherKind
    from k2model.synthesis.output import REPORT, SynthesisReport
    from k2model.synthesis.steps import calls_step, synthesis_step

    opened, config = Store.open(store), _job(job, recipe, pairs(overrides))
    calls = make(opened, calls_step(opened, config)) if config.teacher is TeacherKind.ENDPOINT else None
    made = make(opened, synthesis_step(opened, config, calls), workers)
    report = read_json(SynthesisReport, opened, made, REPORT)
    say(json.dumps(report | {"uri": made.uri}) if as_json else _told({**report}, made.uri))


@synth.command("status")
@click.argument("recipe", default=recipe_name)
@overrides_option
@store_option
@as_json_option
def status(recipe: str, overrides: tuple[str, ...], store: str, as_json: bool) -> None:
    """How far the jobs of RECIPE are, and what became of their samples."""
    from k2model.artifacts import Store
    from k2model.lifecycle.jobs import jobs_of
    from k2model.recipe import chosen_recipe

    rows = jobs_of(Store.open(store), chosen_recipe(recipe, pairs(overrides)))
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows]))
    else:
        show(
            JOBS,
            [(row.source, row.teacher, f"{row.cases:,}", row.standing, row.outcome) for row in rows],
            as_json=False,
        )


@synth.command("templates")
@as_json_option
def templates(as_json: bool) -> None:
    """The reasoning behaviours, and which of them need no model."""
    from k2model.synthesis.templates import library

    rows = [
        {"name": t.name, "category": t.category, "procedural": t.procedural, "when": t.when, "sections": list(t.titles)}
        for t in library().values()
    ]
    if as_json:
        click.echo(json.dumps(rows))
    else:
        for row in rows:
            say(f"{row['name']:<28} {row['category']:<17} {'*' if row['procedural'] else ' '} {row['when']}")


@synth.command("families")
@as_json_option
def families(as_json: bool) -> None:
    """What `families` may name, by kind of job."""
    from k2model.synthesis.run import known_families

    found = known_families()
    if as_json:
        click.echo(json.dumps(found))
    else:
        for kind, names in found.items():
            say(f"{kind:<12} {', '.join(names)}")


def _job(name: str, recipe: str, overrides: dict[str, Any]) -> "SynthesisConfig":
    """The job of a file, or of a recipe's source. Raises K2Error for one that there is not."""
    from k2model.recipe import apply_overrides, chosen_recipe
    from k2model.synthesis import load_job
    from k2model.synthesis.config import unknown

    if name.endswith(".toml"):
        return load_job(Path(name), overrides)
    jobs = {source.name: source.job for source in chosen_recipe(recipe, {}).corpus.synthesised}
    if name not in jobs:
        what = f"a job's file ends in .toml, and as a source of recipe '{recipe}' that has a job,"
        raise unknown(what, name, [*jobs])
    changed: SynthesisConfig = apply_overrides(jobs[name], overrides)
    return changed


def _told(report: dict[str, Any], uri: str) -> str:
    lines = [f"{'family':<28} {'cases':>7} {'samples':>8} {'kept':>7} {'rate':>6}  rejected"]
    for name, row in report["families"].items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in row["rejected_by_reason"].items())
        rate = "-" if row["kept_rate"] is None else f"{row['kept_rate']:.1%}"
        lines.append(f"{name:<28} {row['cases']:>7} {row['samples']:>8} {row['kept']:>7} {rate:>6}  {reasons}")
    lines.append(f"{report['kept']} documents kept of {report['samples']} samples, in {uri}")
    return "\n".join(lines)
