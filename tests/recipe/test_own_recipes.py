"""Recipes outside of the project: found by file or module, and told what is wrong with them in their own lines."""

import sys
from pathlib import Path

import pytest

from k2model.recipe import BrokenRecipe, RecipeError, UnknownRecipe, load_recipe

GOOD = """
from dataclasses import dataclass, replace

from k2model.recipe import Recipe
from k2model.recipe.laptop import smoke


@dataclass(frozen=True)
class Size:
    layers: int


def mine() -> Recipe:
    base = smoke()
    return replace(base, name="mine", model=replace(base.model, n_layers=Size(3).layers))


def smaller():
    return replace(mine(), name="smaller")
"""


def with_phases(*rows: str) -> str:
    """A file whose phases are rows of name and parent."""
    phases = ", ".join(f"row({row})" for row in rows)
    row = 'row = lambda name, parent: replace(smoke().phase("pretrain"), name=name, parent=parent)\n'
    return GOOD.replace("def mine", f"{row}\n\ndef mine").replace(
        'name="mine",', f'name="mine", gates=(), phases=({phases},),'
    )


def with_sources(*names: str) -> str:
    more = ", ".join(f"replace(base.corpus.sources[0], name={name!r})" for name in names)
    changed = f"corpus=replace(base.corpus, sources=(*base.corpus.sources, {more}))"
    return GOOD.replace('name="mine",', f'name="mine", {changed},')


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_file_gives_the_function_that_says_it_returns_a_recipe_or_the_one_named(tmp_path):
    file = write(tmp_path / "mine.py", GOOD)
    assert (load_recipe(file).name, load_recipe(file).model.n_layers) == ("mine", 3)
    assert load_recipe(f"{file}:smaller", {"phases.sft.steps": 9}).phase("sft").steps == 9


def test_two_files_of_one_name_are_two_recipes_and_one_that_changes_is_read_anew(tmp_path, monkeypatch):
    for folder, layers in (("a", 3), ("b", 4)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "mine.py", GOOD.replace("Size(3)", f"Size({layers})"))
    found = [load_recipe(str(tmp_path / folder / "mine.py")).model.n_layers for folder in ("a", "b", "a")]
    assert found == [3, 4, 3]
    monkeypatch.chdir(tmp_path / "a")
    write(Path("mine.py"), GOOD.replace("Size(3)", "Size(12)"))
    assert load_recipe("mine.py").model.n_layers == 12


def test_a_module_is_found_as_python_finds_it(tmp_path, monkeypatch):
    write(tmp_path / "our_recipes_of_tests.py", GOOD)
    monkeypatch.syspath_prepend(tmp_path)
    assert load_recipe("our_recipes_of_tests:mine").name == "mine"
    with pytest.raises(UnknownRecipe, match="no function 'mein'; there are mine, smaller"):
        load_recipe("our_recipes_of_tests:mein")
    sys.modules.pop("our_recipes_of_tests")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("def mine():\n    return 1 / 0\n", BrokenRecipe, r'line 2, in mine\n    return 1 / 0\n.*ZeroDivisionError'),
        ("import nothing_of_the_kind\n", BrokenRecipe, r"line 1.*\n.*nothing_of_the_kind\n.*ModuleNotFoundError"),
        ("def mine(:\n", BrokenRecipe, r"line 1\n    def mine\(:\n.*SyntaxError"),
        ("def mine():\n    return {'name': 'mine'}\n", UnknownRecipe, r"gave \{'name': 'mine'\} \(dict\), expected"),
        ("X = 1\n", UnknownRecipe, "not said which function is meant.*of none"),
        ("def a():\n    pass\ndef b():\n    pass\n", UnknownRecipe, "not said which function is meant.*of a, b"),
        (GOOD.replace('name="mine"', 'name="mine", licence=""'), RecipeError, "licence is empty"),
        (with_phases('"a", "b"', '"b", ""'), RecipeError, "parent='b' must be an earlier phase; that one stands below"),
        (with_phases('"a", "b"', '"b", "a"'), RecipeError, "phases.a.parent='b' must be an earlier phase"),
        (with_phases('"a", "a"'), RecipeError, "phases.a.parent='a' .* a phase cannot start from itself"),
        (with_phases('"a", ""', '"b", "aa"'), RecipeError, "phases.b.parent='aa' .*; did you mean 'a'"),
        (with_phases('"a", "aa"'), RecipeError, "phases.a.parent='aa' .*; there is none above it: make it empty"),
        (with_phases('"a", ""', '"a", ""'), RecipeError, "phase names must be unique, got .'a', 'a'."),
        (with_sources("web/cc", "web-cc"), RecipeError, "'web/cc' and 'web-cc' share the folder 'web-cc'"),
        (with_sources("web", "web"), RecipeError, "'web' and 'web' are one name"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_told_in_its_own_lines(tmp_path, text, error, message):
    with pytest.raises(error, match=f"(?s){message}") as told:
        load_recipe(write(tmp_path / "mine.py", text))
    assert "importlib" not in str(told.value) and "catalog.py" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere/mine.py", "there is no file .*nowhere/mine.py. A recipe is"),
        ("no_such_package.recipes:mine", "Python finds no module 'no_such_package.recipes'"),
        ("laptp", "did you mean 'laptop'.*a function without arguments"),
    ],
)
def test_a_name_that_leads_nowhere_says_how_a_recipe_looks(name, message):
    with pytest.raises(UnknownRecipe, match=message):
        load_recipe(name)
