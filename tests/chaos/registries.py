"""Registrations into an MLflow that is killed, comes back, is damaged or cannot be reached: what is left in the end is
one run and one version a phase, aliases right, as the subject itself checks.
"""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.chaos.bench import Bench, Expected, Fault, Seen, Unexpected
from tests.chaos.disks import read_only, small

QUICK = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}  # a server that is down is not waited for as long as in earnest
UNREACHED = ("did not take the registration",)
CANARY = "canary-9c1d"


def database(bench: Bench) -> Path:
    """A copy of an MLflow's file without anything in it; to make one takes many seconds."""

    def make(place: Path) -> Path:
        first = register(bench, str(place / "store"), f"sqlite:///{place}/full.db")
        if first.status != 0:
            raise Unexpected(f"nothing can be registered even undisturbed: {first.said}")
        (place / "digests.json").write_text(json.dumps(first.digests))
        with contextlib.closing(sqlite3.connect(place / "full.db")) as full:
            for (name,) in full.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                if name == "experiments":  # the one that MLflow begins with stays
                    full.execute("DELETE FROM experiments WHERE experiment_id != 0")
                elif name not in ("alembic_version", "workspaces") and not name.startswith("sqlite_"):
                    full.execute(f'DELETE FROM "{name}"')
            full.commit()
        return place

    return Path(bench.services.once("database", make))


def registered(bench: Bench) -> dict[str, str]:
    """Digests of the artifacts that a registration prints."""
    digests: dict[str, str] = json.loads((database(bench) / "digests.json").read_text())
    return digests


def register(bench: Bench, store: str, uri: str, **more: Any) -> Any:
    return bench.run("subject", "register", "--store", store, "--uri", uri, **more)


def own(bench: Bench) -> tuple[str, Path]:
    """An empty store and a file of one's own."""
    file = bench.folder / "mlflow" / "mlflow.db"
    file.parent.mkdir()
    shutil.copy(database(bench) / "full.db", file)
    return bench.empty(), file


def killed(times: int, bench: Bench) -> Seen:
    store, file = own(bench)
    digests = registered(bench)
    for _ in range(times):
        command = bench.start("subject", "register", "--store", store, "--uri", f"sqlite:///{file}")
        time.sleep(bench.draw.uniform(0.5, 4.0))
        command.kill()
    return Seen([], register(bench, store, f"sqlite:///{file}"), digests)


def twice(bench: Bench) -> Seen:
    store, file = own(bench)
    digests = registered(bench)
    arguments = ("subject", "register", "--store", store, "--uri", f"sqlite:///{file}")
    both = [bench.start(*arguments) for _ in range(2)]
    return Seen([one.wait() for one in both], register(bench, store, f"sqlite:///{file}"), digests)


def damaged(change: Callable[[Path], None], words: tuple[str, ...], bench: Bench) -> Seen:
    """The file is no database that can be used; a person moves it away and runs again."""
    store, file = own(bench)
    digests = registered(bench)
    change(file)
    met = register(bench, store, f"sqlite:///{file}")
    shutil.copy(database(bench) / "full.db", file)
    return Seen([met], register(bench, store, f"sqlite:///{file}"), digests, words)


def half_made(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE _alembic_tmp_tags (key VARCHAR(250))")
        connection.commit()
    os.utime(file, (1.0, 1.0))


def text(file: Path) -> None:
    file.write_text("this is no database, and long enough not to be taken for an empty one" * 40)


def on_a_disk(prepare: Callable[[str], Callable[[], None]], words: tuple[str, ...], bench: Bench) -> Seen:
    store, file = own(bench)
    digests = registered(bench)
    met = register(bench, store, f"sqlite:///{file}", prepare=prepare(str(file.parent)))
    return Seen([met], register(bench, store, f"sqlite:///{file}"), digests, words)


def not_reachable(bench: Bench) -> Seen:
    """Nothing listens there; the password of the address is in no message."""
    met = register(bench, bench.empty(), f"http://me:{CANARY}@127.0.0.1:9", **QUICK)
    if CANARY in met.out + met.err:
        raise Unexpected("the password is in what it says")
    return Seen([met], None, {}, UNREACHED)


@contextlib.contextmanager
def server(bench: Bench, address: str = "") -> Iterator[Any]:
    from tests.monitoring.mlflow_server import MlflowServer

    folder = bench.folder / "mlflow"
    if not address:
        own(bench)
    folder.mkdir(exist_ok=True)
    started = MlflowServer(folder, address or f"sqlite:///{folder}/mlflow.db")
    started.start()
    try:
        yield started
    finally:
        started.kill()


def server_down(seconds: float, bench: Bench) -> Seen:
    """MLflow's server is killed in the midst of a registration, and started again."""
    digests = registered(bench)
    with server(bench) as mlflow:
        command = bench.start("subject", "register", "--store", bench.empty(), "--uri", mlflow.uri, **QUICK)
        time.sleep(bench.draw.uniform(1.0, 3.0))
        mlflow.kill()
        time.sleep(seconds)
        mlflow.start()
        met = command.wait()
        return Seen([met], register(bench, bench.empty(), mlflow.uri), digests, UNREACHED)


def answers(address: str) -> None:
    """Waits until a database that has been started takes connections. Raises Unexpected."""
    import psycopg2

    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg2.connect(address.replace("+psycopg2", "")).close()
            return
        except psycopg2.OperationalError as error:
            if time.monotonic() > deadline:
                raise Unexpected(f"PostgreSQL does not come back: {error}") from error
            time.sleep(0.1)


def postgresql_killed(bench: Bench) -> Seen:
    """PostgreSQL is killed (SIGQUIT to its processes, as when its machine ends) and started again on its data."""
    from infra.stack import postgres
    from infra.stack.processes import start
    from tests.registry.writers import postgresql

    digests = registered(bench)
    with postgresql() as address:
        port = int(address.rpartition(":")[2].partition("/")[0])
        import psutil

        [main] = {one.pid for one in psutil.net_connections("tcp") if one.laddr.port == port and one.status == "LISTEN"}
        process = psutil.Process(main)
        data = Path(process.cmdline()[process.cmdline().index("-D") + 1])
        command = bench.start("subject", "register", "--store", bench.empty(), "--uri", address)
        time.sleep(bench.draw.uniform(4.0, 15.0))
        process.send_signal(signal.SIGQUIT)
        psutil.wait_procs([process], 20)
        again: list[Any] = []
        timer = threading.Timer(
            3.0,
            lambda: again.append(start("postgres", postgres.command(data, port), {}, data.parents[1], postgres.user())),
        )
        timer.start()
        met = command.wait()
        timer.join()
        answers(address)
        try:
            return Seen([met], register(bench, bench.empty(), address), digests, UNREACHED)
        finally:
            again[0].send_signal(signal.SIGINT)
            again[0].wait(20)


FAULTS = [
    Fault("MLflow/not reachable", Expected.ERROR, not_reachable),
    Fault("MLflow/registration is killed", Expected.EQUAL, partial(killed, 1), fast=False),
    Fault("MLflow/registration is killed three times", Expected.EQUAL, partial(killed, 3), fast=False),
    Fault("MLflow/two registrations at once", Expected.EQUAL, twice, fast=False),
    Fault("MLflow/its file is text", Expected.ERROR, partial(damaged, text, UNREACHED), fast=False),
    Fault(
        "MLflow/its file is half made", Expected.ERROR, partial(damaged, half_made, ("half-made", "mv ")), fast=False
    ),
    Fault(
        "MLflow/its folder is read-only", Expected.ERROR,
        partial(on_a_disk, lambda folder: partial(read_only, folder), ("read-?only|unable to open",)), fast=False,
    ),
    Fault(
        "MLflow/its disk is full", Expected.ERROR,
        partial(on_a_disk, lambda folder: partial(small, folder, "size=600k"), ("full|No space|more can be written",)),
        fast=False,
    ),
    Fault("MLflow/the server is killed and comes back", Expected.EITHER, partial(server_down, 2.0), False),
    Fault("MLflow/PostgreSQL is killed and comes back", Expected.EITHER, postgresql_killed, False),
]  # fmt: skip
NEEDS_MOUNT = ["MLflow/its folder is read-only", "MLflow/its disk is full"]
NEEDS = ["mlflow", "tests.registry.writers"]
