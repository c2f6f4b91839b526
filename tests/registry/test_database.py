"""A local MLflow's file is made all or nothing, whoever makes it, and one that is not complete is told apart."""

import logging
import os
import shutil
import signal
import sqlite3
import threading
import time
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import pytest

from k2model.artifacts import Store
from k2model.registry import RegistryError, database
from k2model.registry.tracking import tracking
from tests.registry.conftest import Phase, make_phase

# Not forked from here: threads of MLflow's may hold a lock just then, which nobody in the child would release.
CONTEXT = get_context("forkserver")


def register(phase: Phase, uri: str, store: Store, start: object = None, said: Path | None = None) -> None:
    """In a process of its own."""
    try:
        if start is not None:
            start.wait()  # type: ignore[attr-defined]
        phase.register(uri, store, "fresh")
        os._exit(0)
    except BaseException as error:
        if said:
            said.write_text(repr(error))
        os._exit(1)


def half_made_table(connection: sqlite3.Connection) -> None:
    """What is left when two processes fill a fresh file at once, or one is killed in a migration."""
    connection.execute("CREATE TABLE _alembic_tmp_tags (key VARCHAR(250))")


def no_revision(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM alembic_version")


def other_revision(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE alembic_version SET version_num = '97727af70f4d'")


def one_run(connection: sqlite3.Connection) -> None:
    other_revision(connection)
    connection.execute("INSERT INTO runs (run_uuid) VALUES ('1')")


@pytest.fixture
def spoil(tracking_uri: str, tmp_path: Path):
    """Copies of a complete database, each damaged in one way."""
    with tracking(tracking_uri):
        complete = database.database_file(tracking_uri)

    def copy_of(change, when: float) -> Path:
        file = tmp_path / "mlflow.db"
        with closing(sqlite3.connect(complete)) as source, closing(sqlite3.connect(file)) as target:
            source.backup(target)
            target.execute("DELETE FROM runs")
            change(target)
            target.commit()
        os.utime(file, (when, when))
        return file

    return copy_of


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (half_made_table, "half-made table _alembic_tmp_tags"),
        (no_revision, "its schema is none"),
        (other_revision, "its schema is 97727af70f4d"),
        (one_run, "To keep its 1 runs"),
    ],
)
def test_a_file_that_is_not_complete_is_told_with_what_to_do(spoil, change, words: str) -> None:
    file = spoil(change, 1.0)
    before = file.read_bytes()
    with pytest.raises(RegistryError) as told, tracking(f"sqlite:///{file}"):
        pass
    assert words in str(told.value) and f"mv {file} {file}.old" in str(told.value) and "run again" in str(told.value)
    assert ("mlflow db upgrade" in str(told.value)) == (change is one_run)
    assert file.read_bytes() == before, "it is left as it was"


def test_a_file_that_another_program_is_at_work_on_is_waited_for(spoil, tracking_uri: str) -> None:
    file = spoil(half_made_table, time.time())

    def finish() -> None:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("DROP TABLE _alembic_tmp_tags")

    threading.Timer(0.5, finish).start()
    with tracking(f"sqlite:///{file}") as client:
        assert client.search_experiments()


def test_made_by_one_when_killed_before_and_asked_for_by_two(spoil, store: Store, tmp_path: Path) -> None:
    phase = make_phase(store, "pretrain", {})
    file = spoil(half_made_table, 1.0)
    uri = f"sqlite:///{file}"
    with pytest.raises(RegistryError, match="Move it away"):
        phase.register(uri, store, "fresh")
    shutil.move(file, f"{file}.old")
    Path(f"{file}-journal").write_bytes(b"of the file that was moved away")

    killed = CONTEXT.Process(target=register, args=(phase, uri, store), daemon=True)
    killed.start()
    partial = tmp_path / ".mlflow.db.partial"
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size > 100_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(killed.pid or 0, signal.SIGKILL)
    killed.join()
    assert partial.exists() and not file.exists(), "it was killed in the midst of the migrations"

    start, said = CONTEXT.Barrier(2), [tmp_path / "first", tmp_path / "second"]
    two = [CONTEXT.Process(target=register, args=(phase, uri, store, start, place), daemon=True) for place in said]
    for process in two:
        process.start()
    for process in two:
        process.join(120)
    assert [process.exitcode for process in two] == [0, 0], [place.read_text() for place in said if place.exists()]
    assert sorted(path.name for path in tmp_path.glob("*mlflow.db*")) == ["mlflow.db", "mlflow.db.old"]
    with tracking(uri) as client:
        assert [run.info.status for run in client.search_runs(["1"])] == ["FINISHED"], "registered once"
        assert [version.version for version in client.search_model_versions("name = 'k2-fresh'")] == [1]


def test_what_a_killed_process_left_beside_a_complete_file_is_removed(spoil, tmp_path: Path) -> None:
    file = spoil(lambda connection: None, 1.0)
    for left in (".mlflow.db.partial", ".mlflow.db.partial-journal", ".mlflow.db.lock"):
        (tmp_path / left).touch()
    with tracking(f"sqlite:///{file}") as client:
        assert client.search_experiments()
    assert [path.name for path in tmp_path.glob("*mlflow.db*")] == ["mlflow.db"]


def test_a_file_that_came_meanwhile_is_not_written_over(tmp_path: Path, monkeypatch, caplog) -> None:
    file = tmp_path / "mlflow.db"

    def fill(partial: Path) -> None:
        partial.write_text("ours")
        file.write_text("theirs")

    monkeypatch.setattr(database, "_fill", fill)
    with caplog.at_level(logging.INFO):
        database._make(file, tmp_path / ".mlflow.db.partial")
    assert file.read_text() == "theirs" and [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:////data/mlflow.db", "/data/mlflow.db"),
        ("sqlite+pysqlite:////data/mlflow.db?timeout=30", "/data/mlflow.db"),
        ("sqlite:///file:/data/x%20y.db?uri=true&mode=rw", "/data/x y.db"),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("https://host/mlflow.db", None),
        ("postgresql://host/db", None),
    ],
)
def test_the_file_behind_an_address(uri: str, file: str | None) -> None:
    assert database.database_file(uri) == (Path(file) if file else None)
    assert database.database_file("sqlite:///below/mlflow.db") == Path.cwd() / "below/mlflow.db"
