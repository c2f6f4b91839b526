"""`k2 mixture`: what each phase trains on, as a tree of families, sources and buckets.

Only drawing is here; what the numbers are is `k2model.lifecycle.mixtures`.
"""

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from k2model.cli.terminal import as_json_option, console, overrides_option, pairs, store_option
from k2model.reporting.terminal import heading
from k2model.settings import recipe_name
from k2model.units import readable_count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from k2model.lifecycle.mixtures import Node, PhaseMixture

UNKNOWN = "·"


@click.command()
@click.argument("recipe", default=recipe_name)
@click.option("--phase", "phases", multiple=True, metavar="NAME", help="Only this phase; may be given again.")
@overrides_option
@store_option
@as_json_option
def mixture(recipe: str, phases: tuple[str, ...], overrides: tuple[str, ...], store: str, as_json: bool) -> None:
    """Tokens, epochs and shares of every phase of RECIPE, by family, source and bucket of duplicates.

    Sizes are those of the recipe's tokens in the store, or else public ones; a mixture that cannot be met is an error.

    \b
    k2 mixture k2_70b --phase pretrain
    k2 mixture laptop --set phases.mid_4.mixture.prose.weight=20
    """
    from k2model.lifecycle.mixtures import describe, source_sizes
    from k2model.recipe import chosen_recipe

    loaded = chosen_recipe(recipe, pairs(overrides))
    for name in phases:
        if name not in [phase.name for phase in loaded.phases]:
            raise click.BadParameter(
                f"'{name}' is no phase of {recipe}: {', '.join(p.name for p in loaded.phases)}", param_hint="--phase"
            )
    found = describe(loaded, source_sizes(loaded, store), phases)
    if as_json:
        click.echo(json.dumps({"recipe": recipe, "phases": [one.record() for one in found]}))
    else:
        out = console()
        for one in found:
            _draw(out, one)
    if any(one.problem for one in found):
        sys.exit(1)


def _draw(out: "Console", one: "PhaseMixture") -> None:
    out.print(heading(one.phase, f"{f'{one.entries} entries · ' * bool(one.entries)}{one.basis}"))
    if one.families:
        out.print(_table(one))
    for line in _facts(one):
        out.print(f"  {line}", highlight=False)
    for note in one.notes:
        out.print(f"  {note}", style="dim", highlight=False)
    if one.problem:
        out.print(f"  {one.problem}", style="bold red", highlight=False, markup=False)
    out.print()


def _table(one: "PhaseMixture") -> "Table":
    from rich.table import Table
    from rich.text import Text

    made = Table("source", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("declared", "tokens", "epochs", "weighted", f"share of {one.share_of}"):
        made.add_column(name, justify="right")
    made.add_column("", ratio=1)
    largest = max((node.share or 0.0 for node in one.families), default=0.0)
    for guide, short, node in _lines(one.families):
        bar = "█" * round(20 * (node.share or 0.0) / largest) if largest and not guide else ""
        listed = f" ({node.listed_as})" if node.listed_as else ""
        made.add_row(
            Text.assemble((guide, "dim"), (short, "bold" if node.children else ""), (listed, "dim")),
            node.declared,
            _count(node.tokens),
            UNKNOWN if node.epochs is None else f"{node.epochs:.2f}",
            _count(node.weighted),
            UNKNOWN if node.share is None else f"{node.share:.3%}",
            Text(bar, "cyan"),
        )
    return made


def _lines(nodes: "tuple[Node, ...]", parent: str | None = None, indent: str = "") -> "Iterator[tuple[str, str, Node]]":
    """Guide, name without what the parent's already says, and node, depth first; the top has no guide."""
    for position, node in enumerate(nodes):
        last = position == len(nodes) - 1
        top = parent is None
        short = node.name.removeprefix(parent or "").lstrip(" /") or node.name
        yield "" if top else indent + ("└─ " if last else "├─ "), short, node
        yield from _lines(node.children, node.name, "" if top else indent + ("   " if last else "│  "))


def _facts(one: "PhaseMixture") -> "Iterator[str]":
    passes = f" in {one.passes} passes over the list" if one.passes > 1 else ""
    taken = "" if one.consumed is None else f", {one.consumed:.1%} of the list"
    sizes = [f"{name} {readable_count(size)}" for name, size in (("raw", one.raw), ("weighted", one.weighted)) if size]
    yield " · ".join([*sizes, f"trained on {readable_count(one.trained)}{passes}{taken}"])
    if one.short_tokens:
        found = "unknown" if one.short is None else f"{one.short:.1%}"
        yield (
            f"short context: {found} ({one.short_basis}); at least {one.least_short:.0%} must come from documents of "
            f"at most {one.short_tokens:,} tokens"
        )


def _count(count: float | None) -> str:
    return UNKNOWN if count is None else readable_count(count)
