"""`k2 recipe`: recipes by name, a recipe field by field, a file of one's own."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from k2model.cli.main import main
from k2model.recipe import RECIPES, load_recipe


def said(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(main, ["recipe", *arguments])
    assert result.exit_code == status, result.output
    return result.output


def rows(*arguments: str) -> Any:
    return json.loads(said(*arguments, "--json"))


def test_every_recipe_is_listed_with_what_it_is():
    listed = {row["recipe"]: row for row in rows("list")}
    assert list(listed) == list(RECIPES)
    assert (listed["laptop"]["phases"], listed["laptop"]["tokens"]) == (6, 7_587_840)
    assert load_recipe("k2_70b").description in said("list")


def test_a_recipe_is_shown_field_by_field_with_what_the_schema_says(monkeypatch):
    lines = [line.split("  ") for line in said("show", "smoke").splitlines()]
    fields = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert ["heldout_items", "16", "evaluation items per family, never trained on"] in fields
    assert ["sources", "20 rows"] in fields and ["retrieval/128", "documents=120, context=128"] in fields
    assert [line[0] for line in fields].count("rope_theta") == 6, "phases are told whole"
    monkeypatch.setenv("K2_RECIPE", "smoke")
    monkeypatch.setenv("K2_OVERRIDES", '{"description": "[bold]"}')
    assert "[bold]" in said("show") and "[bold]" not in said("show", "laptop")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("phases.sft.steps", 6),
        ("phases.sft.mixture.prose", {"source": "prose", "weight": 4.0, "epochs": 0.0, "copies": 0, "bucket": ""}),
        ("gates.mid_1", {"phase": "mid_1", "score": "arithmetic/think", "minimum": 0.3, "minus": "arithmetic/direct"}),
        ("notes", ["a", "b"]),
    ],
)
def test_a_part_is_shown_by_its_path_with_changes(path, found):
    shown = rows("show", "smoke", path, "--set", 'notes=["a", "b"]')
    assert shown == found if not isinstance(found, dict) else found.items() <= shown.items()
    assert said("show", "smoke", path)


def test_a_path_that_leads_nowhere_has_the_nearest_name():
    assert said("show", "smoke", "phases.sfd", status=1).startswith(
        "OverrideError: 'phases.sfd': unknown name 'sfd'; did"
    )


def test_a_file_is_begun_from_a_recipe_and_is_not_written_over(tmp_path):
    file = tmp_path / "mine.py"
    told = said("new", str(file), "--from", "smoke", "--set", "phases.sft.steps=3")
    assert f"k2 plan {file}" in told and f"make lifecycle RECIPE={file}" in told
    assert load_recipe(str(file)) == load_recipe("smoke", {"name": "mine", "phases.sft.steps": 3})
    file.write_text("mine = 1")
    assert "is there already, and is not written over" in said("new", str(file), status=1)
    assert file.read_text() == "mine = 1"
    assert "is no Python file" in said("new", str(tmp_path / "mine"), status=1)
    assert "cannot be written: No such file" in said("new", str(tmp_path / "none" / "mine.py"), status=1)
    assert "did you mean 'smoke'" in said("new", str(tmp_path / "b.py"), "--from", "smoek", status=1)


@pytest.mark.parametrize(
    ("change", "parents"),
    [
        ('phases=[{"like": "sft", "parent": ""}]', {"sft": ""}),
        ('phases.+={"like": "sft", "name": "b"}', {"mid_4": "mid_3", "sft": "mid_4", "b": "mid_4"}),
        (
            'phases=[{"like": "mid_1", "name": "roots", "parent": ""}, '
            '{"like": "mid_2", "name": "graft", "parent": "roots"}, '
            '{"like": "sft", "name": "flower", "parent": "graft"}]',
            {"roots": "", "graft": "roots", "flower": "graft"},
        ),
        ('phases.mid_4.+={"like": "mid_4", "name": "mid_5", "parent": "mid_4"}', {"mid_5": "mid_4", "sft": "mid_4"}),
    ],
)
def test_any_phases_can_be_planned(tmp_path, change, parents):
    changes = ["--set", "gates=[]", "--set", "continual.tuned=", "--set", change]
    assert parents.items() <= {row["name"]: row["parent"] for row in rows("show", "smoke", "phases", *changes)}.items()
    result = CliRunner().invoke(main, ["plan", "smoke", *changes, "--store", str(tmp_path), "--json"])
    planned = {row["step"]: row["why / where"] for row in json.loads(result.output)["steps"]}
    for name, parent in parents.items():
        assert (f"{parent}/checkpoint" in planned[f"{name}/checkpoint"]) is bool(parent)
