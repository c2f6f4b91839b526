"""Recipes by name, by file and by module. A recipe is a function that returns a complete `Recipe`; variants call
another.

    laptop                    one of the project's own
    mine.py                   a file; its function that returns a Recipe
    mine.py:variant           one of several functions of a file
    package.module:function   a function that Python can import
"""

import importlib
import importlib.util
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from k2model.errors import K2Error, nearest
from k2model.recipe.k2_70b import k2_70b
from k2model.recipe.k2_sizes import k2_1b, k2_8b
from k2model.recipe.laptop import laptop, smoke
from k2model.recipe.overrides import apply_overrides, parse_overrides
from k2model.recipe.schema import Recipe
from k2model.recipe.task_files import with_task_files
from k2model.recipe.validate import validate_recipe
from k2model.settings import recipe_changes, recipe_name

RECIPES: dict[str, Callable[[], Recipe]] = {
    "laptop": laptop,
    "smoke": smoke,
    "k2_1b": k2_1b,
    "k2_8b": k2_8b,
    "k2_70b": k2_70b,
}

HOW = (
    "A recipe is one of the project's own by name, a file (`mine.py`, or `mine.py:function`), or `package.module:"
    "function`: a function without arguments that returns a k2model.recipe.Recipe"
)


class UnknownRecipe(K2Error):
    """No recipe has the requested name, or what was named is no recipe."""


class BrokenRecipe(K2Error):
    """The code of a user's recipe raised; the message has the lines of that code and nothing else."""


def load_recipe(name: str, *overrides: Mapping[str, Any] | None) -> Recipe:
    """The recipe that `name` says (see this module) with dotted `overrides` applied in turn, checked as a whole.

    Raises UnknownRecipe, BrokenRecipe, OverrideError or RecipeError.
    """
    recipe = _made(name)
    for changes in overrides:
        recipe = apply_overrides(recipe, changes or {})
    recipe = with_task_files(recipe)
    validate_recipe(recipe)
    return recipe


def chosen_recipe(name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The same where a person has chosen `name`: with `K2_OVERRIDES` applied first, if that is what they change, the
    recipe `K2_RECIPE`."""
    text = recipe_changes() if name == recipe_name() else ""
    return load_recipe(name, parse_overrides(text, "K2_OVERRIDES") if text else {}, overrides)


def recipe_file(name: str) -> tuple[Path, str] | None:
    """The file of a user's own recipe and the name of its function; None for a recipe that is imported."""
    target, _, function = name.partition(":")
    if name in RECIPES or not target.endswith(".py"):
        return None
    return Path(target).resolve(), _function(_from_file(target), function, name)[0]


def recipe_digest(recipe: Recipe) -> str:
    """sha256 (64 hex digits) over every field of a recipe, places and sizes of jobs as well: equal means the same."""
    return sha256(json.dumps(asdict(recipe), sort_keys=True).encode()).hexdigest()


def _made(name: str) -> Recipe:
    if name in RECIPES:
        return RECIPES[name]()
    target, _, function = name.partition(":")
    if target.endswith(".py"):
        module, file = _from_file(target), str(Path(target).resolve())
    elif function:
        module = _from_package(target, name)
        file = str(getattr(module, "__file__", target))
    else:
        raise UnknownRecipe(f"unknown recipe '{name}' (K2_RECIPE); {nearest(name, RECIPES)}. {HOW}")
    made = _run(_function(module, function, name)[1], name, file)
    if not isinstance(made, Recipe):
        raise UnknownRecipe(f"recipe '{name}' gave {made!r:.80} ({type(made).__name__}), expected a Recipe. {HOW}")
    return made


def _from_file(target: str) -> ModuleType:
    path = Path(target).resolve()
    if not path.is_file():
        raise UnknownRecipe(f"recipe '{target}': there is no file {path}. {HOW}")
    # A name of its own for each place, so that two files called alike are two modules.
    name = f"k2_recipe_{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses of the file look themselves up there
    _run(lambda: spec.loader.exec_module(module), target, str(path))  # type: ignore[union-attr]
    return module


def _from_package(target: str, name: str) -> ModuleType:
    try:
        found = importlib.util.find_spec(target)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise UnknownRecipe(f"recipe '{name}': Python finds no module '{target}' to import. {HOW}")
    module: ModuleType = _run(lambda: importlib.import_module(target), name, str(found.origin))
    return module


def _function(module: ModuleType, wanted: str, name: str) -> tuple[str, Callable[[], Any]]:
    """Name and function: the `wanted` one, or the only one that says it returns a Recipe, or is called as its file."""
    own = {
        key: value
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not key.startswith("_")
    }
    if wanted:
        if not callable(found := getattr(module, wanted, None)):
            raise UnknownRecipe(f"recipe '{name}': there is no function '{wanted}'; there are {_listed(own)}. {HOW}")
        return wanted, found
    declared = [key for key, value in own.items() if value.__annotations__.get("return") in (Recipe, "Recipe")]
    stem = Path(str(module.__file__)).stem
    choice = declared if len(declared) == 1 else [key for key in own if key == stem] or list(own)
    if len(choice) != 1:
        raise UnknownRecipe(
            f"recipe '{name}': it is not said which function is meant; name one (`{name}:function`) of {_listed(own)}. "
            f"{HOW}"
        )
    return choice[0], own[choice[0]]


def _listed(own: Mapping[str, Any]) -> str:
    return ", ".join(own) or "none"


def _run(function: Callable[[], Any], name: str, file: str) -> Any:
    """What the user's code gives. Raises BrokenRecipe with the lines of `file` that led to an error, and no others."""
    try:
        return function()
    except K2Error:
        raise
    except Exception as error:
        lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        if isinstance(error, SyntaxError):
            told = "".join(traceback.format_exception_only(error)).rstrip()
        else:
            shown = "".join(traceback.format_list(lines))
            told = f"{shown}{type(error).__name__}: {error}"
        raise BrokenRecipe(f"recipe '{name}' cannot be made:\n{told}") from None
