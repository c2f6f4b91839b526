"""What an attempt at a phase says of itself as it starts: how much there is to do, on what, and what was undone.

Rank 0 writes it beside the training log (`attachments/training.json`) at the start of every attempt, after a
rollback too, so that whoever watches a training needs neither its recipe nor its machine. What changes from
step to step is in the log.

The training log: one JSON line per step, in a file that survives a kill and never repeats a step.

Rank 0 keeps it, with the facts of its attempt beside it. On a local store it is the artifact's own
`attachments/metrics.jsonl`, else a file on this machine that goes to the store with each checkpoint.
Plots and trackers read it elsewhere.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2model.artifacts import FileEntry, describe_file
from k2model.artifacts.files import Files, LocalFiles, writing
from k2model.recipe.schema import ModelConfig, PhaseConfig

if TYPE_CHECKING:
    from k2model.training.layout import Layout

TRAINING = "attachments/training.json"


@dataclass(frozen=True)
class TrainingFacts:
    """`workers` = `tensor` x `context` x `data`; `peak`: matrix-product FLOP/s of all workers together, as
    measured;
    `started`: of this attempt, seconds since the epoch; `interventions`: records of `spikes.Intervention`."""

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
        interventions: Sequence[dict[str, Any]],
    ) -> "TrainingFacts":  # fmt: skip
        """Of an attempt that starts at this moment on this worker's device."""
        import torch

        from k2model.model import count_parameters

        return cls(
            phase=phase.name,
            kind=phase.kind.value,
            steps=phase.steps,
            tokens_per_step=phase.tokens_per_step,
            save_every=phase.cadence.save_every,
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
            interventions=[*interventions],
        )

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), indent=1) + "\n").encode()


def read_facts(files: Files) -> TrainingFacts | None:
    """Of the artifact that `files` is at; None where an attempt has not come that far or wrote another format."""
    try:
        content = json.loads(files.read(TRAINING))
        known = {entry.name for entry in fields(TrainingFacts)}
        return TrainingFacts(**{name: value for name, value in content.items() if name in known})
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return None


METRICS = "attachments/metrics.jsonl"


@dataclass(frozen=True)
class StepMetrics:
    """`step` from 0; `tokens` seen in this phase after the step, padding included; `targets`: tokens the
    step's loss counts; `loss` in nats per target; `lr` used; `grad_norm` before clipping; `seconds` of the step;
    `mfu`: model-FLOPs utilisation, a fraction of the measured peak; `domains`: loss by domain, of those that had
    targets; `parameter_norm`, `update_ratio` (update norm / parameter norm): None where not measured."""

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


def parse_row(line: str) -> StepMetrics:
    """One line of a log. Raises ValueError or TypeError when it is cut or of another format."""
    return StepMetrics(**json.loads(line))


def rows_until_cut(lines: Iterable[str]) -> list[StepMetrics]:
    """The rows of a log that is being written; a line cut by a kill ends them."""
    rows = []
    for line in lines:
        try:
            rows.append(parse_row(line))
        except (ValueError, TypeError):
            break
    return rows


class MetricsLog:
    """Append-only rows of one artifact, kept up to `start` completed steps of earlier attempts.

    `facts` of this attempt go to the store at once.
    """

    def __init__(self, files: Files, start: int, facts: TrainingFacts) -> None:
        self._files = files
        self._facts = facts.to_json()
        self._local = isinstance(files, LocalFiles)
        root = Path(files.uri) if self._local else Path(tempfile.mkdtemp(prefix="k2-metrics-"))
        self.root, self.path = root, root / METRICS
        self.rows = [row for row in self._earlier() if row.step < start]
        with writing(files.uri, METRICS):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_name(".partial-metrics.jsonl")
            partial.write_text("".join(_line(row) for row in self.rows))
            os.replace(partial, self.path)
            self._file = self.path.open("a", buffering=1)  # a line at a time: a kill loses at most one

        files.write(TRAINING, self._facts)

    def _earlier(self) -> list[StepMetrics]:
        try:
            return rows_until_cut(self._files.read(METRICS).decode().splitlines())
        except FileNotFoundError:
            return []

    def add(self, row: StepMetrics) -> None:
        """Raises StoreWriteError when the disk is full or gone."""
        with writing(self._files.uri, METRICS):
            self._file.write(_line(row))
        self.rows.append(row)

    def publish(self) -> None:
        """Bring a remote store's copy up to date; a local one always is."""
        if not self._local:
            self._files.write(METRICS, self.path.read_bytes())

    def close(self) -> list[FileEntry]:
        """Publish, and describe both files for the artifact's manifest."""
        self._file.close()
        self.publish()
        facts = FileEntry(TRAINING, len(self._facts), hashlib.sha256(self._facts).hexdigest())
        return [describe_file(self.root, METRICS), facts]


def _line(row: StepMetrics) -> str:
    return json.dumps(asdict(row)) + "\n"
