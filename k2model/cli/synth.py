"""`k2 synth`: run synthesis jobs and look at what they can be made of. Imports nothing heavy until it runs."""

import json
from pathlib import Path
from typing import Any

import click

from k2model.cli.terminal import CommandGroup, as_json_option, pairs
from k2model.settings import home


@click.group(cls=CommandGroup)
def synth() -> None:
    """Documents that a teacher writes and a program verifies."""


@synth.command("run")
@click.argument("job", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the documents.  [default: $K2_HOME/synthesis/NAME]",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Record of an endpoint's calls.  [default: $K2_HOME/synthesis/NAME.jsonl]",
)
@click.option("--workers", default=1, show_default=True, help="Processes of a procedural job.")
@click.option("--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Override a top-level field of the job.")
@as_json_option
def run(
    job: Path, out: Path | None, record: Path | None, workers: int, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Run the job written in the TOML file JOB; what its record has is not asked again.

    \b
    k2 synth run traces.toml --workers 2
    k2 synth run traces.toml --set count=100 --out /tmp/traces
    """
    from k2model.synthesis import load_job, open_teacher, synthesise
    from k2model.synthesis.output import REPORT

    config = load_job(job, pairs(overrides))
    folder = out or home() / "synthesis" / config.name
    teacher = open_teacher(config, record or home() / "synthesis" / f"{config.name}.jsonl")
    folder.mkdir(parents=True, exist_ok=True)
    synthesise(config, teacher, folder, workers)
    report = json.loads((folder / REPORT).read_text())
    click.echo(json.dumps(report) if as_json else _told(report, teacher.run_statistics(), folder))


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
            click.echo(f"{row['name']:<28} {row['category']:<17} {'*' if row['procedural'] else ' '} {row['when']}")


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
            click.echo(f"{kind:<12} {', '.join(names)}")


def _told(report: dict[str, Any], teacher: dict[str, Any], folder: Path) -> str:
    lines = [f"{'family':<28} {'cases':>7} {'samples':>8} {'kept':>7} {'rate':>6}  rejected"]
    for name, row in report["families"].items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in row["rejected_by_reason"].items())
        rate = "-" if row["kept_rate"] is None else f"{row['kept_rate']:.1%}"
        lines.append(f"{name:<28} {row['cases']:>7} {row['samples']:>8} {row['kept']:>7} {rate:>6}  {reasons}")
    lines.append(f"{report['kept']} documents kept of {report['samples']} samples, in {folder}")
    if report["unfinished"]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in report["unfinished_by_reason"].items())
        stopped = f" ({teacher['stopped']})" if teacher.get("stopped") else ""
        lines.append(
            f"{report['unfinished']} of {report['wanted']} cases are left: {reasons}{stopped}; run again to go on"
        )
    return "\n".join(lines)
