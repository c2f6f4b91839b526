"""Dotted overrides are typed, reach every field, and never pass silently."""

from dataclasses import replace

import pytest

from k2model.recipe import OverrideError, RecipeError, apply_overrides, chosen_recipe, load_recipe
from k2model.recipe.overrides import parse_overrides, value_at
from k2model.recipe.schema import GateConfig, MixtureEntry, OptimizerName, Packing, SourceConfig


def test_overrides_reach_nested_fields_and_leave_the_rest_alone():
    plain = load_recipe("laptop")
    changed = load_recipe("laptop", {"phases.sft.optimizer.lr": 1e-5, "phases.sft.mixture.prose.weight": 4})
    assert changed.phase("sft").optimizer.lr == 1e-5
    assert {e.source: e.weight for e in changed.phase("sft").mixture}["prose"] == 4.0
    assert changed.phases[:-1] == plain.phases[:-1]
    assert changed.model == plain.model


@pytest.mark.parametrize(
    ("path", "given", "stored"),
    [
        ("phases.sft.steps", 100.0, 100),
        ("phases.sft.steps", "120", 120),
        ("phases.sft.optimizer.lr", "1e-5", 1e-5),
        ("phases.sft.rope_theta", 5, 5.0),
        ("phases.sft.keep_optimizer_state", "false", False),
        ("phases.sft.packing", "concatenate", Packing.CONCATENATE),
        ("notes", ["a", "b"], ("a", "b")),
        ("notes", '["a", "b"]', ("a", "b")),
    ],
)
def test_values_are_converted_to_the_field_type(path, given, stored):
    value = load_recipe("laptop", {path: given})
    for part in path.split("."):
        value = (
            value.phase(part)
            if part == "sft"
            else (value.phases and value)
            if part == "phases"
            else getattr(value, part)
        )
    assert value == stored
    assert type(value) is type(stored)


def test_a_group_or_a_row_takes_several_fields_and_keeps_the_others():
    plain = load_recipe("laptop").phase("sft")
    given = {"steps": 99, "optimizer": {"name": "adamw", "lr": 1e-5}, "schedule.warmup_steps": 3}
    for value in (given, str(given).replace("'", '"')):
        changed = load_recipe("laptop", {"phases.sft": value}).phase("sft")
        assert changed == replace(
            plain,
            steps=99,
            optimizer=replace(plain.optimizer, name=OptimizerName.ADAMW, lr=1e-5),
            schedule=replace(plain.schedule, warmup_steps=3),
        )


def test_rows_are_added_at_the_end_or_behind_another_whole_or_as_a_copy():
    changed = load_recipe(
        "laptop",
        {
            "corpus.sources.+": [
                {"name": "v1.0", "location": "/data", "domain": "chat", "licence": "CC0-1.0", "fields": {"id": "key"}}
            ],
            "corpus.sources.v1.0.heldout": 0.5,  # a name with a dot is one name
            "phases.mid_4.+": [{"like": "mid_4", "name": "mid_5", "parent": "mid_4", "optimizer.lr": 5e-4}],
            "phases.sft": {"parent": "mid_5"},
            "continual.base": "mid_5",
            "phases.+": {"like": "sft", "name": "sft_b", "seed": 4, "mixture": [{"source": "v1.0", "weight": 1}]},
            "gates.+": '{"phase": "sft_b", "score": "tools/well_formed", "minimum": 0.5}',
        },
    )
    assert [phase.name for phase in changed.phases][-4:] == ["mid_4", "mid_5", "sft", "sft_b"]
    assert (changed.phase("mid_5").optimizer.lr, changed.phase("mid_5").steps) == (5e-4, 334)
    assert changed.phase("sft_b") == replace(
        changed.phase("sft"), name="sft_b", seed=4, mixture=(MixtureEntry("v1.0", 1.0),)
    )
    source: SourceConfig = value_at(changed, "corpus.sources.v1.0")
    assert (source.heldout, source.fields.id, source.fields.text) == (0.5, "key", "text")
    assert changed.gates[-1] == GateConfig("sft_b", "tools/well_formed", 0.5)


def test_rows_are_removed_by_null_and_what_that_breaks_is_said():
    gone = {"gates.mid_4": None, "gates.sft/tools/well_formed": "null", "phases.mid_4": None}
    with pytest.raises(RecipeError, match=r"phases.sft.parent='mid_4' must be an earlier phase; did you mean 'mid_3'"):
        load_recipe("laptop", gone)
    changed = load_recipe("laptop", gone | {"phases.sft.parent": "mid_3", "continual.base": "mid_3"})
    assert "mid_4" not in {phase.name for phase in changed.phases} | {gate.phase for gate in changed.gates}
    left = [gate.name for gate in changed.gates if gate.phase == "sft" and not gate.score.startswith("safety/")]
    assert left == ["sft/arithmetic/high", "sft/countdown/high"]
    with pytest.raises(RecipeError, match=r"gates\.mid_4: no such phase"):
        load_recipe("laptop", {"phases.mid_4": None, "phases.sft.parent": "mid_3"})
    with pytest.raises(RecipeError, match="phases has no rows, so nothing would be trained"):
        load_recipe("laptop", {"phases": []})


def test_a_whole_table_is_a_list_of_rows():
    assert load_recipe("laptop", {"gates": "[]"}).gates == ()
    mixture = [{"source": "prose", "weight": 2}, {"source": "code", "weight": 1}]
    changed = load_recipe("laptop", {"phases.sft.mixture": mixture}).phase("sft").mixture
    assert changed == (MixtureEntry("prose", 2.0), MixtureEntry("code", 1.0))


def test_those_of_the_environment_change_the_recipe_that_it_names_and_no_other(monkeypatch):
    monkeypatch.setenv("K2_RECIPE", "smoke")
    monkeypatch.setenv("K2_OVERRIDES", '{"gates": [], "phases.sft.steps":\n 3}')
    changed = chosen_recipe("smoke", {"gates.+": {"phase": "sft", "score": "tools/exact", "minimum": 0}})
    assert (changed.phase("sft").steps, len(changed.gates)) == (3, 1)
    assert chosen_recipe("laptop") == load_recipe("laptop") and load_recipe("smoke").gates


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[1]",
            r"^K2_OVERRIDES must be a JSON object of dotted fields, such as {\"phases.sft.steps\": 99}, got \[1\]$",
        ),
        ('{"a": 1,}', 'got {"a": 1,}, which is no JSON: .*column 9'),
        ('{"gates.+": {}, "gates.+": {}}', "'gates.[+]' is given twice; several rows of a table are one list"),
    ],
)
def test_a_text_that_is_no_overrides_is_refused_by_where_it_is_from(text, message):
    with pytest.raises(OverrideError, match=message):
        parse_overrides(text, "K2_OVERRIDES")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("phases.sft.optimizer.lrr", 1.0, "unknown name 'lrr'; did you mean 'lr'"),
        ("phases.stf.optimizer.lr", 1.0, "did you mean 'sft'"),
        ("learning_rate", 1.0, "unknown name 'learning_rate'"),
        ("phases.sft.steps", "ten", "is str, expected int"),
        ("phases.sft.steps", 1.5, "is float, expected int"),
        ("phases.sft.steps", True, "is bool, expected int"),
        ("phases.sft.keep_optimizer_state", 1, "is int, expected bool"),
        ("phases.sft.optimizer.name", "adam", "did you mean 'adamw'"),
        ("phases.sft.optimizer", 1, "names a group"),
        ("phases.sft", 1, "names a whole row"),
        ("gates.mid_4.minimum", 0.1, "rows are called 'mid_4'"),
        ("phases", 1, "names a group"),
        ("phases.sft.optimizer.lr.x", 1, "goes below a plain value"),
        ("notes", "a, b", r'is a list, such as \["a", "b"\], got a, b, which is no JSON'),
        ("phases.sft", "{", "names a whole row; .*got {, which is no JSON"),
        ("phases.sft", {"stepz": 9}, "'phases.sft.stepz': unknown name 'stepz'; did you mean 'steps'"),
        ("phases.mid_5", None, "unknown name 'mid_5'; did you mean"),
        ("phases.sft.mixture.+", "prose", "adds a row; give an object of its fields .source, weight"),
        ("phases.sft.mixture.+", {"source": "prose"}, "there is a row 'prose' already; give another name"),
        ("phases.+", [{"like": "sft", "name": "a"}, {"like": "sft", "name": "a"}], "there is a row 'a' already"),
        ("phases.+", {"like": "stf", "name": "a"}, "unknown name 'stf'; did you mean 'sft'"),
        ("phases.+", {"name": "a", "parnt": "sft"}, "unknown name 'parnt'; did you mean 'parent'"),
        ("phases.+", {"name": "a", "parent": "sft"}, 'a PhaseConfig needs kind, sequence_length, .*{"like": ROW}'),
        ("gates.+", {"phase": "sft", "score": "x", "minimum": "high"}, "'gates.[+].minimum' = 'high' is str, expected"),
        ("phases.sft.schedule", {"shape": "cosin"}, "did you mean 'cosine'"),
    ],
)
def test_wrong_overrides_are_refused(path, value, message):
    with pytest.raises(OverrideError, match=message):
        load_recipe("laptop", {path: value})


JOB = {"name": "t", "kind": "tools", "count": 20}


def test_a_group_that_a_recipe_need_not_have_is_given_whole_changed_and_taken_out():
    plain = load_recipe("smoke")
    given = {"corpus.sources.+": {"name": "synth/t", "job": JOB}, "corpus.sources.synth/t.job.endpoint.model": "m"}
    changed = load_recipe("smoke", given)
    (_, added) = changed.corpus.synthesised
    assert (added.name, added.job.kind.value, added.job.count, added.job.endpoint.model) == (
        "synth/t",
        "tools",
        20,
        "m",
    )
    assert apply_overrides(changed, {"corpus.sources.synth/t.job": None}).corpus.sources[-1] == SourceConfig("synth/t")
    with pytest.raises(OverrideError, match=r"no group whose 'count' could be set; give a whole one, .*name, kind"):
        apply_overrides(plain, {"corpus.sources.prose.job.count": 3})
    with pytest.raises(OverrideError, match="a SynthesisConfig needs kind, count as well"):
        apply_overrides(plain, {"corpus.sources.prose.job": {"name": "t"}})
