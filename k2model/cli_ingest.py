"""`k2 data ingest`: a source of files tried by itself, before it goes into a recipe."""

import json
from pathlib import Path

import click

from k2model.terminal import as_json_option, console, pairs, table


@click.command()
@click.argument("location")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="An empty folder for what is made.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Set one field of the source.")
@click.option("--processes", default=1, show_default=True, help="How many parts are read at once.")
@as_json_option
def ingest(location: str, out: Path, settings: tuple[str, ...], processes: int, as_json: bool) -> None:
    """Read a source by itself: what documents it gives, and what is wrong with it.

    LOCATION is a file, folder or glob, here or on s3://. FIELDs are those of a recipe's source.

    \b
    k2 data ingest 'web/*.jsonl.zst' --out /tmp/web --set fields.text=content --set licence=ODC-By-1.0
    """
    from rich.markup import escape

    from k2model.corpus.ingest import ingest_source
    from k2model.recipe import apply_overrides
    from k2model.recipe.schema import SourceConfig

    plain = SourceConfig("source", location=location, domain="prose", licence="unknown")
    counts = ingest_source(apply_overrides(plain, pairs(settings)), out, processes=processes)
    if as_json:
        click.echo(json.dumps(counts))
        return
    shown = [(name, escape(str(value))) for name, value in counts.items() if name != "samples"]
    console().print(table(("count", "value"), shown))
    samples = [(reason, *sample) for reason, several in counts["samples"].items() for sample in several]
    if samples:
        rows = [tuple(escape(str(cell)) for cell in sample) for sample in samples]
        console().print("", table(("quarantined", "file", "row", "why", "text"), rows))
