"""The training log: one JSON line per step, in a file that survives a kill and never repeats a step.

Rank 0 keeps it. On a local store it is the artifact's own `attachments/metrics.jsonl`, else a file on
this machine that goes to the store with each checkpoint. Plots and trackers read it elsewhere.
"""

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from k2model.artifacts import FileEntry, describe_file
from k2model.artifacts.files import Files, LocalFiles, writing

METRICS = "attachments/metrics.jsonl"


@dataclass(frozen=True)
class StepMetrics:
    """`step` from 0; `tokens` seen in this phase after the step, padding included; `targets`: tokens the
    step's loss counts; `loss` in nats per target; `lr` used; `grad_norm` before clipping; `seconds` of the step."""

    step: int
    tokens: int
    loss: float
    lr: float
    grad_norm: float
    targets: int
    tokens_per_second: float
    seconds: float


class MetricsLog:
    """Append-only rows of one artifact, kept up to `start` completed steps of earlier attempts."""

    def __init__(self, files: Files, start: int) -> None:
        self._files = files
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

    def _earlier(self) -> list[StepMetrics]:
        """Rows of earlier attempts; a line cut by a kill ends them."""
        try:
            lines = self._files.read(METRICS).decode().splitlines()
        except FileNotFoundError:
            return []
        rows = []
        for line in lines:
            try:
                rows.append(StepMetrics(**json.loads(line)))
            except (ValueError, TypeError):
                break
        return rows

    def add(self, row: StepMetrics) -> None:
        """Raises StoreWriteError when the disk is full or gone."""
        with writing(self._files.uri, METRICS):
            self._file.write(_line(row))
        self.rows.append(row)

    def publish(self) -> None:
        """Bring a remote store's copy up to date; a local one always is."""
        if not self._local:
            self._files.write(METRICS, self.path.read_bytes())

    def close(self) -> FileEntry:
        """Publish, and describe the file for the artifact's manifest."""
        self._file.close()
        self.publish()
        return describe_file(self.root, METRICS)


def _line(row: StepMetrics) -> str:
    return json.dumps(asdict(row)) + "\n"
