"""Lifecycles of one phase with tiny real models: one that knows its sums, one that was never trained, as a training and
an evaluation leave them in a store."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from k2model.artifacts import ArtifactRef, Identity, Store, make, record
from k2model.artifacts.files import LocalFiles
from k2model.continual.ledger import Ledger
from k2model.continual.state import Judged, Model
from k2model.documents.schema import make_item
from k2model.documents.tables import write_table
from k2model.evals.contamination import ITEMS_SEEN, SEEN, SEEN_SCHEMA
from k2model.evals.step import scores_step
from k2model.export.step import write_export
from k2model.promotion import decide
from k2model.promotion.gates import before_of, model_of
from k2model.recipe import Recipe
from k2model.recipe.promotion import PromotionConfig
from k2model.recipe.safety import SafetyConfig
from k2model.recipe.schema import GateConfig, PhaseConfig
from k2model.registry import Registration, register_phase
from k2model.training.checkpoint import ALL, MODEL, InMemory, Piece, Progress, ShardImage, publish, write_file
from tests.continual import small_line
from tests.continual.small_line import SUMS, Line

GATE = GateConfig("sft", "arithmetic/low", 0.5)
CLEAN = {"commit": "c" * 40, "dirty": False}


def recipe(**promotion: Any) -> Recipe:
    """Whose parity is not asked where it is not said."""
    asked = PromotionConfig(**{"parity": 0.0, **promotion})
    base = small_line.recipe()
    return replace(base, model=small_line.MODEL, gates=(GATE,), safety=SafetyConfig(), promotion=asked)


@dataclass(frozen=True)
class Trained:
    """A lifecycle's phase, by the references that its registration takes."""

    phase: PhaseConfig
    refs: dict[str, ArtifactRef]

    def registration(self, version: int) -> Registration:
        """As MLflow would give it, for what needs no more of it."""
        return Registration("key", "sft", "", "run", "model", "k2-line", version, ("candidate", "sft"), (), 1, True)


@dataclass(frozen=True)
class Home:
    line: Line

    @staticmethod
    def at(root: Path) -> "Home":
        return Home(Line.at(root))

    @property
    def store(self) -> Store:
        return self.line.store

    @property
    def ledger(self) -> Ledger:
        return Ledger.open(self.store, "line")

    def trained(
        self, seed: int, knows: bool, seen: Sequence[str] = (), git: dict[str, Any] | None = CLEAN,
        parent: "Trained | None" = None,
    ) -> Trained:  # fmt: skip
        """Made at the commit `git`. seen: items that it was trained on. parent: whose checkpoint it began from."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(record, "_code", lambda: {"git": git})
            return self._trained(seed, knows, seen, recipe(), parent)

    def _trained(
        self, seed: int, knows: bool, seen: Sequence[str], own: Recipe, parent: "Trained | None"
    ) -> Trained:  # fmt: skip
        phase, weights = replace(own.phase("sft"), seed=seed, steps=3), small_line.weights(knows)
        tokens, tokenizer = self.line.corpus.tokens, self.line.tokenizer

        def put(kind: str, inputs: dict[str, ArtifactRef], write: Any, **config: Any) -> ArtifactRef:
            def produce(folder: Path) -> dict[str, float]:
                write(folder)
                return {}

            return self.store.build(Identity(kind, "1", config or {"phase": phase, "seen": [*seen]}, inputs), produce)

        def checkpoint(folder: Path) -> None:
            tensors = weights.state_dict(prefix=MODEL)
            pieces = [Piece(name, tuple(t.shape), ALL, 0, t.reshape(-1)) for name, t in tensors.items()]
            image = ShardImage(pieces)
            image.fill(pieces)
            files = LocalFiles(folder)
            entry = write_file(files, "final/rank-00000-of-00001.safetensors", image.data)
            publish(files, "final", [entry], Progress("sft", 3, 3 + seed, 1, 1, "", ""))
            rows = [
                {
                    "step": step,
                    "tokens": 9 * (step + 1),
                    "loss": 2.0 + seed,
                    "lr": 1e-3,
                    "grad_norm": 1.0,
                    "targets": 9,
                    "tokens_per_second": 9.0,
                    "seconds": 1.0,
                    "domains": {},
                }
                for step in range(3)
            ]
            files.write("attachments/metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())

        def items_seen(folder: Path) -> None:
            items = [make_item("arithmetic", asked, asked, answer) for asked, answer in SUMS]
            steps = pa.array([0 if one["prompt"] in seen else None for one in items], pa.int64())
            columns = [pa.array(["arithmetic"] * len(items)), pa.array([one["id"] for one in items]), steps]
            write_table(folder / SEEN, pa.table(columns, names=SEEN_SCHEMA.names).cast(SEEN_SCHEMA))

        refs = {"corpus": self.line.corpus.valid}
        began = {"parent": parent.refs["checkpoint"]} if parent else {}
        refs["sequences"] = put("sequences", {"tokens": tokens}, lambda to: (to / "rows.txt").write_text("rows"))
        refs["checkpoint"] = put("checkpoint", {"sequences": refs["sequences"], **began}, checkpoint)
        put(ITEMS_SEEN, {"checkpoint": refs["checkpoint"]}, items_seen)
        state = InMemory(weights.state_dict())
        refs["export"] = put(  # one for all that know the same, so that each is asked once
            "export", {"tokenizer": tokenizer},
            lambda to: write_export(to, state, small_line.MODEL, phase, self.store.fetch(tokenizer)), knows=knows,
        )  # fmt: skip
        refs["scores"] = make(self.store, scores_step(
            self.store, own.evaluation, phase, refs["corpus"], tokens, tokenizer, refs["export"], lengths=own.lengths
        ))  # fmt: skip
        return Trained(phase, refs)

    def lifecycle(self, uri: str, own: Recipe, trained: Trained) -> Registration:
        """Registers a model and holds it to its gates, as the task of a lifecycle does."""
        own = replace(own, phases=(trained.phase,))
        made = register_phase(
            uri, self.store, own.name, own.model, trained.phase, own.gates, parent=None, **trained.refs
        )
        return decide.judge_phase(uri, self.store, own, made, None, **trained.refs)

    def model(self, trained: Trained, version: int) -> Model:
        return model_of(self.store, trained.registration(version), safety=None, **trained.refs)

    def judged(self, own: Recipe, trained: Trained, version: int) -> Judged:
        """What the ledger says of a model when its lifecycle has ended, without MLflow."""
        own = replace(own, phases=(trained.phase,))
        model, before = self.model(trained, version), before_of(trained.phase, None, False)
        state = decide.enter(self.store, own, trained.phase, model, before, self.ledger)
        return state.judged[trained.refs["checkpoint"].digest]
