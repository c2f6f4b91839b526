"""`k2 plan RECIPE --why`: rules, sources and arithmetic of a derived recipe; of others that nothing is derived."""

import json

import pytest
from click.testing import CliRunner

from k2model.cli.main import main
from k2model.recipe import load_recipe
from k2model.recipe.k2_sizes import derivation


@pytest.mark.parametrize("name", ["k2_1b", "k2_8b"])
def test_why_prints_every_derived_value_with_its_rule_and_source(name):
    result = CliRunner().invoke(main, ["plan", name, "--why"])
    assert result.exit_code == 0, result.output
    assert {row.field for row in derivation(load_recipe(name))[1]} <= set(result.output.split())
    for part in ("k2_70b", "arXiv:2505.13738", "0.0141" if name == "k2_8b" else "0.166", "has not been run"):
        assert part in result.output, part
    found = json.loads(CliRunner().invoke(main, ["plan", name, "--why", "--json"]).stdout)
    rate = next(row for row in found["derived"] if row["field"] == "phases.pretrain.optimizer.lr")
    assert (found["base"], rate["base"]) == ("k2_70b", 1.5e-4)
    assert rate["value"] == load_recipe(name).phase("pretrain").optimizer.lr and "muP" in rate["source"]


@pytest.mark.parametrize(
    ("name", "part"), [("k2_70b", "facts of LLM360's released scripts"), ("laptop", "Muon on the matrices")]
)
def test_why_of_a_recipe_that_is_not_derived_says_so(name, part):
    result = CliRunner().invoke(main, ["plan", name, "--why"])
    assert result.exit_code == 0, result.output
    assert f"Nothing of {name} is derived by rule" in result.output and part in result.output
    assert ("Not public of the real run" in result.output) == (name == "k2_70b")


def test_a_plan_begins_with_what_is_trained_and_what_a_worker_holds(tmp_path, monkeypatch):
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    lines = CliRunner().invoke(main, ["plan", "k2_70b"]).stdout.splitlines()
    assert "72.55B parameters (72,548,360,192), 15.061T tokens" in lines[0]
    pretrain = next(line.split() for line in lines if line.startswith("pretrain "))
    assert pretrain[-4:-2] == ["8,192", "3,200"] and pretrain[-1] == "GB" and float(pretrain[-2]) > 36
    assert any(line.split()[:2] == ["pretrain", "36.3"] for line in lines)  # fp32 weights of an eighth: 72.55e9 x 4 / 8
    assert any("98.1%" in line for line in lines) and "arXiv:2407.21783" in " ".join(lines)


def test_layouts_as_json_are_numbers_the_fastest_first():
    options = ["plan", "k2_70b", "--layouts", "--gpus", "256", "--memory", "80GiB", "--json"]
    rows = json.loads(CliRunner().invoke(main, options).stdout)
    seconds = [row["seconds"] for row in rows if row["phase"] == "pretrain"]
    assert seconds == sorted(seconds) and len(seconds) == 5
    assert all(row["memory"]["peak"] <= 0.9 * 80 * 2**30 and row["layout"]["nodes"] == 32 for row in rows)
