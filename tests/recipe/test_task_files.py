"""Tasks in YAML files: read strictly, placed beside their file, and then as if the recipe named them itself."""

from dataclasses import replace
from pathlib import Path

import pytest

from k2model.recipe import load_recipe
from k2model.recipe.laptop import smoke
from k2model.recipe.overrides import OverrideError
from k2model.recipe.task_files import questions_of, read_tasks, with_task_files
from k2model.recipe.validate import RecipeError, validate_recipe

TASK = "name: exam\nlocation: items/exam.jsonl\nlicence: CC0-1.0\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "exam.yaml").write_text(TASK)
    return tmp_path / "exam.yaml"


def test_items_lie_beside_the_file_unless_they_are_elsewhere(path: Path) -> None:
    (task,) = read_tasks(str(path))
    assert task.location == str(path.parent / "items" / "exam.jsonl")
    path.write_text(TASK.replace("items/exam.jsonl", "s3://ours/exam.jsonl"))
    assert read_tasks(str(path))[0].location == "s3://ours/exam.jsonl"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (TASK + "chek: exact\n", "field 'chek': unknown name 'chek'; did you mean 'check'"),
        (TASK + "shots: two\n", "field 'shots' = 'two' is str, expected int"),
        (TASK + "check: exactly\n", "field 'check': unknown name 'exactly'; did you mean 'exact'"),
        (TASK + "check: code\nshots: 2\n", "shots=2 has no effect with check=code"),
        (TASK.replace("licence: CC0-1.0\n", ""), r"evaluation.benchmarks.exam.licence is empty"),
        ("- name: a\n- b\n", "expected the fields of a task"),
        ("a: [", "it cannot be read as YAML"),
    ],
)
def test_what_cannot_be_used_is_told_with_file_and_field(path: Path, content: str, told: str) -> None:
    path.write_text(content)
    with pytest.raises(OverrideError, match=rf"^{path}: .*{told.replace('(', '.')}"):
        read_tasks(str(path))
    with pytest.raises(OverrideError, match=r"nowhere\.yaml: there is no such file"):
        read_tasks("nowhere.yaml")


def test_a_recipe_has_the_tasks_of_its_files(path: Path) -> None:
    recipe = load_recipe("smoke", {"evaluation.task_files": [str(path)]})
    assert [one.name for one in recipe.evaluation.benchmarks] == ["exam"] and not recipe.evaluation.task_files
    named = replace(smoke(), evaluation=replace(smoke().evaluation, task_files=(str(path),)))
    assert with_task_files(named).evaluation == recipe.evaluation
    with pytest.raises(RecipeError, match="task_files were not read"):
        validate_recipe(named)


def test_names_and_files_are_told_apart(path: Path) -> None:
    names, own = questions_of(["facts", str(path)])
    assert names == ("facts", "exam") and [one.name for one in own] == ["exam"]


def test_what_the_harness_brings_is_no_file_of_tasks() -> None:
    assert questions_of(["harness:arc/arc_easy.yaml"]) == (("harness:arc/arc_easy.yaml",), ())


def test_two_tasks_of_one_name_are_refused(path: Path) -> None:
    assert len(questions_of([str(path), str(path)])[1]) == 1
    (other := path.with_name("other.yaml")).write_text(TASK)
    with pytest.raises(OverrideError, match=r"a task 'exam' stands there twice"):
        questions_of([str(path), str(other)])
    path.write_text(TASK.replace("name: exam", "name: loss/exam"))
    with pytest.raises(OverrideError, match=r"'loss' means something else in scores"):
        read_tasks(str(path))
