"""The first task: overrides that act pass, those that cannot are refused."""

import pytest

from tasks.run import FixedAtRegistration, resolve


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    for name in ("K2_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def test_the_plan_holds_the_overridden_rows(tmp_path):
    plan = resolve(overrides={"phases.sft.steps": 99})
    assert plan.recipe.phase("sft").steps == 99
    assert plan.store == str(tmp_path / "store")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"phases.sft.parallelism.workers_per_node": 4}, r"phases.sft.parallelism.workers_per_node .* to 4: .* .2."),
        ({"evaluation.workers": 4}, r"evaluation.workers cannot be overridden to 4"),
        ({"cluster.part.cpus": 8}, r"cluster.part.cpus cannot be overridden to 8"),
        ({"cluster.training_queue": "own"}, r"cluster.training_queue cannot be overridden to own"),
        (
            {"phases.sft.parent": "mid_3", "continual.base": ""},
            r"phases.sft.parent cannot be overridden to mid_3: .* .mid_4.\.",
        ),
        (
            {"phases.+": {"like": "sft", "name": "b"}},
            r"phases cannot be overridden to pretrain, .*, sft, b: .*, sft.\.",
        ),
        (
            {"phases.sft": None, "gates.sft": None, "safety.kinds": [], "continual.tuned": ""},
            r"phases cannot be overridden to pretrain, .*, mid_4: .*, sft.\.",
        ),
        (
            {"corpus.sources.synth/safety": None, "phases.sft.mixture.synth/safety": None},
            r"corpus.synthesised cannot be overridden to none: .*synth/safety \(procedural\).",
        ),
    ],
)
def test_what_was_fixed_at_registration_cannot_be_overridden(overrides, message):
    with pytest.raises(FixedAtRegistration, match=f"{message}.*Change it in the recipe, or in K2_OVERRIDES"):
        resolve(overrides=overrides)
