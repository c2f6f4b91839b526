"""One finished lifecycle and its report for all tests of the package."""

from pathlib import Path

import pytest

from k2model.artifacts import Store, make
from k2model.artifacts.result import LifecycleResult
from k2model.reporting import report_step
from tests.reporting.lifecycle_fixture import build_lifecycle, hostile_samples


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def result(store: Store) -> LifecycleResult:
    return build_lifecycle(store, samples={"sft": hostile_samples()})


@pytest.fixture(scope="session")
def report(store: Store, result: LifecycleResult) -> Path:
    return store.fetch(make(store, report_step(store, result)))


@pytest.fixture(scope="session")
def page(report: Path) -> str:
    return (report / "attachments" / "index.html").read_text(encoding="utf-8")
