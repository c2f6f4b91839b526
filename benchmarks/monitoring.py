"""What being watched costs a training: shown to Prometheus, shipped to MLflow, and through an outage of MLflow.

    python -m benchmarks.monitoring [--steps 600]

One process trains a small model for real, and every ten steps it is watched in another way, so that what else the
machine does hits all ways alike; a way's time is the median of its steps, the first of each ten left out: by the clock,
and of a processor, which a busy machine leaves comparable. Where points are not to be shipped, the process that ships
them stands still (SIGSTOP). The peer logs to the same MLflow server from the loop, a request a step, as callbacks
usually do. The server is killed after half of the steps, and started again when the last one is taken: then MLflow is
asked whether it has every step once. It runs on the same machine, so what it takes of two cores is in the clock. At the
end the calls of one step alone, in microseconds of a processor.
"""

import argparse
import json
import os
import platform
import random
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from k2model.artifacts import ArtifactRef, Store, make
from k2model.monitoring import shipper, watch_training
from k2model.monitoring.exporter import Exporter
from k2model.monitoring.shipper import Shipper
from k2model.recipe.laptop import smoke
from k2model.registry.live import TRAINING, LiveRun, begin_run, log_steps, training_tag
from k2model.registry.tracking import tracking
from k2model.training import checkpoint_step
from k2model.training.log import StepMetrics, TrainingRun
from k2model.training.observer import Observer
from k2model.training.world import World
from tests.monitoring.mlflow_server import MlflowServer
from tests.training.job import MODEL, metrics, phase, sequences

BLOCK, PORT = 10, 9464
UP, DOWN = ("unwatched", "exporter", "MLflow", "in the loop"), ("unwatched", "outage")


class Turns(Observer):
    """Watches in one way for a block of steps, then in the next."""

    def __init__(self, server: MlflowServer, steps: int, live: LiveRun, exporter: Exporter) -> None:
        self.server, self.steps, self.exporter, self.shipper = server, steps, exporter, Shipper(live)
        self.way, self.ways = "unwatched", dict[int, str]()  # of each step that counts
        self.busy, self.before = dict[int, float](), 0.0  # processor seconds of each step, all threads
        self.random = random.Random(0)
        self.tracking = tracking(server.uri)
        self.client: Any = self.tracking.__enter__()
        peer = begin_run(self.client, server.uri, replace(live, training="in-the-loop"))
        assert peer is not None
        self.peer: str = peer.info.run_id

    def began(self, run: TrainingRun, start: int, log: Path | None) -> None:
        self.exporter.began(run, start, log)
        self.shipper.began(run, start, log)

    def reached(self, step: int, waited: float) -> None:
        if self.way == "exporter":
            self.exporter.reached(step, waited)

    def save_going(self, failing: bool) -> None:
        if self.way == "exporter":
            self.exporter.save_going(failing)

    def stepped(self, row: StepMetrics) -> None:
        now = time.process_time()
        self.busy[row.step], self.before = now - self.before, now
        if row.step % BLOCK:
            self.ways[row.step] = self.way
        if self.way == "exporter":
            self.exporter.stepped(row)
        if self.way == "in the loop":
            log_steps(self.client, self.peer, [row], 0)
        if row.step == self.steps // 2:
            self.server.kill()
        if row.step % BLOCK == BLOCK - 1:
            ways = UP if row.step + 1 < self.steps // 2 else DOWN
            self.way = self.random.choice(ways)  # whatever has a period of its own hits all alike
            self._signal(signal.SIGCONT if self.way in ("MLflow", "outage") else signal.SIGSTOP)

    def finished(self) -> None:
        self._signal(signal.SIGCONT)
        self.server.start()
        self.shipper.finished()

    def close(self) -> None:
        self.shipper.close()
        self.exporter.close()

    def _signal(self, number: signal.Signals) -> None:
        assert self.shipper._process is not None
        os.kill(self.shipper._process.pid, number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as name:
        os.environ["K2_HOME"] = f"{name}/home"
        server = MlflowServer(Path(name))
        server.start()
        os.environ |= {"MLFLOW_TRACKING_URI": server.uri}
        try:
            shipper.LAST_SECONDS = 120.0  # until all of it has arrived, to be looked at
            seconds = _train(Path(name, "store"), server, options.steps)
        finally:
            server.kill()
    _print(seconds)
    print(f"calls of one step: {_calls():.1f} us")


def _train(folder: Path, server: MlflowServer, steps: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of the steps of each way, by the clock and of a processor; `unwatched (down)`: while the server is."""
    config = phase(
        name="pretrain", steps=steps, workers_per_node=1, precision="fp32", sequence_length=64, global_batch=4,
        checkpoints={"save_every": 0},
    )  # fmt: skip
    recipe, store, turns = replace(smoke(), phases=(config,)), Store.open(folder), list[Turns]()

    def observe(place: ArtifactRef, world: World) -> Observer:
        exporter = Exporter(recipe.name, place, world, PORT, "127.0.0.1")
        turns.append(Turns(server, steps, LiveRun.of(recipe, config, place), exporter))
        return turns[0]

    model = replace(MODEL, hidden_size=64, head_dim=32, ffn_size=256)
    made = make(store, checkpoint_step(store, model, config, sequences(store, config), None, observe))
    rows = metrics(made)
    _check(server, recipe.name, made, rows)
    seconds: dict[str, list[tuple[float, float]]] = {}
    for row in rows[steps // 10 :]:
        if way := turns[0].ways.get(row["step"]):
            down = way == "unwatched" and row["step"] > steps // 2
            took = row["seconds"], turns[0].busy[row["step"]]
            seconds.setdefault("unwatched (down)" if down else way, []).append(took)
    return seconds


def _check(server: MlflowServer, recipe: str, made: ArtifactRef, rows: list[dict]) -> None:
    """Raises AssertionError unless MLflow has each step once."""
    with tracking(server.uri) as client:
        experiment = client.get_experiment_by_name(f"k2/{recipe}")
        [run] = client.search_runs([experiment.experiment_id], f"tags.`{TRAINING}` = '{training_tag(made)}'")
        points = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "train/loss")]
    assert sorted(points) == [(row["step"], row["loss"]) for row in rows], f"{len(points)} points of {len(rows)}"
    print(f"MLflow has each of {len(points)} steps once, after an outage of half of them")


def _calls() -> float:
    """Microseconds of a processor for what a step tells an exporter that nobody asks meanwhile."""
    recipe, times = smoke(), 20_000
    os.environ |= {"K2_METRICS_PORT": str(PORT), "K2_LIVE_METRICS": "0"}
    place = ArtifactRef("checkpoint", "/store/checkpoint/0", "", "0" * 64, {})
    watching = watch_training(recipe, recipe.phases[0], place, World())
    run = TrainingRun("pretrain", "pretrain", times, 10, 0, 1, 1, 1, 1, 1, 0, "fp32", "cpu", 1e9, 0.0)
    row = StepMetrics(0, 10, 1.0, 1e-3, 1.0, 10, 10.0, 1.0)
    watching.began(run, 0, None)
    tell: tuple[Callable[[], None], ...] = (
        partial(watching.reached, 1, 0.0), partial(watching.save_going, failing=False), partial(watching.stepped, row),
    )  # fmt: skip
    began = time.process_time()
    for _ in range(times):
        for one in tell:
            one()
    taken = time.process_time() - began
    watching.close()
    return 1e6 * taken / times


def _print(seconds: dict[str, list[tuple[float, float]]]) -> None:
    versions = {name: version(name) for name in ("mlflow", "prometheus-client", "torch")}
    versions["python"] = platform.python_version()
    for way in ("exporter", "MLflow", "in the loop", "outage"):
        unwatched = "unwatched (down)" if way == "outage" else "unwatched"
        for place, unit in enumerate(("s a step", "s of a processor a step")):
            ours, peer = (median(step[place] for step in seconds[name]) for name in (way, unwatched))
            row = {"name": f"watched_{way.replace(' ', '_')}", "ours": ours, "peer": peer}
            row |= {"ratio": round(ours / peer, 3), "unit": unit, "steps": len(seconds[way])}
            print(json.dumps({**row, "versions": versions}))


if __name__ == "__main__":
    main()
