"""`k2 status` on trainings in every state, on this machine's disk and in a real object store."""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from k2model.artifacts import FileEntry, Identity, Manifest, MissingArtifact, Store
from k2model.artifacts.files import files_at
from k2model.artifacts.owner import owner_name
from k2model.cli.main import main
from k2model.inspect.artifact import open_existing
from k2model.inspect.trainings import list_trainings
from k2model.training.log import METRICS_SO_FAR, MetricsLog
from tests.servers import S3Server
from tests.training.test_metrics import RUN, UNDONE, row

STEPS = 300
RUN = replace(RUN, steps=STEPS)


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    if request.param == "local":
        yield Store.open(tmp_path / "store")
        return
    server: S3Server = request.getfixturevalue("s3_server")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield Store.open(f"s3://{server.bucket}/{tmp_path.name}-{time.time_ns()}")


def identity(phase: str) -> Identity:
    return Identity("checkpoint", "1", {"phase": phase})


def begin(store: Store, phase: str, done: int, **fields: object) -> MetricsLog:
    """A training whose log has rows of `done` steps, each 0.1 s at 40% MFU, and has reached the store."""
    changed = replace(RUN, phase=phase, started=time.time(), **fields)
    log = MetricsLog(files_at(store.location(identity(phase))), 0, changed)
    for step in range(done):
        log.add(row(step, loss=2.0 if step < done - 50 else 1.5, mfu=0.4))
    log.publish()
    return log


def checkpoint(store: Store, phase: str, step: int) -> None:
    files_at(store.location(identity(phase))).write(f"checkpoints/step-{step:07d}/manifest.json", b"{}")


def test_a_training_at_work(store: Store) -> None:
    with store.lease(identity("mid_1")):
        begin(store, "mid_1", 200, interventions=[replace(UNDONE, first_step=220, last_step=229).record()])
        checkpoint(store, "mid_1", 100)
        checkpoint(store, "mid_1", 200)
        [seen] = list_trainings(store)
    assert (seen.phase, seen.state, seen.step, seen.steps) == ("mid_1", "training", 200, STEPS)
    assert seen.loss == pytest.approx(1.5) and seen.mfu == pytest.approx(0.4)
    assert seen.tokens_per_second == pytest.approx(100.0)
    assert seen.seconds_left == pytest.approx((100 - 10) * 0.1), "left-out steps take no time"
    assert seen.checkpoint == 200 and seen.rollbacks == 1
    assert seen.quiet_seconds is not None and 0 <= seen.quiet_seconds < 60


def test_a_training_without_a_sign_of_life_is_stalled_and_one_without_an_owner_has_stopped(store: Store) -> None:
    with store.lease(identity("mid_1")):
        begin(store, "mid_1", 20)
        [waiting] = list_trainings(store, now=time.time() + 50)
        [stalled] = list_trainings(store, now=time.time() + 80)
    [stopped] = list_trainings(store)
    assert (waiting.state, stalled.state, stopped.state) == ("training", "stalled", "stopped")
    assert stalled.quiet_seconds == pytest.approx(80, abs=10)
    assert stopped.step == 20


def test_a_training_before_its_first_step_is_starting(store: Store) -> None:
    with store.lease(identity("mid_1")):
        begin(store, "mid_1", 0)
        [seen] = list_trainings(store)
    assert (seen.state, seen.step, seen.loss, seen.seconds_left) == ("starting", 0, None, None)


def test_a_cut_last_line_is_no_row(store: Store) -> None:
    begin(store, "mid_1", 12)
    files = files_at(store.location(identity("mid_1")))
    files.write(METRICS_SO_FAR, files.read(METRICS_SO_FAR)[:-20])
    [seen] = list_trainings(store)
    assert seen.step == 11


def test_phases_stand_in_the_order_they_were_begun_and_a_finished_one_shows_its_end(store: Store) -> None:
    log = begin(store, "pretrain", STEPS)
    files = files_at(store.location(identity("pretrain")))
    files.write("final/state.json", b"{}")
    entries = [*log.close(owner_name()), FileEntry("final/state.json", 2, hashlib.sha256(b"{}").hexdigest())]
    store.adopt(identity("pretrain"), Manifest(tuple(entries)), {})
    begin(store, "mid_1", 3)
    done, after = list_trainings(store)
    assert (done.phase, done.state, done.step) == ("pretrain", "done", STEPS)
    assert done.loss == pytest.approx(1.5) and done.seconds == pytest.approx(STEPS * 0.1)
    assert after.phase == "mid_1"

    result = CliRunner().invoke(main, ["status", "--store", store.uri, "--json"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.output)
    assert [(t["phase"], t["state"]) for t in shown["trainings"]] == [("pretrain", "done"), ("mid_1", "stopped")]
    assert shown["trainings"][1]["tokens_per_second"] == pytest.approx(100.0)
    assert [a["artifact"] for a in shown["artifacts"]] == [done.artifact]
    text = CliRunner().invoke(main, ["status", "--store", store.uri]).output
    assert "300/300" in text and "took 30 s" in text and "3/300" in text and "40%" in text


def test_numbers_come_from_the_end_of_a_log_of_any_length(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    log = begin(store, "mid_1", 0, steps=5000)
    for step in range(3000):
        log.add(row(step, loss=5.0 if step < 2950 else 2.0, domains={f"domain_{n}": 1.0 for n in range(9)}))
    [seen] = list_trainings(store)
    assert (seen.step, seen.loss) == (3000, pytest.approx(2.0))


def test_looking_makes_no_store(store: Store) -> None:
    with pytest.raises(MissingArtifact, match="no store at"):
        open_existing(f"{store.uri}-mistyped")
    assert not files_at(f"{store.uri}-mistyped").sizes()
