"""A month of the smallest line, killed at random: its ledger, champion, inbox and artifacts are an undisturbed one's.

The whole month of the laptop's line, killed fifteen times, is run by hand (`python -m tests.continual.killed`).
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from k2model.continual.month.home import linked
from k2model.continual.month.recipe import LINES
from tests.continual.killed import killed
from tests.smoke import ROOT, command, environment

DAYS, KILLS = 2, 4  # a batch arrives on the second day, and a turn is trained on it


@pytest.fixture(scope="module")
def lifecycle(finished: tuple[Path, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the smoke lifecycle without gates: of all that it makes only its registration is missing."""
    home = tmp_path_factory.mktemp("line")
    linked(finished[0] / "store", home / "store")
    shutil.rmtree(home / "store" / "_gates")
    own = environment(home) | {"K2_RECIPE": LINES["tiny"]}
    own.pop("MLFLOW_TRACKING_URI")
    made = subprocess.run(command(), cwd=ROOT, env=own, capture_output=True, text=True, check=False, timeout=600)
    assert made.returncode == 0, made.stderr[-3000:]
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
