"""Phases as the pipeline leaves them in a store, and one SQLite MLflow for all tests of the folder."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import ArtifactRef, Identity, Store
from k2model.recipe.laptop import laptop
from k2model.recipe.schema import GateConfig, PhaseConfig
from k2model.registry import Registration, register_phase
from k2model.training.log import Intervention

RECIPE = laptop()
STEPS = 30


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tests share it, since making a database takes seconds; each uses a recipe name of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/made/on/demand/mlflow.db"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@dataclass(frozen=True)
class Phase:
    """A phase with the references its registration needs."""

    config: PhaseConfig
    references: dict[str, ArtifactRef]
    log: list[dict[str, Any]]

    def register(
        self,
        tracking_uri: str,
        store: Store,
        recipe_name: str,
        gates: tuple[GateConfig, ...] = (),
        parent: Registration | None = None,
    ) -> Registration:
        return register_phase(
            tracking_uri, store, recipe_name, RECIPE.model, self.config, gates, parent=parent, **self.references
        )


def make_phase(
    store: Store,
    name: str,
    scores: dict[str, float],
    steps: int = STEPS,
    seed: int = 0,
    interventions: Sequence[Intervention] = (),
) -> Phase:
    config = replace(RECIPE.phase(name), steps=steps, seed=seed)
    log = [
        {
            "step": step, "tokens": (step + 1) * config.tokens_per_step, "loss": 7.0 / (step + 1 + seed),
            "lr": 4e-3 * (1 - step / steps), "grad_norm": 0.1 + step, "targets": 2000,
            "tokens_per_second": 1000.0 + step, "seconds": 0.25, "mfu": 0.4 + step / 1e4,
            "domains": {"code": 2.0 + step, "long_context": 3.0 + step} if step else {"code": 2.0},
            "parameter_norm": 50.0 + step if step % 10 == 9 else None,
            "update_ratio": 1e-3 * (step + 1) if step % 10 == 9 else None,
        }
        for step in range(steps)
    ]  # fmt: skip
    rows = [
        {"phase": name, "score": score, "value": value, "n": 160, "low": 0.0, "high": 1.0, "unit": "accuracy"}
        for score, value in scores.items()
    ]
    lines = "".join(json.dumps(row) + "\n" for row in log)
    state = json.dumps({"phase": name, "seed": seed, "interventions": [one.record() for one in interventions]})
    contents = {
        "corpus": ("corpus_valid", {"train/prose/00000.parquet": "prose"}),
        "sequences": ("sequences", {"sequences.json": name}),
        "checkpoint": ("checkpoint", {"final/state.json": state, "attachments/metrics.jsonl": lines}),
        "export": ("export", {"model.safetensors": f"{name} {seed}"}),
        "scores": ("scores", {"scores.json": json.dumps(rows)}),
    }
    references = {
        part: store.build(Identity(kind, "1", {"phase": config, "files": files}), _writer(files))
        for part, (kind, files) in contents.items()
    }
    return Phase(config, references, log)


def _writer(files: dict[str, str]) -> Callable[[Path], dict[str, float]]:
    def write(folder: Path) -> dict[str, float]:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        return {}

    return write
