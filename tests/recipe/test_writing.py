"""A recipe as a file to go on with: it gives what it was made from, and a person can read it."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from k2model.recipe import RECIPES, load_recipe
from k2model.recipe.schema import MixtureEntry, PhaseConfig, SourceConfig
from k2model.recipe.writing import field_comments, recipe_as_python

LONGEST_FILE = 420  # lines; laptop has 21 sources and six phases, k2_70b a hundred sources


def written(folder: Path, name: str, base: str, *overrides: dict) -> tuple[str, Path]:
    recipe = replace(load_recipe(base, *overrides), name=name)
    text = recipe_as_python(recipe, f"{name}.py", base, load_recipe(base) if base in RECIPES else None)
    file = folder / f"{name}.py"
    file.write_text(text)
    assert load_recipe(str(file)) == recipe
    return text, file


@pytest.mark.parametrize("base", list(RECIPES))
def test_a_file_of_each_recipe_gives_that_recipe_on_a_page_that_can_be_read(tmp_path, base):
    text, _ = written(tmp_path, "mine", base)
    assert len(text.splitlines()) < LONGEST_FILE and max(map(len, text.splitlines())) <= 120
    phases = next(
        node for node in ast.parse(text).body if isinstance(node, ast.Assign) and node.targets[0].id == "PHASES"
    )
    names = [row.keywords[0].value.value for row in phases.value.elts]
    assert names == [phase.name for phase in load_recipe(base).phases], "the table of phases is written out"
    assert f"# {field_comments(PhaseConfig)['parent'][:40]}" in text
    assert ("BASE = load_recipe" in text) is (base not in ("laptop", "smoke")), "what fits needs no other recipe"


def test_a_file_begun_from_a_file_or_changed_needs_neither(tmp_path):
    _, first = written(tmp_path, "first", "k2_70b", {"phases.sft.mixture.+": {"source": "arabic", "copies": 2}})
    second, _ = written(tmp_path, "second", str(first))
    assert "BASE" not in second and str(first) not in second.split('"""')[2]


def test_texts_numbers_and_names_of_every_kind_come_back(tmp_path):
    odd = ('say "a"', "it's", "a\nb " * 60, " lead", "\\n {x} # no comment", "both ' and \"", "x" * 300)
    changes = {"notes": odd, "phases.sft.optimizer.lr": 1e-5, "corpus.seed": -12345, "phases.sft.rope_theta": 1e22}
    changes["phases.pretrain"] = {"parent": "olmo", "keep_optimizer_state": False}
    more = {
        "corpus.sources.+": {"name": "a.b", "location": "/d/*.txt", "domain": "x", "licence": "mit", "sample": 0.25}
    }
    more["adopted.+"] = {
        "name": "olmo", "licence": "mit", "rope_theta": 1e4, "sequence_length": 128, "location": "/m"
    }  # fmt: skip
    text, _ = written(tmp_path, "my-recipe.2", "smoke", changes, more)
    assert "def my_recipe_2() -> Recipe:" in text


def test_what_the_schema_says_of_a_field_stands_behind_it_or_above():
    assert field_comments(MixtureEntry)["listed_as"] == "its name in the list it was taken from"
    assert field_comments(PhaseConfig)["steps"] == "of the optimizer"
    assert field_comments(SourceConfig)["location"].startswith("a file, folder or glob: a path or `s3://`")
