"""How far the trainings of a store have come, from what they leave in it: record, log, checkpoints, lease.

Nothing is asked of a running process, so a training is watched from any machine that can read the store, and
one that was killed is seen as it was left. On an object store the log comes with each checkpoint, so numbers
there are as old as the newest one.
"""

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from k2model.artifacts import ArtifactError, Store
from k2model.artifacts.files import Files, LocalFiles, RemoteFiles, files_at
from k2model.artifacts.manifest import MANIFEST, files_of, read_manifest
from k2model.training.log import (
    METRICS,
    METRICS_SO_FAR,
    TRAINING_SO_FAR,
    StepMetrics,
    TrainingRun,
    read_run,
    rows_until_cut,
)
from k2model.training.progress import WINDOW, mean_mfu, steps_ahead, tokens_per_second
from k2model.units import readable_seconds

TAIL = 2048 * WINDOW  # bytes of a log's end that hold more than WINDOW rows
QUIET_SECONDS, QUIET_STEPS = 60.0, 20  # without a step for longer than both, a training counts as stalled
COLUMNS = (
    "training", "state", "step", "loss", "tokens/s", "MFU", "left", "last step", "saved", "rollbacks",
)  # fmt: skip
_CHECKPOINT = re.compile(r"/checkpoints/step-(\d+)/" + MANIFEST)


@dataclass(frozen=True)
class Training:
    """One phase's training. `state`: `starting` (no step yet), `training`, `stalled` (at work, but no step for
    long), `stopped` (nobody is at work on it) or `done`.

    `step`: of `steps`, those left out by interventions included. Means are over the last steps: `loss` in nats
    per target, `mfu` a fraction. `quiet_seconds`: since the store last heard of a step. `seconds`: of all steps,
    once done. `checkpoint`: steps the newest one has behind it. None: not known.
    """

    artifact: str
    phase: str
    state: str
    step: int
    steps: int | None
    loss: float | None = None
    tokens_per_second: float | None = None
    mfu: float | None = None
    seconds_left: float | None = None
    quiet_seconds: float | None = None
    seconds: float | None = None
    checkpoint: int | None = None
    rollbacks: int = 0
    interventions: Sequence[dict[str, Any]] = ()

    def row(self) -> tuple[str, ...]:
        """Cells for COLUMNS."""

        def shown(value: float | None, text: Callable[[float], str]) -> str:
            return text(value) if value is not None else ""

        return (
            self.phase or self.artifact,
            self.state,
            shown(self.steps, lambda steps: f"{self.step:,}/{steps:,}"),
            shown(self.loss, "{:.3f}".format),
            shown(self.tokens_per_second, "{:,.0f}".format),
            shown(self.mfu, "{:.0%}".format),
            shown(self.seconds, lambda taken: f"took {readable_seconds(taken)}")
            or shown(self.seconds_left, readable_seconds),
            shown(self.quiet_seconds, lambda quiet: f"{readable_seconds(quiet)} ago"),
            shown(self.checkpoint, "{:,}".format),
            str(self.rollbacks),
        )

    def numbers(self) -> dict[str, Any]:
        """All fields, as JSON takes them."""
        return asdict(self)


def list_trainings(store: Store, now: float | None = None) -> list[Training]:
    """Every training ever begun that is still in the store, oldest first. `now`: seconds since the epoch."""
    sizes = files_at(store.uri).sizes("checkpoint")
    names = sorted({"/".join(path.split("/")[:2]) for path in sizes})
    begun = [(name, _files(f"{store.uri}/{name}", f"{name}/{MANIFEST}" in sizes)) for name in names]
    # The record is rewritten by each attempt, but attempts at a later phase begin later.
    runs = [(name, files, read_run(files)) for name, files in begun]
    runs.sort(key=lambda entry: entry[2].started if entry[2] is not None else 0.0)
    moment = time.time() if now is None else now
    return [_look_at(store, name, files, run, sizes, moment) for name, files, run in runs]


def _files(uri: str, done: bool) -> Files:
    """Of a training; on an object store those of a finished one lie where its manifest says."""
    files = files_at(uri)
    if done and isinstance(files, RemoteFiles):
        with contextlib.suppress(ArtifactError):
            return files_of(uri, read_manifest(uri))
    return files


def _look_at(
    store: Store, name: str, files: Files, run: TrainingRun | None, sizes: dict[str, int], now: float
) -> Training:
    alive = store.is_being_made(name)  # asked first: whoever has finished since then has left a manifest
    done = files.exists(MANIFEST)
    files = _files(files.uri, done)
    saved = [int(found[1]) for path in sizes if path.startswith(name) and (found := _CHECKPOINT.search(path))]
    if run is None:
        state = "done" if done else "starting" if alive else "stopped"
        return Training(name, "", state, max(saved, default=0), None, checkpoint=max(saved, default=None))
    rows = _all_rows(files) if done else _last_rows(files, sizes.get(f"{name}/{METRICS_SO_FAR}", 0))
    recent = rows[-WINDOW:]
    common: dict[str, Any] = {
        "artifact": name,
        "phase": run.phase,
        "steps": run.steps,
        "rollbacks": len(run.interventions),
        "interventions": run.interventions,
    }
    if recent:
        common["loss"] = recent[-1].loss
        common["tokens_per_second"] = tokens_per_second(run, recent)
        common["mfu"] = mean_mfu(recent)
    if done:
        return Training(state="done", step=run.steps, seconds=sum(row.seconds for row in rows), **common)
    at = recent[-1].step + 1 if recent else 0
    ahead = steps_ahead(run, at)
    a_step = sum(row.seconds for row in recent) / len(recent) if recent else None
    there = [path for path in (TRAINING_SO_FAR, METRICS_SO_FAR) if f"{name}/{path}" in sizes]
    quiet = max(now - max(map(files.modified, there), default=run.started), 0.0)
    return Training(
        state=_state(alive, run, quiet, a_step, isinstance(files, LocalFiles)),
        step=at,
        seconds_left=ahead * a_step if a_step is not None else None,
        quiet_seconds=quiet,
        checkpoint=max(saved, default=None),
        **common,
    )


def _state(alive: bool, run: TrainingRun, quiet: float, a_step: float | None, local: bool) -> str:
    if not alive:
        return "stopped"
    # An object store hears of steps as often as something is saved.
    steps = QUIET_STEPS if local else max(QUIET_STEPS, 2 * run.save_every)
    if quiet > max(QUIET_SECONDS, steps * (a_step or 0.0)):
        return "stalled"
    return "training" if a_step is not None else "starting"


def _all_rows(files: Files) -> list[StepMetrics]:
    """Of a finished training."""
    try:
        return rows_until_cut(files.read(METRICS).decode(errors="replace").splitlines())
    except FileNotFoundError:
        return []


def _last_rows(files: Files, size: int) -> list[StepMetrics]:
    """Of a log of `size` bytes that is being written."""
    if not size:
        return []
    with files.open(METRICS_SO_FAR) as file:
        begins = max(size - TAIL, 0)
        file.seek(begins)
        lines = file.read().decode(errors="replace").splitlines()
    return rows_until_cut(lines[1:] if begins else lines)
