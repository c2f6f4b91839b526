"""`k2 data ingest`: a source of files tried by itself, before it goes into a recipe.

`k2 data recheck`: a corpus that is there against evaluation items that came later. Only drawing is here.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k2model.cli.terminal import as_json_option, console, overrides_option, pairs, store_option, table
from k2model.reporting.terminal import heading
from k2model.settings import recipe_name
from k2model.units import readable_size

if TYPE_CHECKING:
    from rich.text import Text


@click.command()
@click.argument("location")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="An empty folder for what is made.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Set one field of the source.")
@click.option("--max-characters", type=int, help="Of a document, where the recipe's corpus says another bound.")
@click.option("--processes", default=1, show_default=True, help="How many parts are read at once.")
@as_json_option
def ingest(
    location: str, out: Path, settings: tuple[str, ...], max_characters: int | None, processes: int, as_json: bool
) -> None:
    """Read a source by itself: what documents it gives, and what is wrong with it.

    LOCATION is a file, folder or glob, here or on s3://. FIELDs are those of a recipe's source.

    \b
    k2 data ingest 'web/*.jsonl.zst' --out /tmp/web --set fields.text=content --set licence=ODC-By-1.0
    """

    from k2model.ingest import ingest_source, left_out
    from k2model.recipe import apply_overrides
    from k2model.recipe.schema import CorpusConfig, SourceConfig

    plain = SourceConfig("source", location=location, domain="prose", licence="unknown")
    source = apply_overrides(plain, pairs(settings))
    counts = {**ingest_source(source, out, processes=processes), "files_left_out": left_out(source)}
    most = max_characters or CorpusConfig.max_characters
    long = _longer(out, most)
    if as_json:
        click.echo(json.dumps({**counts, "too_long": {"max_characters": most, **long}}))
        return
    shown = [(name, value) for name, value in counts.items() if name != "samples"]
    console().print(table(("count", "value"), shown))
    if long["documents"]:
        console().print(
            f"\nlonger than {most:,} characters (corpus.max_characters): {long['documents']:,} documents, "
            f"{readable_size(long['bytes'])} of {readable_size(long['of_bytes'])} of text, which curation leaves out",
            style="yellow",
        )
    samples = [(reason, *sample) for reason, several in counts["samples"].items() for sample in several]
    if samples:
        console().print("", table(("quarantined", "file", "row", "why", "text"), samples))


def _longer(folder: Path, characters: int) -> dict[str, int]:
    """Documents below `folder` with more `characters`, their bytes of text, and the bytes of all."""
    import pyarrow.compute as pc

    from k2model.documents.schema import DOCUMENT_SCHEMA
    from k2model.documents.tables import read_batches, selected

    found = {"documents": 0, "bytes": 0, "of_bytes": 0}
    files = (path for split in ("train", "heldout") for path in sorted(folder.glob(f"{split}/**/*.parquet")))
    for batch in (one for path in files for one in read_batches(path, selected(DOCUMENT_SCHEMA, "text"))):
        sizes, long = pc.binary_length(batch["text"]), pc.greater(pc.utf8_length(batch["text"]), characters)
        found["documents"] += pc.sum(long).as_py() or 0
        found["bytes"] += pc.sum(sizes.filter(long)).as_py() or 0
        found["of_bytes"] += pc.sum(sizes).as_py() or 0
    return found


COLUMNS = ("items", "number", "found", "documents that hold one")


@click.command()
@click.argument("reference")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--recipe", default=recipe_name, show_default="$K2_RECIPE", help="Whose rules and sources are meant.")
@click.option("-n", "--n", "n", type=click.IntRange(0), default=5, show_default=True, help="Matches to show.")
@click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True, help="How many parts are read at once."
)
@overrides_option
@store_option
@as_json_option
def recheck(
    reference: str,
    files: tuple[str, ...],
    recipe: str,
    n: int,
    processes: int,
    overrides: tuple[str, ...],
    store: str,
    as_json: bool,
) -> None:
    """Which training documents of REFERENCE hold items of FILES: further benchmarks, JSONL or Parquet.

    The corpus stays as it is. To leave the documents out of the next one, name the files in the recipe's
    corpus.decontamination.external. A row of FILES has a prompt and an answer; --set names other fields.

    \b
    k2 data recheck corpus_valid mmlu.jsonl --set corpus.decontamination.prompt_field=question
    """
    from k2model.curation import recheck
    from k2model.inspect.artifact import LookingError, view_of
    from k2model.recipe import chosen_recipe

    view = view_of(reference, store)
    config = chosen_recipe(recipe, pairs(overrides)).corpus
    found = recheck(view.folder(), files, config, processes)
    if not found.read:
        raise LookingError(
            f"{view.name} has no training documents of sources of {recipe} that are compared with items; "
            "name a corpus (corpus or corpus_valid) and, by --recipe, the recipe it is of"
        )
    if as_json:
        facts = {"name": view.name, "read": found.read, "documents": found.documents, "families": found.families}
        click.echo(json.dumps(facts | {"matches": found.matches()[:n]}))
        return
    rows = [(name, one["items"], one["touched"], one["removed"]) for name, one in found.families.items()]
    out = console()
    out.print(heading(view.name, f"{found.documents:,} of {found.read:,} documents hold an item\n"))
    out.print(table(COLUMNS, rows))
    for match in found.matches()[:n]:
        out.print("", _drawn(match))


def _drawn(match: dict[str, Any]) -> "Text":
    """The shared span in its document and in its item, marked."""
    from rich.text import Text

    shown = Text(
        f"document {match['document_id']} has {match['coverage']:.0%} of {match['family']} {match['item_id']}\n", "cyan"
    )
    for name in ("document", "item"):
        side = match[name]
        shown.append(f"  {name}: ", "dim").append(side["before"]).append(side["match"], "bold yellow")
        shown.append(f"{side['after']}\n")
    return shown
