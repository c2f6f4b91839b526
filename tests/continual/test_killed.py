"""A month of the smallest line, killed at random: its ledger, champion, inbox and artifacts are an undisturbed one's.

The whole month of the laptop's line, killed fifteen times, is run by hand (`python -m tests.continual.killed`).
"""

import os
import shutil
from pathlib import Path

import pytest

from k2model.artifacts import Store
from k2model.continual.month.home import completed, linked
from k2model.continual.month.recipe import LINES
from k2model.recipe import load_recipe
from k2model.registry.register import register_phase
from tests.continual.killed import killed
from tests.smoke import ROOT

DAYS, KILLS = 2, 4  # a batch arrives on the second day, and a turn is trained on it


@pytest.fixture(scope="module")
def lifecycle(finished: tuple[Path, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the smoke lifecycle that all tests share, with its model registered by a gate that any passes."""
    home = tmp_path_factory.mktemp("line")
    linked(finished[0] / "store", home / "store")
    shutil.rmtree(home / "store" / "_gates")
    store, recipe = Store.open(home / "store"), load_recipe(LINES["tiny"])
    made = completed(store, recipe)
    registered = None
    for phase in recipe.phases:
        own = {name.partition("/")[2]: ref for name, ref in made.items() if name.startswith(f"{phase.name}/")}
        registered = register_phase(
            f"sqlite:///{home / 'mlflow.db'}", store, recipe.name, recipe.model, phase, recipe.gates,
            **{name: own[name] for name in ("sequences", "checkpoint", "export", "scores")},
            corpus=made["corpus_valid"], safety=own.get("safety"), parent=registered,
        )  # fmt: skip
    assert registered is not None and registered.promotion == "champion"
    return home


def test_a_killed_month_ends_as_an_undisturbed_one(
    lifecycle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PATH", os.environ["PATH"])
    calm, hit, count = killed(lifecycle, tmp_path, "tiny", DAYS, KILLS)
    assert count >= 1, "it was killed"
    assert calm.entries, "something was entered"
    assert hit.entries == calm.entries
    assert hit.inbox == calm.inbox
    assert hit.champion == calm.champion
    assert hit.artifacts == calm.artifacts
