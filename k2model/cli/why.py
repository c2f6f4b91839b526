"""What `k2 plan --why` says of a recipe: where its values come from.

Of a derived recipe rule by rule, with the arithmetic; of another there are its notes, and what it lists as not public.
"""

import inspect
import json
from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from k2model.cli.terminal import console, table
from k2model.reporting.terminal import heading

if TYPE_CHECKING:
    from k2model.recipe import Recipe
    from k2model.recipe.derive import Derived


def explain(name: str, overrides: Mapping[str, Any], as_json: bool) -> None:
    """Print the derivation of the recipe `name`. What an override set in place of a derived value says so."""
    from k2model.recipe import RECIPES, chosen_recipe
    from k2model.recipe.k2_sizes import derivation

    recipe = chosen_recipe(name, overrides)
    base, rows = derivation(recipe)
    if as_json:
        click.echo(json.dumps(_record(recipe, base, rows)))
        return
    out = console()
    if rows:
        out.print(f"{recipe.name} is derived from {base}. What no rule names is {base}'s.", highlight=False)
    else:
        about = inspect.getdoc(RECIPES[name]) if name in RECIPES else None
        out.print(f"Nothing of {recipe.name} is derived by rule; its values stand as they were set.", highlight=False)
        out.print(" ".join((about or recipe.description).split()), highlight=False)
    for rule, ruled in groupby(rows, lambda row: row.rule):
        out.print("", heading(rule.name, f"{rule.words}."))
        out.print(f"Source: {rule.source}", style="dim", highlight=False)
        cells = [(row.field, _said(row.base), _said(row.value), row.how) for row in ruled]
        out.print(table(("field", base, recipe.name, "how"), cells))
    for title, texts in (("Notes", recipe.notes), ("Not public of the real run", recipe.unknown)):
        if texts:
            out.print("", heading(title), *(f"\n- {text}" for text in texts), highlight=False)


def _record(recipe: "Recipe", base: str, rows: "list[Derived]") -> dict[str, Any]:
    derived = [
        {"field": row.field, "base": row.base, "value": row.value, "rule": row.rule.words, "source": row.rule.source,
         "how": row.how}
        for row in rows
    ]  # fmt: skip
    return {
        "recipe": recipe.name,
        "base": base,
        "derived": derived,
        "notes": recipe.notes,
        "not_public": recipe.unknown,
    }


def _said(value: Any) -> str:
    """1,250,000 and 0.00015; texts as they are."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)
