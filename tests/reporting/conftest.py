"""One finished lifecycle and its report for all tests of the package."""

import json
from pathlib import Path

import pytest

from k2model.artifacts import Identity, Store, make
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
def gates(store: Store) -> dict[str, Identity]:
    """The gate on the rows of `sft`, which warned that chats have less than the share wanted."""
    warned = {
        "suite": "composition", "expectation": "share_as_wanted", "shard": "all", "type": "expect", "column": "share",
        "severity": "warn", "success": False, "observed": 1, "total": 3, "parts": 1, "parts_failed": 1,
        "samples": ["source='chat', share=0.02, share_wanted=0.1"], "remedy": "change its <weight>",
    }  # fmt: skip
    met = warned | {"expectation": "epochs_within_limit", "success": True, "observed": 0, "samples": []}

    def produce(folder: Path) -> dict[str, float]:
        (folder / "validation.json").write_text(json.dumps({"expectations": [warned, met]}))
        return {}

    identity = Identity("sequences_checks", "1", {"phase": "sft"}, {})
    store.build(identity, produce)
    return {"sft/sequences_checks": identity}


@pytest.fixture(scope="session")
def report(store: Store, result: LifecycleResult, gates: dict[str, Identity]) -> Path:
    return store.fetch(make(store, report_step(store, result, gates)))


@pytest.fixture(scope="session")
def page(report: Path) -> str:
    return (report / "attachments" / "index.html").read_text(encoding="utf-8")
