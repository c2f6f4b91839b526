"""Backends on the same learnt weights, and the data of benchmarks: real items, or made-up ones for every task."""

from pathlib import Path

import pytest

from tests.evals.backends.conftest import folder, own, transformers_model

__all__ = ["folder", "own", "transformers_model"]

REAL = Path(__file__).parents[1] / "data"


@pytest.fixture(autouse=True)
def _no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine may have of the hub is not seen."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("K2_EVAL_DATA", str(REAL))
