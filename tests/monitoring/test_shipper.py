"""Points of real trainings in a real MLflow server: once each, whatever ends in between."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from k2model.artifacts import ArtifactRef, Store
from k2model.monitoring import shipper, watch_training
from k2model.monitoring.shipper import Shipper
from k2model.recipe.laptop import laptop
from k2model.registry.live import LiveRun, begin_run, tokens_before
from k2model.registry.tracking import tracking
from k2model.training.log import StepMetrics
from k2model.training.world import World
from tests.monitoring.mlflow_server import MlflowServer
from tests.registry.conftest import make_phase
from tests.training.test_metrics import RUN, row

RECIPE = laptop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, mlflow_server: MlflowServer, tmp_path: Path) -> None:
    """The server is the run's; an answer that does not come is not waited for as long as in earnest."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(shipper, "LAST_SECONDS", 60.0)  # a process loads MLflow first, which may take long here


@pytest.fixture
def client(mlflow_server: MlflowServer) -> Iterator:
    with tracking(mlflow_server.uri) as opened:
        yield opened


def live(experiment: str, tokens: int = 0) -> LiveRun:
    return LiveRun(f"k2/{experiment}", "mid_1", f"training-{experiment}", {"k2.recipe": "test"}, {"steps": "9"}, tokens)


class Log:
    """The log of a training as rank 0 writes it, one line at a time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.jsonl"
        self.path.write_text("")

    def add(self, *rows: StepMetrics) -> None:
        with self.path.open("a") as file:
            file.writelines(json.dumps(vars(one)) + "\n" for one in rows)


def runs_of(client, experiment: str) -> list:
    found = client.get_experiment_by_name(f"k2/{experiment}")
    return client.search_runs([found.experiment_id]) if found else []


def points(client, experiment: str, name: str = "train/loss") -> list[tuple[int, float]]:
    """Step and value of all, in the order of steps."""
    [run] = runs_of(client, experiment) or [None]
    history = client.get_metric_history(run.info.run_id, name) if run else []
    return sorted(((one.step, one.value) for one in history), key=lambda one: one[0])


def wait_for(what: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)


def steps(*numbers: int, loss: float = 1.0) -> list[StepMetrics]:
    return [row(step, loss=loss + step, timestamp=1e9 + step) for step in numbers]


def test_points_come_while_the_training_goes_on_and_an_outage_costs_none(
    client, mlflow_server: MlflowServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log, ship = Log(tmp_path), Shipper(live("outage", tokens=1000))
    log.add(*steps(0, 1, 2))
    ship.began(RUN, 0, log.path)
    wait_for(lambda: len(points(client, "outage")) == 3)
    [run] = runs_of(client, "outage")
    assert (run.info.status, run.info.run_name, run.data.params) == ("RUNNING", "mid_1", {"steps": "9"})
    assert points(client, "outage", "train/tokens_seen") == [(0, 1010.0), (1, 1020.0), (2, 1030.0)]
    times = [one.timestamp for one in client.get_metric_history(run.info.run_id, "train/loss")]
    assert sorted(times) == [10**12, 10**12 + 1000, 10**12 + 2000], "those at which the steps were taken"

    mlflow_server.kill()
    try:
        log.add(*steps(3, 4))
        wait_for(lambda: "training goes on" in capfd.readouterr().err)
    finally:
        mlflow_server.start()
    log.add(*steps(5))
    ship.finished()
    ship.close()
    assert points(client, "outage") == [(step, 1.0 + step) for step in range(6)]
    assert [one.info.status for one in runs_of(client, "outage")] == ["RUNNING"], "it is finished when it is registered"


def test_a_server_that_is_down_at_the_end_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    log, ship = Log(tmp_path), Shipper(live("late"))
    log.add(*steps(0))
    ship.began(RUN, 0, log.path)
    child = psutil.Process(ship._process.pid)
    ship.finished()
    ship.close()
    assert not child.is_running()
    assert "logged when it is registered" in capfd.readouterr().err


def test_steps_taken_again_are_logged_once_and_what_was_left_out_stays(client, tmp_path: Path) -> None:
    """A spike at 5 and 6 with a NaN, back to step 3, on from 7: as a rollback rewrites the log; then a killed job."""
    log, ship = Log(tmp_path), Shipper(live("again"))
    ship.began(RUN, 0, log.path)
    log.add(*steps(0, 1, 2, 3, 4, 5), row(6, loss=math.nan, timestamp=1e9 + 6))
    wait_for(lambda: len(points(client, "again")) == 7)
    log.path.write_text("")
    log.add(*steps(0, 1, 2))
    ship.began(RUN, 3, log.path)
    log.add(*steps(3, 4, 7, 8, loss=100.0))
    wait_for(lambda: points(client, "again")[-1][0] == 8)
    ship.close()  # without an end of the training: it was killed
    [run] = runs_of(client, "again")
    assert run.info.status == "KILLED"

    log.path.write_text("")
    log.add(*steps(0, 1, 2, 3))
    again = Shipper(live("again"))
    again.began(RUN, 4, log.path)
    log.add(*steps(4, 7, 8, 9, loss=200.0))
    again.finished()
    again.close()
    found = points(client, "again")
    assert [step for step, _ in found] == list(range(10)), "each once"
    assert [value for step, value in found if step != 6] == [*(1.0 + s for s in range(6)), 107.0, 108.0, 209.0]
    assert math.isnan(found[6][1])
    assert len(client.search_runs([run.info.experiment_id])) == 1


def test_the_registration_completes_the_run_that_was_filled(
    client, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    store = Store.open(tmp_path / "store")
    phase = make_phase(store, "mid_1", {"facts": 0.9}, steps=30)
    checkpoint = phase.references["checkpoint"]
    place = ArtifactRef("checkpoint", checkpoint.uri, "", checkpoint.identity, {})
    ship = Shipper(LiveRun.of(RECIPE, phase.config, place))
    log = Log(tmp_path)
    log.add(*[StepMetrics(**one, timestamp=1e9 + one["step"]) for one in phase.log[:20]])
    ship.began(RUN, 0, log.path)
    ship.finished()
    ship.close()
    before = points(client, RECIPE.name)
    assert [step for step, _ in before] == list(range(20))

    made = phase.register(mlflow_server.uri, store, RECIPE.name)
    [run] = runs_of(client, RECIPE.name)
    assert (run.info.run_id, run.info.status) == (made.run_id, "FINISHED")
    assert points(client, RECIPE.name) == [(one["step"], one["loss"]) for one in phase.log]
    norms = [(one["step"], one["parameter_norm"]) for one in phase.log if one["parameter_norm"] is not None]
    assert points(client, RECIPE.name, "train/parameter_norm") == norms
    assert points(client, RECIPE.name, "train/domain/code") == [(s["step"], s["domains"]["code"]) for s in phase.log]
    assert phase.register(mlflow_server.uri, store, RECIPE.name) == made
    assert len(points(client, RECIPE.name)) == 30

    again = begin_run(client, mlflow_server.uri, LiveRun.of(RECIPE, phase.config, place))
    assert again is None, "the store was lost and the phase is trained again: its run is complete"


def test_a_killed_rank_leaves_no_shipper(mlflow_server: MlflowServer, tmp_path: Path, client) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tests.monitoring.test_shipper import *;"
        "ship = Shipper(live('orphan')); log = Log(Path(sys.argv[1])); log.add(*steps(0, 1));"
        "ship.began(RUN, 0, log.path); print(ship._process.pid, flush=True); time.sleep(600)"
    )
    rank = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(rank.stdout.readline()))
    wait_for(lambda: len(points(client, "orphan")) == 2)
    os.kill(rank.pid, signal.SIGKILL)
    rank.wait()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert [run.info.status for run in runs_of(client, "orphan")] == ["KILLED"]


def test_tokens_count_from_the_first_phase() -> None:
    rows = {phase.name: phase for phase in RECIPE.phases}
    second = next(phase for phase in RECIPE.phases if phase.parent)
    assert tokens_before(RECIPE, RECIPE.phases[0]) == 0
    assert tokens_before(RECIPE, second) == rows[second.parent].tokens + tokens_before(RECIPE, rows[second.parent])


@pytest.mark.parametrize(
    ("uri", "wish", "ships"),
    [("http://127.0.0.1:1", "", True), ("http://127.0.0.1:1", "0", False), ("sqlite:///x.db", "1", False)],
)
def test_points_are_shipped_to_servers_alone(uri: str, wish: str, ships: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("K2_LIVE_METRICS", wish)
    place = ArtifactRef("checkpoint", "/store/checkpoint/0123", "", "0" * 64, {})
    kinds = [
        [type(one) for one in vars(watch_training(RECIPE, RECIPE.phases[0], place, World(rank, 2)))["_left"]]
        for rank in (0, 1)
    ]
    assert kinds == [[Shipper] if ships else [], []]
