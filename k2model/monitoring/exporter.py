"""What a job shows Prometheus: how its training gets on, and how far each of its workers is.

One process a node serves, the one of local rank 0, from a thread of its own, so that a training that hangs still
answers and its age is seen. The workers of a node tell it where they are in a file each, 24 bytes in shared memory: no
lock, no message, no port of their own. Values of the whole job come from rank 0 alone; one that is not known yet is not
there, rather than 0. What is written at each step takes microseconds (`benchmarks/monitoring.py`).
"""

import math
import mmap
import os
import shutil
import stat
import struct
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from k2model.artifacts import ArtifactRef
from k2model.training.background import say
from k2model.training.log import StepMetrics, TrainingRun
from k2model.training.observer import Observer
from k2model.training.world import World

LABELS = ("recipe", "phase")
INFO = ("kind", "rank", "workers", "tensor", "context", "zero_stage", "precision", "device")
STEP_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 4, 6, 8, 10, 12, 15, 20, 30, 60, 120, 300)  # seconds
SAVE_BUCKETS = (1, 2, 5, 10, 20, 40, 60, 120, 300, 600, 1200, 3600)  # seconds

_RECORD = struct.Struct("<ddd")  # step, seconds since the epoch, seconds waited for batches


class Progress:
    """Where a worker is, for the process of its node that serves: a file that both map into memory."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.waited = 0.0
        descriptor = os.open(folder / f"rank-{rank:05d}", os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(descriptor, _RECORD.size)
        self._memory = mmap.mmap(descriptor, _RECORD.size)
        os.close(descriptor)

    def note(self, step: int, waited: float = 0.0) -> None:
        self.waited += waited
        _RECORD.pack_into(self._memory, 0, step, time.time(), self.waited)


def read_progress(folder: Path) -> Iterator[tuple[int, float, float, float]]:
    """Rank, step, seconds since the epoch and seconds waited, of every worker that has a file."""
    for file in sorted(folder.glob("rank-*")):
        content = file.read_bytes()
        if len(content) == _RECORD.size:
            yield int(file.name.removeprefix("rank-")), *_RECORD.unpack(content)


class _RankCollector(Collector):
    """The series of a node's workers, made from their files when they are asked for."""

    def __init__(self, folder: Path | None, labels: tuple[str, ...]) -> None:
        self.folder, self.labels = folder, labels

    def collect(self) -> Iterable[Metric]:
        names = [*LABELS, "rank"]
        step = GaugeMetricFamily("k2_rank_step", "The step that this worker has come to", labels=names)
        moment = GaugeMetricFamily(
            "k2_rank_progress_timestamp_seconds", "When this worker came to its step", labels=names
        )
        waited = CounterMetricFamily(
            "k2_rank_data_wait_seconds", "Time this worker has waited for its batches", labels=names
        )
        families: tuple[GaugeMetricFamily | CounterMetricFamily, ...] = (step, moment, waited)
        for rank, *values in read_progress(self.folder) if self.folder else ():
            for family, value in zip(families, values, strict=True):
                family.add_metric([*self.labels, str(rank)], value)
        return families


class _Metrics:
    """The series of the whole job; each has `LABELS`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, what: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(name, what, (*LABELS, *labels), registry=registry)

        def counter(name: str, what: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(name, what, (*LABELS, *labels), registry=registry)

        self.info = gauge("k2_training_info", "1 for each node at work; rank: its first worker's", INFO)
        self.steps = gauge("k2_training_steps", "Steps of the phase")
        self.rollbacks = gauge("k2_training_rollbacks", "Spikes of this phase that were undone")
        self.step = gauge("k2_training_step", "The last step that was finished, from 0")
        self.timestamp = gauge("k2_training_step_timestamp_seconds", "When the last step was finished")
        self.loss = gauge("k2_training_loss", "Loss of the last step, nats per target")
        self.norm = gauge("k2_training_gradient_norm", "Norm of the gradient before clipping")
        self.rate = gauge("k2_training_learning_rate", "Learning rate of the last step")
        self.speed = gauge("k2_training_tokens_per_second", "Tokens a second of the last step, all workers")
        self.mfu = gauge("k2_training_mfu_ratio", "Model-FLOPs utilisation of the last step, of the measured peak")
        self.tokens = counter("k2_training_tokens", "Tokens this process has trained on, steps taken back included")
        self.not_finite = counter("k2_training_not_finite_steps", "Steps whose loss or gradient norm was not a number")
        self.seconds = Histogram(
            "k2_training_step_seconds", "Time of a step", LABELS, buckets=STEP_BUCKETS, registry=registry
        )
        self.saves = counter("k2_checkpoint_saves", "Saves by how they came out", ("outcome",))
        self.save_seconds = Histogram(
            "k2_checkpoint_save_seconds", "Time from a save's begin until it was in the store", LABELS,
            buckets=SAVE_BUCKETS, registry=registry,
        )  # fmt: skip
        self.save_every = gauge("k2_checkpoint_save_every_steps", "Steps between two saves; 0: only at the end")
        self.saved_step = gauge("k2_checkpoint_last_step", "Steps behind the newest checkpoint, or the start")
        self.saved_at = gauge("k2_checkpoint_last_timestamp_seconds", "When this process saved last")
        self.failing = gauge("k2_checkpoint_save_failing", "1 while a write of the save in flight is tried again")


def metric_names() -> dict[str, str]:
    """The type of every series that is exported, by its name as PromQL has it."""
    registry = CollectorRegistry()
    _Metrics(registry)
    registry.register(_RankCollector(None, ("", "")))
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {f"{family.name}{ending}": family.type for family in registry.collect() for ending in endings[family.type]}


class Exporter(Observer):
    """Of one worker; it listens if it is the first of its node, and only until the training ends."""

    def __init__(self, recipe: str, checkpoint: ArtifactRef, world: World, port: int, address: str) -> None:
        self.recipe, self.world, self.port, self.address = recipe, world, port, address
        # The workers of a node have one parent, their agent.
        job = f"{checkpoint.uri} {checkpoint.identity} {os.getppid() if world.size > 1 else os.getpid()}"
        self.folder = Path(tempfile.gettempdir(), f"k2-ranks-{os.getuid()}-{sha256(job.encode()).hexdigest()[:16]}")
        self.labels: tuple[str, ...] = ()
        self._progress: Progress | None = None
        self._metrics: _Metrics | None = None
        self._series: dict[str, Any] = {}
        self._listening: threading.Thread | None = None
        self._failing = False
        self._tokens = 0  # a step

    def began(self, run: TrainingRun, start: int, log: Path | None) -> None:
        if self._progress is None:
            self._progress = Progress(_own_folder(self.folder), self.world.rank)
            self.labels = (self.recipe, run.phase)
            if self.world.local_rank == 0:
                self._serve()
        self._progress.note(start)
        self._tokens, self._failing = run.tokens_per_step, False
        if self._metrics is not None:
            layout = (run.workers, run.tensor, run.context, run.zero_stage, run.precision, run.device)
            self._metrics.info.labels(*self.labels, run.kind, str(self.world.rank), *map(str, layout)).set(1)
            if self.world.first:
                self._of("steps").set(run.steps)
                self._of("rollbacks").set(len(run.interventions))
                self._of("save_every").set(run.save_every)
                self._of("saved_step").set(start)
                self._of("failing").set(0)
                for outcome in ("published", "failed"):
                    self._metrics.saves.labels(*self.labels, outcome)
                self._of("not_finite")

    def reached(self, step: int, waited: float) -> None:
        if self._progress is not None:
            self._progress.note(step, waited)

    def stepped(self, row: StepMetrics) -> None:
        if self._metrics is None or not self.world.first:
            return
        self._of("step").set(row.step)
        self._of("timestamp").set(time.time())
        self._of("loss").set(row.loss)
        self._of("norm").set(row.grad_norm)
        self._of("rate").set(row.lr)
        self._of("speed").set(row.tokens_per_second)
        self._of("mfu").set(row.mfu)
        self._of("tokens").inc(self._tokens)
        self._of("seconds").observe(row.seconds)
        if not (math.isfinite(row.loss) and math.isfinite(row.grad_norm)):
            self._of("not_finite").inc()

    def save_going(self, failing: bool) -> None:
        if failing != self._failing and self._metrics is not None and self.world.first:
            self._of("failing").set(failing)
            self._failing = failing

    def save_ended(self, step: int, seconds: float, published: bool) -> None:
        if self._metrics is None or not self.world.first:
            return
        self._metrics.saves.labels(*self.labels, "published" if published else "failed").inc()
        if published:
            self._of("save_seconds").observe(seconds)
            self._of("saved_step").set(step)
            self._of("saved_at").set(time.time())

    def close(self) -> None:
        if self._listening is not None:
            self._server.shutdown()
            self._server.server_close()
            self._listening.join()
            self._listening = None
        if self.world.local_rank == 0:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _of(self, name: str) -> Any:
        """A series of this phase, which is there from here on; looked up once, which takes most of the time."""
        if name not in self._series:
            self._series[name] = getattr(self._metrics, name).labels(*self.labels)
        return self._series[name]

    def _serve(self) -> None:
        disable_created_metrics()  # a second series for each counter, which nobody asks for
        registry = CollectorRegistry()
        registry.register(_RankCollector(self.folder, self.labels))
        try:
            self._server, self._listening = start_http_server(self.port, self.address, registry)
        except OSError as error:
            say(
                f"this node's metrics are not served and training goes on: {self.address}:{self.port} cannot be "
                f"listened on ({error}). Free the port, or set K2_METRICS_PORT and K2_METRICS_ADDRESS to others"
            )
        else:
            self._metrics = _Metrics(registry)


def _own_folder(folder: Path) -> Path:
    """`folder`, made unless it is there; raises PermissionError when it is somebody else's."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"{folder} belongs to another user")
    return folder
