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
    ("field", "value"),
    [("phases.sft.parallelism.workers_per_node", 4), ("evaluation.workers", 4), ("cluster.gpus_per_node", 8)],
)
def test_what_was_fixed_at_registration_cannot_be_overridden(field, value):
    with pytest.raises(FixedAtRegistration, match="change it in the recipe"):
        resolve(overrides={field: value})
