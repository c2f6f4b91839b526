"""Recipes by name. A recipe is a function that returns a complete `Recipe`; variants call another."""

from collections.abc import Callable, Mapping
from typing import Any

from k2model.errors import K2Error, nearest
from k2model.recipe.k2_70b import k2_70b
from k2model.recipe.laptop import laptop, smoke
from k2model.recipe.overrides import apply_overrides
from k2model.recipe.schema import Recipe
from k2model.recipe.validate import validate_recipe

RECIPES: dict[str, Callable[[], Recipe]] = {"laptop": laptop, "smoke": smoke, "k2_70b": k2_70b}


class UnknownRecipe(K2Error):
    """No recipe has the requested name."""


def load_recipe(name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe called `name` with dotted `overrides` applied, checked as a whole.

    Raises UnknownRecipe, OverrideError or RecipeError.
    """
    if name not in RECIPES:
        raise UnknownRecipe(f"unknown recipe '{name}' (K2_RECIPE); {nearest(name, RECIPES)}")
    recipe = apply_overrides(RECIPES[name](), overrides or {})
    validate_recipe(recipe)
    return recipe
