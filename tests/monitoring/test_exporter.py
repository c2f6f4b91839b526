"""What Prometheus gets of a real training, and of workers of which one stays behind."""

import math
import re
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from k2model.artifacts import ArtifactRef, Store, make
from k2model.errors import K2Error
from k2model.monitoring import metric_names, watch_training
from k2model.monitoring.exporter import Exporter
from k2model.recipe.laptop import smoke
from k2model.training import checkpoint_step
from k2model.training.log import StepMetrics
from k2model.training.observer import Observer, Observers
from k2model.training.world import World
from tests.training.job import MODEL, metrics, phase, poisoned, sequences
from tests.training.test_metrics import RUN, UNDONE, row

PLACE = ArtifactRef("checkpoint", "/store/checkpoint/0123456789abcdef", "", "0" * 64, {})
RECIPE = smoke()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    """A free one, which the settings name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    monkeypatch.setenv("K2_METRICS_PORT", str(number))
    monkeypatch.setenv("K2_LIVE_METRICS", "0")
    monkeypatch.setenv("K2_HOME", str(tmp_path / "home"))
    return number


def asked(port: int) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by name and by the labels' values, in the order of their names, but for recipe and phase."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(value for name, value in sample.labels.items() if name not in ("recipe", "phase"))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


class Asker(Observer):
    """Asks as Prometheus would, when the last step is taken."""

    def __init__(self, port: int) -> None:
        self.port, self.found = port, {}

    def finished(self) -> None:
        self.found = asked(self.port)


def train(folder: Path, observe: Callable[[ArtifactRef, World], Observer], **changes) -> ArtifactRef:
    store, config = Store.open(folder / "store"), phase(workers_per_node=1, precision="fp32", **changes)
    return make(store, checkpoint_step(store, MODEL, config, sequences(store, config), None, observe))


def test_a_training_shows_its_newest_step_and_its_saves(port: int, tmp_path: Path) -> None:
    asker = Asker(port)
    config = phase()
    began = time.time()
    made = train(
        tmp_path, lambda place, world: Observers([watch_training(RECIPE, config, place, world), asker]),
        checkpoints={"save_every": 4},
    )  # fmt: skip
    rows, found = metrics(made), asker.found
    last = rows[-1]
    values = {name: values[()] for name, values in found.items() if () in values}
    assert values["k2_training_step"] == 11 and values["k2_training_steps"] == 12
    for name, field in (
        ("loss", "loss"), ("gradient_norm", "grad_norm"), ("learning_rate", "lr"),
        ("tokens_per_second", "tokens_per_second"), ("mfu_ratio", "mfu"),
    ):  # fmt: skip
        assert values[f"k2_training_{name}"] == last[field]
    assert values["k2_training_tokens_total"] == last["tokens"]
    assert values["k2_training_step_seconds_count"] == 12
    assert values["k2_training_step_seconds_sum"] == pytest.approx(sum(one["seconds"] for one in rows))
    assert began < values["k2_training_step_timestamp_seconds"] <= time.time()
    assert values["k2_training_not_finite_steps_total"] == values["k2_training_rollbacks"] == 0
    assert found["k2_checkpoint_saves_total"] == {("published",): 3, ("failed",): 0}, "at 4, at 8, and the last"
    assert (values["k2_checkpoint_last_step"], values["k2_checkpoint_save_every_steps"]) == (12, 4)
    assert values["k2_checkpoint_save_seconds_count"] == 3 and values["k2_checkpoint_save_seconds_sum"] > 0
    assert found["k2_rank_step"] == {("0",): 12} and found["k2_rank_data_wait_seconds_total"][("0",)] > 0
    assert found["k2_training_info"] == {("1", "cpu", "pretrain", "fp32", "0", "1", "1", "0"): 1}
    assert found.keys() == metric_names().keys(), "nothing is exported under another name, and all of it"
    with pytest.raises(OSError):
        asked(port)


def test_a_loss_that_is_not_a_number_is_counted_over_the_rollback(port: int, tmp_path: Path) -> None:
    seen, asker = [], Asker(port)

    class Watching(Observer):
        def stepped(self, one: StepMetrics) -> None:
            if not math.isfinite(one.loss):
                seen.append(asked(port))

    with poisoned((6,)):
        train(
            tmp_path,
            lambda place, world: Observers([watch_training(RECIPE, phase(), place, world), Watching(), asker]),
            spikes={"max_rollbacks": 1, "margin": 1},
            checkpoints={"save_every": 4},
        )
    [spike] = seen
    assert math.isnan(spike["k2_training_loss"][()]) and spike["k2_training_rollbacks"][()] == 0
    assert spike["k2_training_not_finite_steps_total"][()] == 1
    after = asker.found
    assert after["k2_training_rollbacks"][()] == after["k2_training_not_finite_steps_total"][()] == 1
    assert after["k2_training_step"][()] == 11 and math.isfinite(after["k2_training_loss"][()])


@pytest.fixture
def node(port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Exporter]]:
    """Two workers of one node; the tests' process stands for both."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    workers = [Exporter("smoke", PLACE, World(8 + rank, 16, rank), port, "127.0.0.1") for rank in (0, 1)]
    for worker in workers:
        worker.began(replace(RUN, interventions=[UNDONE.record()]), 650, None)
    yield workers
    for worker in reversed(workers):
        worker.close()


def test_a_rank_that_stays_behind_is_seen_through_its_neighbour(node: list[Exporter], port: int) -> None:
    before = time.time()
    for worker in node:
        worker.reached(651, 0.25)
    node[0].reached(652, 0.5)
    found = asked(port)
    assert found["k2_rank_step"] == {("8",): 652, ("9",): 651}
    assert found["k2_rank_data_wait_seconds_total"] == {("8",): 0.75, ("9",): 0.25}
    assert all(before <= moment <= time.time() for moment in found["k2_rank_progress_timestamp_seconds"].values())
    assert [labels[4] for labels in found["k2_training_info"]] == ["8"]
    node[0].stepped(row(651))
    assert not any(name.startswith("k2_training_l") for name in asked(port)), "values of the job are rank 0's"


def test_files_of_ranks_are_nobody_elses_and_do_not_stay(node: list[Exporter]) -> None:
    folder = node[0].folder
    assert folder == node[1].folder and folder.stat().st_mode & 0o777 == 0o700
    for worker in reversed(node):
        worker.close()
    assert not folder.exists()


def test_a_value_that_is_not_known_yet_is_not_there(port: int) -> None:
    exporter = Exporter("smoke", PLACE, World(), port, "127.0.0.1")
    exporter.began(RUN, 0, None)
    try:
        found = asked(port)
        assert "k2_training_info" in found and "k2_training_loss" not in found and "k2_training_step" not in found
        exporter.save_going(failing=True)
        assert asked(port)["k2_checkpoint_save_failing"] == {(): 1}
        exporter.save_going(failing=False)
        exporter.save_ended(4, 2.5, published=False)
        found = asked(port)
        assert found["k2_checkpoint_save_failing"] == {(): 0}
        assert found["k2_checkpoint_saves_total"] == {("published",): 0, ("failed",): 1}
        assert "k2_checkpoint_last_timestamp_seconds" not in found
    finally:
        exporter.close()


def test_a_port_in_use_costs_the_metrics_and_not_the_training(
    port: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        made = train(tmp_path, partial(watch_training, RECIPE, phase()), steps=2)
    assert len(metrics(made)) == 2
    told = capfd.readouterr().err
    assert re.search(rf"not served and training goes on: 127\.0\.0\.1:{port} .*K2_METRICS_PORT", told)


def test_who_fails_at_watching_is_let_go_of(capfd: pytest.CaptureFixture[str]) -> None:
    class Broken(Observer):
        def stepped(self, one: StepMetrics) -> None:
            raise RuntimeError("no")

    heard = []

    class Sound(Observer):
        def stepped(self, one: StepMetrics) -> None:
            heard.append(one.step)

    both = Observers([Broken(), Sound()])
    for step in (0, 1):
        both.stepped(row(step))
    assert heard == [0, 1]
    assert capfd.readouterr().err == "k2: Broken watches this training no more: RuntimeError: no\n"


def test_without_a_port_nothing_listens_and_a_wrong_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("K2_METRICS_PORT", raising=False)
    monkeypatch.setenv("K2_LIVE_METRICS", "0")
    assert vars(watch_training(RECIPE, RECIPE.phases[0], PLACE, World())) == {"_left": []}
    for wrong in ("http", "70000", "0"):
        monkeypatch.setenv("K2_METRICS_PORT", wrong)
        with pytest.raises(K2Error, match=f"K2_METRICS_PORT='{wrong}' is no port"):
            watch_training(RECIPE, RECIPE.phases[0], PLACE, World())
