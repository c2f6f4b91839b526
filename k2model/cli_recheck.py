"""`k2 data recheck`: a corpus that is there against evaluation items that came later. Only drawing is here."""

import json
from typing import TYPE_CHECKING, Any

import click

from k2model.settings import recipe_name
from k2model.terminal import as_json_option, console, overrides_option, pairs, store_option, table

if TYPE_CHECKING:
    from rich.text import Text

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
    from k2model.corpus.curation.recheck import recheck
    from k2model.planning.holdings import LookingError, hold
    from k2model.recipe import load_recipe

    holding = hold(reference, store)
    config = load_recipe(recipe, pairs(overrides)).corpus
    found = recheck(holding.folder(), files, config, processes)
    if not found.read:
        raise LookingError(
            f"{holding.name} has no training documents of sources of {recipe} that are compared with items; "
            "name a corpus (corpus or corpus_valid) and, by --recipe, the recipe it is of"
        )
    if as_json:
        facts = {"name": holding.name, "read": found.read, "documents": found.documents, "families": found.families}
        click.echo(json.dumps(facts | {"matches": found.matches()[:n]}))
        return
    rows = [(name, one["items"], one["touched"], one["removed"]) for name, one in found.families.items()]
    out = console()
    out.print(f"[bold]{holding.name}[/]  {found.documents:,} of {found.read:,} documents hold an item\n")
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
