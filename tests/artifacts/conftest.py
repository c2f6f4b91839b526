"""A small artifact to make, and stores to make it in: a local folder and a real S3 service."""

from pathlib import Path

import pytest

from k2model.artifacts import Identity, Store


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path / "home"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture(params=["local", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store" if request.param == "local" else request.getfixturevalue("s3_uri"))


@pytest.fixture
def identity() -> Identity:
    return Identity("corpus", "1", {"seed": 0, "sources": ["prose", "code"]})
