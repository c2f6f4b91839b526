"""A process that trains three phases of different kinds through the Flyte tasks of a lifecycle; see test_training."""

import json
import sys
from dataclasses import replace
from typing import Any

from flytekit import workflow

from k2model.artifacts import ArtifactRef, Store
from k2model.lifecycle import LifecyclePlan
from k2model.recipe.laptop import smoke
from k2model.recipe.schema import PhaseKind
from tasks.training import TRAIN_TASKS
from tests.training.job import MODEL, phase, sequences, slowed

STEPS = 24
BASE = {"steps": STEPS, "precision": "bf16", "checkpoints": {"save_every": 7}}
PHASES = {
    "pretrain": {"name": "pretrain", "kind": PhaseKind.PRETRAIN, **BASE},
    "mid_1": {"name": "mid_1", "kind": PhaseKind.MIDTRAIN, "parent": "pretrain", "seed": 3,
              "sequence_length": 32, "global_batch": 2, "rope_theta": 3e4, **BASE},
    "sft": {"name": "sft", "kind": PhaseKind.SFT, "parent": "mid_1", "keep_optimizer_state": False, "seed": 4, **BASE},
}  # fmt: skip


@workflow
def three_phases(plan: LifecyclePlan, rows: dict[str, ArtifactRef]) -> tuple[ArtifactRef, ArtifactRef, ArtifactRef]:
    def train(name: str, **inputs: Any) -> Any:
        return TRAIN_TASKS[name](step="checkpoint", phase=name, plan=plan, inputs={"sequences": rows[name], **inputs})

    first = train("pretrain")
    second = train("mid_1", **{"parent.checkpoint": first})
    third = train("sft", **{"parent.checkpoint": second})
    return first, second, third


def train(store: Store) -> dict[str, str]:
    """Digests of the phases' checkpoints."""
    phases = {name: phase(**changes) for name, changes in PHASES.items()}
    rows = {name: sequences(store, config) for name, config in phases.items()}
    recipe = replace(smoke(), model=MODEL, phases=tuple(phases.values()))
    made = three_phases(plan=LifecyclePlan(recipe, store.uri), rows=rows)
    return {name: reference.digest for name, reference in zip(PHASES, made, strict=True)}


if __name__ == "__main__":
    folder, pause = sys.argv[1:]
    with slowed(float(pause)):  # workers are forked and inherit it
        digests = train(Store.open(folder))
    print(json.dumps(digests))
