"""What being watched costs a training: shown to Prometheus, shipped to MLflow, and through an outage of MLflow.

    python -m benchmarks.monitoring [--steps 300] [--rounds 3]

One process trains a small model for real; every round takes the ways in another order, and what counts is the ratio
within a round: of median step times by the clock, and of processor time a step (all threads of the training's process),
which is much the same on a machine that others use as well. The peer logs to the same MLflow server from the loop, a
request a step, as callbacks usually do. The server runs on the same machine, so what it takes of two cores is in the
clock. In `outage` it is killed after a third of the steps and started again after two thirds; behind each training
MLflow is asked whether it has every step once. Then the calls of one step alone, in microseconds.
"""

import argparse
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median

from k2model.artifacts import ArtifactRef, Store, make
from k2model.monitoring import watch_training
from k2model.recipe.laptop import smoke
from k2model.registry.live import TRAINING, LiveRun, begin_run, log_steps, training_tag
from k2model.registry.tracking import tracking
from k2model.training import checkpoint_step
from k2model.training.log import StepMetrics, TrainingRun
from k2model.training.observer import Observer, Observers
from k2model.training.world import World
from tests.monitoring.mlflow_server import MlflowServer
from tests.training.job import MODEL, metrics, phase, sequences

WAYS = ("unwatched", "exporter", "MLflow", "outage", "in the loop")
PORT = 9464


class Busy(Observer):
    """Processor time of this process from the first tenth of the steps on."""

    def __init__(self, steps: int) -> None:
        self.steps, self.begin, self.seconds = steps, 0.0, 0.0

    def stepped(self, row: StepMetrics) -> None:
        if row.step == self.steps // 10:
            self.begin = time.process_time()
        self.seconds = (time.process_time() - self.begin) / max(row.step - self.steps // 10, 1)


class InTheLoop(Observer):
    """The peer."""

    def __init__(self, live: LiveRun) -> None:
        self.live = live

    def began(self, run: TrainingRun, start: int, log: Path | None) -> None:
        self.tracking = tracking(os.environ["MLFLOW_TRACKING_URI"])
        self.client = self.tracking.__enter__()
        found = begin_run(self.client, os.environ["MLFLOW_TRACKING_URI"], self.live)
        assert found is not None
        self.run_id = found.info.run_id

    def stepped(self, row: StepMetrics) -> None:
        log_steps(self.client, self.run_id, [row], 0)

    def close(self) -> None:
        self.tracking.__exit__(None, None, None)


class Outage(Observer):
    """Kills the server after a third of the steps, and has it started again after two thirds, beside the training."""

    def __init__(self, server: MlflowServer, steps: int) -> None:
        self.server, self.steps = server, steps
        self.starting = threading.Thread(target=server.start)

    def stepped(self, row: StepMetrics) -> None:
        if row.step == self.steps // 3:
            self.server.kill()
        if row.step == 2 * self.steps // 3:
            self.starting.start()

    def finished(self) -> None:
        self.starting.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as name:
        folder = Path(name)
        os.environ["K2_HOME"] = str(folder / "home")
        server = MlflowServer(folder)
        server.start()
        os.environ["MLFLOW_TRACKING_URI"] = server.uri
        try:
            _train(folder / "warm", "unwatched", server, 20)
            for number in range(options.rounds):
                turn = number % len(WAYS)
                for way in (*WAYS[turn:], *WAYS[:turn]):
                    seconds[way].append(_train(folder / f"{number}-{way}", way, server, options.steps))
                    clock, busy = (1e3 * one for one in seconds[way][-1])
                    print(f"round {number} {way:12} {clock:8.2f} ms a step, {busy:8.2f} ms of a processor", flush=True)
        finally:
            server.kill()
    _print(seconds)
    print(f"calls of one step: {_calls():.1f} us")


def _train(folder: Path, way: str, server: MlflowServer, steps: int) -> tuple[float, float]:
    """Median seconds of a step by the clock, and its seconds of a processor."""
    os.environ["K2_METRICS_PORT"] = str(PORT) if way in ("exporter", "MLflow", "outage") else ""
    os.environ["K2_LIVE_METRICS"] = "1" if way in ("MLflow", "outage") else "0"
    config = phase(
        name="pretrain", steps=steps, workers_per_node=1, precision="fp32", sequence_length=64, global_batch=4,
        checkpoints={"save_every": 0},
    )  # fmt: skip
    recipe = replace(smoke(), phases=(config,))
    store = Store.open(folder)

    busy = Busy(steps)

    def observe(place: ArtifactRef, world: World) -> Observer:
        watching = watch_training(recipe, config, place, world)  # nobody, where no setting asks for it
        more = {"in the loop": [InTheLoop(LiveRun.of(recipe, config, place))], "outage": [Outage(server, steps)]}
        return Observers([busy, watching, *more.get(way, [])])

    model = replace(MODEL, hidden_size=64, head_dim=32, ffn_size=256)
    made = make(store, checkpoint_step(store, model, config, sequences(store, config), None, observe))
    rows = metrics(made)
    if way in ("MLflow", "outage", "in the loop"):
        _check(server, recipe.name, made, rows)
    return median(row["seconds"] for row in rows[len(rows) // 10 :]), busy.seconds


def _check(server: MlflowServer, recipe: str, made: ArtifactRef, rows: list[dict]) -> None:
    """Raises AssertionError unless MLflow has each step once."""
    with tracking(server.uri) as client:
        experiment = client.get_experiment_by_name(f"k2/{recipe}")
        [run] = client.search_runs([experiment.experiment_id], f"tags.`{TRAINING}` = '{training_tag(made)}'")
        points = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "train/loss")]
    assert sorted(points) == [(row["step"], row["loss"]) for row in rows], f"{len(points)} points of {len(rows)}"


def _calls() -> float:
    """Microseconds of what a step tells an exporter that nobody asks meanwhile."""
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
    began = time.perf_counter()
    for _ in range(times):
        for one in tell:
            one()
    taken = time.perf_counter() - began
    watching.close()
    return 1e6 * taken / times


def _print(seconds: dict[str, list[tuple[float, float]]]) -> None:
    versions = {name: version(name) for name in ("mlflow", "prometheus-client", "torch")}
    versions["python"] = platform.python_version()
    for way in WAYS[1:]:
        for place, unit in enumerate(("s a step", "s of a processor a step")):
            ours, peer = ([one[place] for one in seconds[name]] for name in (way, "unwatched"))
            ratio = median(other / own for own, other in zip(ours, peer, strict=True))
            row = {"name": f"watched_{way.replace(' ', '_')}", "ours": median(ours), "peer": median(peer)}
            print(json.dumps({**row, "ratio": round(ratio, 3), "unit": unit, "versions": versions}))


if __name__ == "__main__":
    main()
