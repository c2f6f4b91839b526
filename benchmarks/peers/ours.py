"""k2model as it is: `checkpoint_step` on packed rows, from reading them to the row in the metrics log."""

import json
from pathlib import Path
from typing import Any

from benchmarks.peers.workload import MODEL, WORKERS, Clock, Measured, Trial, rows
from k2model.artifacts import make


def run(trial: Trial) -> Measured:
    from k2model.artifacts import Store
    from k2model.training import checkpoint_step
    from k2model.training.engine import Engine

    clock, step = Clock(), Engine.step

    def clocked(self: Engine, *arguments: Any, **named: Any) -> Any:
        outcome = step(self, *arguments, **named)
        clock.step_ended()
        return outcome

    setattr(Engine, "step", clocked)  # noqa: B010  a wrapper of looser type
    made = make(Store.open(trial.store), checkpoint_step(Store.open(trial.store), MODEL, trial.phase, rows(trial)))
    metrics = Path(made.uri, "attachments/metrics.jsonl").read_text().splitlines()
    timed = [json.loads(line) for line in metrics][trial.warmup :]
    return clock.measured(trial, sum(row["targets"] for row in timed) // WORKERS, timed[-1]["loss"])
