"""A process that trains three phases of different kinds through the Flyte tasks of a lifecycle; see test_training."""

import json
import sys

from flytekit import workflow

from k2model.artifacts import ArtifactRef, Store
from k2model.planning import StoreRef
from k2model.recipe.schema import ModelConfig, PhaseConfig, PhaseKind
from tasks.training import mid_1, pretrain, sft
from tests.training.job import MODEL, phase, sequences, slowed

STEPS = 24
BASE = {"steps": STEPS, "precision": "bf16", "cadence": {"save_every": 7}}
PHASES = {
    "pretrain": {"name": "pretrain", "kind": PhaseKind.PRETRAIN, **BASE},
    "mid_1": {"name": "mid_1", "kind": PhaseKind.MIDTRAIN, "parent": "pretrain", "seed": 3,
              "sequence_length": 32, "global_batch": 2, "rope_theta": 3e4, **BASE},
    "sft": {"name": "sft", "kind": PhaseKind.SFT, "parent": "mid_1", "keep_optimizer_state": False, "seed": 4, **BASE},
}  # fmt: skip


@workflow
def three_phases(
    store: StoreRef,
    model: ModelConfig,
    phases: dict[str, PhaseConfig],
    rows: dict[str, ArtifactRef],
) -> tuple[ArtifactRef, ArtifactRef, ArtifactRef]:
    first = pretrain(store=store, model=model, phase=phases["pretrain"], sequences=rows["pretrain"])
    second = mid_1(store=store, model=model, phase=phases["mid_1"], sequences=rows["mid_1"], parent=first)
    third = sft(store=store, model=model, phase=phases["sft"], sequences=rows["sft"], parent=second)
    return first, second, third


if __name__ == "__main__":
    folder, pause = sys.argv[1:]
    store = Store.open(folder)
    phases = {name: phase(**changes) for name, changes in PHASES.items()}
    rows = {name: sequences(store, config) for name, config in phases.items()}
    with slowed(float(pause)):  # workers are forked and inherit it
        made = three_phases(store=StoreRef(store.uri, store.generation), model=MODEL, phases=phases, rows=rows)
    print(json.dumps({name: reference.digest for name, reference in zip(PHASES, made, strict=True)}))
