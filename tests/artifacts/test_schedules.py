"""A few schedules of makers that are stopped, woken and killed; `python -m tests.artifacts.schedules` plays many."""

import shutil
from pathlib import Path

import pytest

from k2model.artifacts import publish
from tests.artifacts.schedules import Schedule, play, run, undisturbed

SEED = 17
SUBJECTS = ("build", "parts", "gather", "make")


def test_whoever_is_stopped_and_wakes_changes_nothing_that_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path / "home"))
    assert [one for one in run(SEED, range(12), SUBJECTS, "", tmp_path).values() if one[1]] == []


def test_nor_on_an_object_store(s3_uri: str, tmp_path: Path) -> None:
    found = run(SEED, range(1, 9, 2), SUBJECTS, s3_uri, tmp_path)
    assert all(schedule.remote for schedule, _ in found.values())
    assert [one for one in found.values() if one[1]] == []


def overwrites() -> None:
    """From here on this process removes what is in its way, as makers did before."""

    def overwriting(folder: Path, target: Path) -> bool:
        try:
            folder.rename(target)
        except OSError:
            shutil.rmtree(target)
            folder.rename(target)
        return True

    publish._renamed = overwriting


def test_a_maker_that_overwrites_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path / "home"))
    late = Schedule("late", "build", False, (("stop@rename", 0.0),), False, "after")
    calm = undisturbed("build", str(tmp_path / "calm"), tmp_path / "told")
    assert play(late, str(tmp_path / "store"), tmp_path / "good", *calm) == ""
    bad = play(late, str(tmp_path / "other"), tmp_path / "bad", *calm, overwrites)
    assert "what was finished has changed" in bad
