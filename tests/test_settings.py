"""Defaults, and what the environment sets."""

from pathlib import Path

import pytest

from k2model import settings


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("K2_RECIPE", "K2_HOME", "K2_STORE", "MLFLOW_TRACKING_URI", "WORLD_SIZE", "K2_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_defaults(tmp_path: Path) -> None:
    assert settings.recipe_name() == "laptop"
    assert settings.home() == tmp_path / "outputs"
    assert settings.store_uri() == f"{tmp_path}/outputs/store"
    assert settings.tracking_uri() == f"sqlite:///{tmp_path}/outputs/mlflow.db"
    assert settings.world_size() == 1
    assert not settings.traceback_wanted()


def test_home_moves_what_is_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_HOME", "/data/k2")
    assert settings.store_uri() == "/data/k2/store"
    assert settings.tracking_uri() == "sqlite:////data/k2/mlflow.db"


def test_each_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_RECIPE", "smoke")
    monkeypatch.setenv("K2_STORE", "s3://bucket/store")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("K2_TRACEBACK", "1")
    assert settings.recipe_name() == "smoke"
    assert settings.store_uri() == "s3://bucket/store"
    assert settings.tracking_uri() == "http://127.0.0.1:5000"
    assert settings.world_size() == 4
    assert settings.traceback_wanted()
    monkeypatch.setenv("K2_TRACEBACK", "0")
    assert not settings.traceback_wanted()


def test_empty_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_RECIPE", "")
    assert settings.recipe_name() == "laptop"
