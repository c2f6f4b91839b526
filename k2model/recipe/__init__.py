"""Recipes: the typed phase table, its named variants and dotted overrides.

`schema` holds the types, `laptop`, `smoke` and `k2_70b` the variants, `catalog` finds them by name.
Depends on nothing else of ours.
"""

from k2model.recipe.catalog import (
    RECIPES,
    BrokenRecipe,
    UnknownRecipe,
    chosen_recipe,
    load_recipe,
    recipe_digest,
    recipe_file,
)
from k2model.recipe.overrides import OverrideError, apply_overrides
from k2model.recipe.schema import PhaseConfig, Recipe
from k2model.recipe.validate import RecipeError

__all__ = [
    "RECIPES",
    "BrokenRecipe",
    "OverrideError",
    "PhaseConfig",
    "Recipe",
    "RecipeError",
    "UnknownRecipe",
    "apply_overrides",
    "chosen_recipe",
    "load_recipe",
    "recipe_digest",
    "recipe_file",
]
