"""`k2 lineage`: where an artifact comes from and what became of it, as a tree in the terminal and as a drawing."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from k2model.cli.terminal import as_json_option, console, overrides_option, pairs, say, store_option, write_page
from k2model.settings import recipe_name, tracking_uri

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from k2model.inspect.lineage import Line
    from k2model.inspect.references import Names

DETAILS = 5  # files of a source that the tree names
recipe_option = click.option("--recipe", default=recipe_name, show_default="$K2_RECIPE", help="Whose names are meant.")


def names_options(command: Callable[..., None]) -> Callable[..., None]:
    """In which store, and whose names: the arguments of `names_in`."""
    for option in (store_option, overrides_option, recipe_option):
        command = option(command)
    return command


def names_in(store: str, recipe: str, overrides: tuple[str, ...]) -> "Names":
    """Raises MissingArtifact where there is no store."""
    from k2model.inspect.references import Names

    return Names.of(store, recipe, pairs(overrides), tracking_uri())


@click.command()
@click.argument("reference")
@click.option("--artifacts", is_flag=True, help="Every artifact by itself, instead of corpora, phases and releases.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Also as a drawing: one HTML file.")
@names_options
@as_json_option
def lineage(
    reference: str, artifacts: bool, out: Path | None, recipe: str, overrides: tuple[str, ...], store: str,
    as_json: bool,
) -> None:  # fmt: skip
    """What REFERENCE was made from, down to the files of its sources and to adopted models, and which releases it is
    in.

    REFERENCE is a name that `k2 plan` prints (sft/checkpoint, tokens), a phase (sft), a version of MLflow (sft@6,
    model@champion), a step (the newest of it), `step/key`, or the beginning of a digest. What is not here any more,
    does not agree with itself, or is told of by nothing in the store says so.

    \b
    k2 lineage release
    k2 lineage model@champion --out lineage.html
    k2 lineage corpus_raw --artifacts
    """
    from k2model.inspect.lineage import Traced, page

    names = names_in(store, recipe, overrides)
    named = names.find(reference)
    found = Traced(names.store, names.lineage, named.key)
    before = found.artifacts(found.before) if artifacts else found.tree()
    after = found.artifacts(found.after, forward=True) if artifacts and found.releases else found.forward()
    if out:
        write_page(out, page(found))
    if as_json:
        told = {"made_from": [asdict(one) for one in before], "went_into": [asdict(one) for one in after]}
        click.echo(json.dumps(told | {"unreleased": found.unreleased, "note": named.note}))
        return
    if named.note:
        say(f"{named.note}; this is the newest of that name here", err=True)
    out_ = console()
    out_.print(_tree(before))
    if found.releases and len(after) > 1:
        out_.print("", "What became of it:")
        out_.print(_tree(after, brief=True))
    elif not found.releases:
        made = ", ".join(f"{count} {kind}" for kind, count in found.unreleased.items())
        out_.print(f"In no release.{f' Made from it: {made}.' if made else ''}", highlight=False)
    for line in [one for one in (*before, *after) if one.wrong and not one.again]:
        for wrong in line.wrong:
            say(f"missing or not agreeing: {wrong}", err=True)
    if out:
        say(f"{out}: the same as a drawing")


def _tree(lines: "list[Line]", brief: bool = False) -> "Tree":
    """Brief: without what is said of each, which stands in the tree above."""
    from rich.tree import Tree

    at: list[Tree] = []
    told: set[str] = set()  # what sources have in common is told of the first
    for line in lines:
        details = (
            [] if brief or line.place.startswith("checkpoint/") else [one for one in line.details if one not in told]
        )
        told.update(details)
        text = _told(line, brief, details)
        at[line.depth :] = [at[line.depth - 1].add(text) if at else Tree(text)]
    return at[0]


def _told(line: "Line", brief: bool, details: list[str]) -> "Text":
    from rich.text import Text

    text = Text(line.name, "bold")
    if line.again:
        return text.append("  see above", "not bold dim")
    text.append(f"  {', '.join(line.about)}" if line.about and not brief else "", "not bold")
    text.append(f"  {line.place}" if line.place else "", "not bold dim")
    for wrong in line.wrong:
        text.append(f"\n{wrong}", "not bold red")
    more = [f"and {len(details) - DETAILS} more, see --json"] if len(details) > DETAILS else []
    text.append("".join(f"\n{one}" for one in (*details[:DETAILS], *more)), "not bold dim")
    return text
