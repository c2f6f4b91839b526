"""What a recipe has to be told before it can run is said at once and in full, by the plan and by the first task."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from k2model.cli.main import main
from k2model.lifecycle.missing import MissingData, missing_data, missing_sources
from k2model.recipe import RECIPES, load_recipe
from k2model.recipe.schema import SourceConfig
from tasks.run import resolve


@pytest.mark.parametrize("name", ["k2_1b", "k2_8b", "k2_70b"])
def test_every_source_without_location_or_builder_is_listed_in_one_message(name):
    recipe = load_recipe(name)
    told = missing_data(recipe)
    assert [source.name for source in recipe.corpus.sources] == missing_sources(recipe)
    words = told.replace(",", " ").split()
    assert all(source.name in words for source in recipe.corpus.sources)
    assert "102 of its 102 sources have neither a location nor a builder" in told
    assert f"k2 recipe new mine.py --from {name}" in told and "--set corpus.sources.NAME.location=" in told
    assert ("phases without a mixture: mid_2, mid_3, mid_4" in told) == (name == "k2_70b")


def test_a_source_with_a_location_is_not_missing_and_the_projects_own_recipes_miss_nothing():
    where = "corpus.sources.freelaw"
    told = {f"{where}.location": "/data", f"{where}.domain": "law", f"{where}.licence": "cc0-1.0"}
    assert "freelaw" not in missing_sources(load_recipe("k2_1b", told))
    assert [missing_data(load_recipe(name)) for name in RECIPES if not name.startswith("k2_")] == [None, None]


def test_a_slip_of_the_pen_is_told_as_one():
    smoke = load_recipe("smoke")
    recipe = replace(smoke, name="mine", corpus=replace(smoke.corpus, sources=(SourceConfig("chat/tool"),)))
    assert "in no mixture (1): chat/tool (did you mean 'chat/tools'?)" in missing_data(recipe)
    assert "Say in the recipe's file where each lies" in missing_data(recipe)


def test_a_plan_shows_what_it_can_and_what_is_missing(tmp_path):
    result = CliRunner(mix_stderr=False).invoke(main, ["plan", "k2_1b", "--json", "--store", str(tmp_path / "store")])
    assert result.exit_code == 0, result.output
    steps = [row["step"] for row in json.loads(result.stdout)["steps"]]
    assert steps[0] == "corpus_raw" and steps[-1] == "release" and "mid_4/checkpoint" in steps
    assert result.stderr.strip() == missing_data(load_recipe("k2_1b"))


def test_the_first_task_stops_before_anything_runs(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\n"
        "from k2model.recipe.laptop import laptop\n"
        "from k2model.recipe.schema import Recipe, SourceConfig\n"
        "def mine() -> Recipe:\n"
        "    base = laptop()\n"
        "    sources = (*base.corpus.sources, SourceConfig('web'), SourceConfig('books'))\n"
        "    return replace(base, name='mine', corpus=replace(base.corpus, sources=sources))\n"
    )
    monkeypatch.setenv("K2_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("K2_STORE", raising=False)
    monkeypatch.setenv("K2_RECIPE", str(tmp_path / "mine.py"))
    with pytest.raises(MissingData, match=r"2 of its 24 sources(?s:.*)in no mixture \(2\): web, books"):
        resolve(overrides={})
