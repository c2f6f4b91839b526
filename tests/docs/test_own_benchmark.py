"""docs/own_benchmark.md, followed literally: its files are written, its commands run, on the store of a lifecycle."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from k2model.cli.main import main
from k2model.recipe import load_recipe
from tests.smoke import ROOT

PAGE = (ROOT / "docs" / "own_benchmark.md").read_text(encoding="utf-8")
FILES = {"jsonl": "capitals.jsonl", "yaml": "capitals.yaml", "python": "mine.py"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert lines and all(line.startswith("k2 ") for line in lines)
    return [shlex.split(line)[1:] for line in lines]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for language, name in FILES.items():
        assert f"`{name}`" in PAGE
        (tmp_path / name).write_text(blocks(language)[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_page_does_what_it_says(
    finished: tuple[Path, object], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished[0] / "store", folder / "store")
    monkeypatch.setenv("K2_RECIPE", "smoke")
    monkeypatch.setenv("K2_STORE", str(folder / "store"))
    said = {}
    for arguments in commands():
        result = CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        said[arguments[1]] = json.loads(result.stdout)
    (row,) = said["run"]
    assert (row["score"], row["n"], row["group"], row["phase"]) == ("capitals", 2, "Geography", "mid_1")
    assert row["low"] <= row["value"] <= row["high"]
    matrix = {entry["checkpoint"]["reference"]: entry for entry in said["matrix"]}
    assert list(matrix) == ["pretrain", "mid_1"] and matrix["mid_1"]["cell"] == row["cell"]  # measured once
    (compared,) = said["compare"]
    assert compared["score"] == "capitals" and compared["result"]["n"] == 2
    assert said["show"] is not None


def test_the_recipe_of_the_page_asks_both(folder: Path) -> None:
    recipe = load_recipe("mine.py")
    assert [one.name for one in recipe.evaluation.benchmarks] == ["sums", "capitals"]
    assert recipe.evaluation.task_files == () and recipe.gates[-1].score == "capitals"
    assert recipe.evaluation.benchmarks[1].location == "capitals.jsonl"
