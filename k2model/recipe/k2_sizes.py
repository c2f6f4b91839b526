"""`k2_1b` and `k2_8b`: K2-V2 at sizes between a laptop and 3,200 GPUs, derived from `k2_70b` by the rules of `derive`.

Neither has been run. Their sources are K2's, by name: where they lie, the user says.
"""

from dataclasses import replace
from functools import cache

from k2model.recipe.derive import Derived, Size, derive
from k2model.recipe.k2_70b import k2_70b
from k2model.recipe.overrides import value_at
from k2model.recipe.rules import RULES
from k2model.recipe.schema import Recipe

SIZES = {size.name: size for size in (Size("k2_1b", 1e9, nodes=1), Size("k2_8b", 8e9, nodes=8))}

NOTES = (
    "Every value is k2_70b's or derived from it by a stated rule: `k2 plan {name} --why` prints rules, sources and "
    "arithmetic. Neither the values nor the estimates of memory have been tried: the recipe has not been run.",
    "mid_2 to mid_4: K2's mixtures are not public; these go on with mid_1's, which is a choice of this project.",
    "Public token counts of sources are those of K2's vocabulary of 250,000; with this smaller one the same text is "
    "more tokens.",
    "sft follows k2_70b's reading of the report, with the same list, batch and steps.",
    "continual is k2_70b's, which is a choice of this project.",
)


@cache
def sized(name: str) -> tuple[Recipe, tuple[Derived, ...]]:
    """The recipe `name`, one of `SIZES`, and its derivation."""
    size = SIZES[name]
    recipe, rows = derive(k2_70b(), size)
    gpus = size.nodes * recipe.cluster.gpus_per_node
    where = f"{gpus} GPUs of {size.memory / 1e9:.0f} GB"
    return replace(
        recipe,
        description=f"K2-V2's lifecycle at {size.parameters / 1e9:.0f}B parameters, on {where}",
        notes=tuple(note.format(name=name) for note in NOTES),
    ), rows


def k2_1b() -> Recipe:
    """One node of 8 GPUs."""
    return sized("k2_1b")[0]


def k2_8b() -> Recipe:
    """8 nodes of 8 GPUs."""
    return sized("k2_8b")[0]


def derivation(recipe: Recipe) -> tuple[str, list[Derived]]:
    """The base of a recipe called as one of `SIZES`, and its rows, by rule; ("", []) of any other.

    The values are those that `recipe` has: where one is not the derived one, the row says what it is in place of.
    """
    if recipe.name not in SIZES:
        return "", []
    rows = [_as_set(row, recipe) for row in sized(recipe.name)[1]]
    return k2_70b().name, sorted(rows, key=lambda row: RULES.index(row.rule))


def _as_set(row: Derived, recipe: Recipe) -> Derived:
    if row.told and not row.field.endswith(".tokens"):
        return row
    value = value_at(recipe, row.field)
    return row if value == row.value else replace(row, value=value, how=f"set in place of {row.value:,}")
