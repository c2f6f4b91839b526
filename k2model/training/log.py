"""What a training leaves beside its checkpoints: the record of the run, a row per step, and what was undone.

Rank 0 keeps both files. `training.json` is written at the start of every attempt, after a rollback too,
so that whoever watches a training needs neither its recipe nor its machine. `metrics.jsonl` survives a
kill and never repeats a step: on a local store it is the one that is watched, else a file on this machine that goes to
the store with each checkpoint. While a training goes on they lie in `progress/`; the attempt that finishes it leaves
its own in the artifact's attachments.
"""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from k2model.artifacts import ArtifactRef, CorruptArtifact, FileEntry, Store, read_json
from k2model.artifacts.files import Files, LocalFiles, writing
from k2model.artifacts.outside import read_typed, remedy
from k2model.plain import NotPlain, from_plain
from k2model.recipe.schema import ModelConfig, PhaseConfig

if TYPE_CHECKING:
    from k2model.training.layout import Layout

METRICS, TRAINING, STATE = "attachments/metrics.jsonl", "attachments/training.json", "final/state.json"
PROGRESS = "progress"  # the folder of the first two while a training goes on
METRICS_SO_FAR, TRAINING_SO_FAR = f"{PROGRESS}/metrics.jsonl", f"{PROGRESS}/training.json"


@dataclass(frozen=True)
class Intervention:
    """A rollback, as lineage and model card carry it. Steps count from 0.

    `first_step`..`last_step` are left out of the phase; `resumed_from` is the step training went back to.
    `before`: the median loss before the spike and its deviation; `losses`: of the spike's steps, in
    order; `after`: mean loss of the first steps taken behind the skipped ones, None until then.
    """

    reason: str
    first_step: int
    last_step: int
    resumed_from: int
    before: float | None
    deviation: float | None
    losses: list[float | None] = field(default_factory=list)  # None: not a number
    after: float | None = None

    def record(self) -> dict[str, Any]:
        """As JSON takes it; `Intervention(**record)` reads it again."""
        return asdict(self)

    def skips(self, step: int) -> bool:
        """Whether `step` is left out of the phase."""
        return self.first_step <= step <= self.last_step

    @property
    def heights(self) -> str:
        """`loss 3.210 before, up to 9.400 in it, 3.190 after`, as far as there are numbers."""
        losses = [loss for loss in self.losses if loss is not None]
        parts = [
            f"{self.before:.3f} before" if self.before is not None else "",
            f"up to {max(losses):.3f} in it" if losses else "",
            f"{self.after:.3f} after" if self.after is not None else "",
        ]
        known = ", ".join(part for part in parts if part)
        return f"loss {known}" if known else "loss not a number"

    @property
    def sentence(self) -> str:
        """What was undone and why."""
        return (
            f"went back to step {self.resumed_from}: {self.reason} ({self.heights}). "
            f"Steps {self.first_step} to {self.last_step} are left out"
        )


class _State(TypedDict):
    interventions: list[Intervention]


def read_interventions(store: Store, checkpoint: ArtifactRef) -> list[Intervention]:
    """Those of a finished training. Raises the store's errors."""
    return read_json(_State, store, checkpoint, STATE)["interventions"]


@dataclass(frozen=True)
class TrainingRun:
    """The record of an attempt at a phase.

    `workers` = `tensor` x `context` x `data`; `peak`: FLOP/s in matrix products of all workers together, as measured;
    `started`: of this attempt, seconds since the epoch; `interventions`: records of `Intervention`.
    """

    phase: str
    kind: str
    steps: int
    tokens_per_step: int
    save_every: int
    parameters: int
    workers: int
    tensor: int
    context: int
    data: int
    zero_stage: int
    precision: str
    device: str
    peak: float
    started: float
    interventions: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(
        cls, model: ModelConfig, phase: PhaseConfig, layout: "Layout", peak: float,
        interventions: Sequence[Intervention],
    ) -> "TrainingRun":  # fmt: skip
        """Of an attempt that starts at this moment on this worker's device."""
        import torch

        from k2model.model import count_parameters

        return cls(
            phase=phase.name,
            kind=phase.kind.value,
            steps=phase.steps,
            tokens_per_step=phase.tokens_per_step,
            save_every=phase.checkpoints.save_every,
            parameters=count_parameters(model),
            workers=layout.world.size,
            tensor=layout.tensor.size,
            context=layout.context.size,
            data=layout.data.size,
            zero_stage=phase.parallelism.zero_stage,
            precision=phase.precision.value,
            device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            peak=peak,
            started=time.time(),
            interventions=[intervention.record() for intervention in interventions],
        )


def read_run(files: Files) -> TrainingRun | None:
    """Of the artifact that `files` is at; None where an attempt has not come that far. Raises CorruptArtifact for what
    is no such record."""
    advice = "Delete it: the next attempt writes it anew, and of a finished training only its table is not shown"
    content: dict[str, Any] | None = None
    for path in (TRAINING, TRAINING_SO_FAR):
        with contextlib.suppress(FileNotFoundError):
            content = read_typed(dict[str, Any], files, path, "the record of a training", advice)
            break
    if content is None:
        return None
    try:
        known = {entry.name for entry in fields(TrainingRun)}
        run = from_plain(TrainingRun, {name: value for name, value in content.items() if name in known})
        for record in run.interventions:
            from_plain(Intervention, record, where="interventions")
        return run
    except NotPlain as error:
        raise CorruptArtifact(f"{files.uri}/{path} is not the record of a training ({error}). {advice}") from error


@dataclass(frozen=True)
class StepMetrics:
    """`step` from 0; `tokens` seen in this phase after the step, padding included; `targets`: tokens the
    step's loss counts; `loss` in nats per target; `lr` used; `grad_norm` before clipping; `seconds` of the step;
    `mfu`: model-FLOPs utilisation, a fraction of the measured peak; `domains`: loss by domain, of those that had
    targets; `parameter_norm`, `update_ratio` (update norm / parameter norm): None where not measured; `timestamp`: when
    the step's loss was known, seconds since the epoch, None in logs that do not tell."""

    step: int
    tokens: int
    loss: float
    lr: float
    grad_norm: float
    targets: int
    tokens_per_second: float
    seconds: float
    mfu: float = 0.0
    domains: dict[str, float] = field(default_factory=dict)
    parameter_norm: float | None = None
    update_ratio: float | None = None
    timestamp: float | None = None


def parse_row(line: str) -> StepMetrics:
    """One line of a log. Raises NotPlain when it is cut or of another format."""
    try:
        return from_plain(StepMetrics, json.loads(line))  # a loss may be NaN
    except (ValueError, RecursionError) as error:
        raise NotPlain(f"it is no JSON: {error}") from None


def rows_until_cut(lines: Iterable[str]) -> list[StepMetrics]:
    """The rows of a log that is being written; a line cut by a kill ends them."""
    rows = []
    for line in lines:
        try:
            rows.append(parse_row(line))
        except NotPlain:
            break
    return rows


def read_log(store: Store, checkpoint: ArtifactRef) -> list[StepMetrics]:
    """The log of a finished training. Raises the store's errors."""
    rows = []
    for number, line in enumerate(store.read(checkpoint, METRICS).decode("utf-8", "replace").splitlines(), start=1):
        try:
            rows.append(parse_row(line))
        except NotPlain as error:
            raise CorruptArtifact(
                f"{checkpoint.uri}/{METRICS}: line {number} is none of a training's ({error}). {remedy(checkpoint.uri)}"
            ) from error
    return rows


def with_timestamps(rows: Iterable[StepMetrics], started: float) -> Iterator[StepMetrics]:
    """`rows` with a time for each that has none: `started`, in seconds since the epoch, and how long all since then
    took."""
    elapsed = 0.0
    for row in rows:
        elapsed += row.seconds
        yield row if row.timestamp is not None else replace(row, timestamp=started + elapsed)


class MetricsLog:
    """Append-only rows of one artifact; of earlier attempts those of steps below `start` are kept.

    The record of the `run` goes to the store at once. Raises StoreWriteError when it does not take it.
    """

    def __init__(self, files: Files, start: int, run: TrainingRun) -> None:
        self._files = files
        self._run = (json.dumps(asdict(run), indent=1) + "\n").encode()
        self._local = isinstance(files, LocalFiles)
        root = Path(files.uri) if self._local else Path(tempfile.mkdtemp(prefix="k2-metrics-"))
        self.path = root / METRICS_SO_FAR
        self.rows: list[StepMetrics] = []
        with contextlib.suppress(FileNotFoundError):
            earlier = rows_until_cut(files.read(METRICS_SO_FAR).decode().splitlines())
            self.rows += [row for row in earlier if row.step < start]
        with writing(files.uri, METRICS_SO_FAR):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_name(f".partial-metrics.jsonl-{os.getpid()}")
            partial.write_text("".join(_line(row) for row in self.rows))
            os.replace(partial, self.path)
            self._file = self.path.open("a", buffering=1)  # a line at a time: a kill loses at most one

        files.write(TRAINING_SO_FAR, self._run)

    def add(self, row: StepMetrics) -> None:
        """Raises StoreWriteError when the disk is full or gone."""
        with writing(self._files.uri, METRICS_SO_FAR):
            self._file.write(_line(row))
        self.rows.append(row)

    def publish(self) -> None:
        """Bring a remote store's copy up to date; a local one always is."""
        if not self._local:
            self._files.write(METRICS_SO_FAR, self.path.read_bytes())

    def close(self, owner: str) -> list[FileEntry]:
        """Put both files into the place of the attempt `owner`, and describe them for the artifact's manifest."""
        self._file.close()
        rows = "".join(_line(row) for row in self.rows).encode()
        found = []
        for path, data in ((METRICS, rows), (TRAINING, self._run)):
            found.append(replace(FileEntry.of(path, data), place=owner))
            self._files.write(found[-1].stored, data)
        return found


def _line(row: StepMetrics) -> str:
    return json.dumps(asdict(row)) + "\n"
