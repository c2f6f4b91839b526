"""The stack of real servers, through its commands: one for all tests, which start, damage, mend and end it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import yaml
from botocore.exceptions import ClientError

from infra.stack import compose as composed
from infra.stack import postgres
from infra.stack import services as servers
from infra.stack.config import (
    ARTIFACTS_BUCKET,
    LIFECYCLE,
    STORE_BUCKET,
    Config,
    StackError,
    client_environment,
    free_ports,
    load_or_choose,
)
from infra.stack.processes import MARK, running, start, stop, wait
from k2model.artifacts import Store, make
from k2model.ingest import raw_step
from tests.infra.conftest import ok, stack
from tests.servers import listeners, on_small_disk
from tests.smoke import ROOT

SERVERS = ("postgres", "seaweedfs", "mlflow")


def health(home: Path) -> dict[str, str]:
    rows = json.loads(stack(home, "status", "--json").stdout)
    return {row["service"]: row["health"] for row in rows}


def test_a_second_start_finds_all_running(home: Path):
    before = running(home / "stack")
    assert ok(home, "up").count("runs already") == 3
    assert running(home / "stack") == before
    assert health(home) == dict.fromkeys(SERVERS, "healthy")
    assert stack(home, "status").returncode == 0


def test_nothing_listens_or_talks_beyond_the_loopback_interface(home: Path, config: Config):
    found = {name: listeners(server.main.pid) for name, server in running(home / "stack").items() if server.main}
    assert {address for sockets in found.values() for address, _ in sockets} == {"127.0.0.1"}
    expected = {"postgres": {config.ports["postgres"]}, "mlflow": {config.ports["mlflow"]}}
    expected["seaweedfs"] = set(config.seaweedfs_ports)
    assert {name: {port for _, port in sockets} for name, sockets in found.items()} == expected
    everything = [process for server in running(home / "stack").values() for process in server.all]
    talking = [socket for process in everything for socket in process.net_connections("inet") if socket.raddr]
    assert talking and {socket.raddr.ip for socket in talking} == {"127.0.0.1"}


def test_servers_have_nothing_of_the_environment_that_they_were_started_in(home: Path):
    mains = [found.main for found in running(home / "stack").values() if found.main]
    names = {name for process in mains for name in process.environ()}
    assert len(mains) == 3 and not [name for name in names if name.startswith(("PYTEST", "K2_HOME"))]


def test_an_identity_may_use_its_own_bucket_alone(config: Config):
    for name, secret, own, other in (
        (LIFECYCLE, "s3_lifecycle", STORE_BUCKET, ARTIFACTS_BUCKET),
        ("mlflow", "s3_mlflow", ARTIFACTS_BUCKET, STORE_BUCKET),
    ):
        client = servers.s3_client(config.s3, name, config.secrets[secret])
        client.put_object(Bucket=own, Key="scope", Body=b"x")
        refused = (
            lambda client=client, other=other: client.put_object(Bucket=other, Key="scope", Body=b"x"),
            lambda client=client, other=other: client.list_objects_v2(Bucket=other),
            lambda client=client: client.create_bucket(Bucket="another"),
            lambda client=client, own=own: client.delete_bucket(Bucket=own),
        )
        for request in refused:
            with pytest.raises(ClientError, match="AccessDenied"):
                request()
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        servers.s3_client(config.s3, LIFECYCLE, "wrong").list_objects_v2(Bucket=STORE_BUCKET)


def test_what_lies_in_s3_is_not_to_be_had_behind_it(config: Config):
    address = f"http://127.0.0.1:{config.ports['filer']}/buckets/{STORE_BUCKET}/health"
    for method in ("GET", "PUT", "DELETE"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(urllib.request.Request(address, method=method), timeout=5)


def test_mlflow_asks_for_a_login_and_refuses_names_that_are_not_its_own(config: Config):
    address = f"{config.mlflow}/api/2.0/mlflow/experiments/search?max_results=1"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(address, timeout=10)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        servers.check_mlflow(config.mlflow, "admin", "wrong")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(address, headers={"Host": "rebound.example"}), timeout=10)


def test_mlflow_keeps_runs_in_postgresql_and_artifacts_in_its_bucket(config: Config, monkeypatch: pytest.MonkeyPatch):
    for name, value in client_environment(config).items():
        monkeypatch.setenv(name, value)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=config.mlflow)
    run = client.create_run(client.create_experiment("stack")).info.run_id
    client.log_metric(run, "loss", 1.5)
    client.log_text(run, "written through the server", "note.txt")
    s3 = servers.s3_client(config.s3, "mlflow", config.secrets["s3_mlflow"])
    keys = [found["Key"] for found in s3.list_objects_v2(Bucket=ARTIFACTS_BUCKET)["Contents"]]
    assert [key for key in keys if key.endswith("note.txt") and run in key]
    with closing(postgres.connect(config.ports["postgres"], "mlflow", config.secrets["postgres"])) as database:
        cursor = database.cursor()
        cursor.execute("SELECT value FROM metrics WHERE run_uuid = %s", [run])
        assert cursor.fetchall() == [(1.5,)]


def test_a_store_on_the_stack_has_the_digests_of_a_local_one(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from k2model.recipe.schema import CorpusConfig, SourceConfig

    for name, value in client_environment(config).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("K2_HOME", str(tmp_path / "home"))
    made = []
    for uri in (str(tmp_path / "store"), os.environ["K2_STORE"]):
        store = Store.open(uri)
        raw = make(store, raw_step(CorpusConfig(sources=(SourceConfig("spelling/think", 40),), heldout_items=4)))
        assert raw.uri.startswith(uri)
        made.append((raw.identity, raw.digest))
    assert made[0] == made[1]


def test_a_shell_and_a_command_get_the_addresses(home: Path, config: Config):
    printed = "echo $K2_STORE $MLFLOW_TRACKING_URI ${AWS_PROFILE-none}"
    expected = f"s3://{STORE_BUCKET}/store {config.mlflow} none"
    evaluated = f'eval "$({sys.executable} -m infra.stack env)" && {printed}'
    sourced = f"set -a; . {home}/stack/env; set +a; {printed}"
    environment = {**os.environ, "K2_HOME": str(home), "AWS_PROFILE": "of-another"}
    for script, told in ((evaluated, expected), (sourced, expected.replace("none", "of-another"))):
        shell = subprocess.run(["sh", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert shell.stdout.strip() == told, shell.stderr
    assert ok(home, "run", "sh", "-c", printed).strip() == expected
    assert stack(home, "run", "sh", "-c", "exit 7").returncode == 7


def test_what_died_or_hangs_is_mended_and_a_port_that_was_taken_meanwhile_is_named(home: Path, config: Config):
    found = running(home / "stack")
    mains = [server.main for server in found.values() if server.main]
    for main in mains:  # what MLflow's has started lives on
        main.kill()
    psutil.wait_procs(mains, 10)
    assert health(home)["seaweedfs"] == "not running"
    assert stack(home, "status").returncode == 1
    refused = stack(home, "run", "true")
    assert refused.returncode == 1 and "make stack-up" in refused.stderr and "Traceback" not in refused.stderr
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", config.ports["filer"]))
        stranger.listen()
        told = stack(home, "up")
        assert told.returncode == 1
        assert f"port {config.ports['filer']} is taken by" in told.stderr and f"process {os.getpid()}" in told.stderr
        assert "postgres" not in running(home / "stack"), "what the failed command had started is ended"
    said = ok(home, "up")
    assert "mlflow: has died and left processes" in said and "seaweedfs: is started" in said
    assert health(home) == dict.fromkeys(SERVERS, "healthy")
    servers.s3_client(config.s3, LIFECYCLE, config.secrets["s3_lifecycle"]).head_object(
        Bucket=STORE_BUCKET, Key="health"
    )
    assert not set(mains) & {server.main for server in running(home / "stack").values()}


def test_an_interrupted_start_leaves_nothing_and_a_killed_one_is_ended_by_stack_down(place: Path):
    home = place / "interrupted"
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        command = subprocess.Popen(
            [sys.executable, "-m", "infra.stack", "up"], cwd=ROOT, env={**os.environ, "K2_HOME": str(home)},
            stdout=subprocess.PIPE, text=True, preexec_fn=_hear_interrupts,
        )  # fmt: skip
        assert command.stdout
        for line in command.stdout:
            if line.startswith("seaweedfs: is started"):
                break
        command.send_signal(number)
        command.communicate(timeout=60)
        assert command.returncode == status
        left = running(home / "stack")
        assert bool(left) == (number == signal.SIGKILL)
    sleeper = subprocess.Popen(["sleep", "60"], env={MARK: f"{place}/another/stack:seaweedfs"}, start_new_session=True)
    try:
        assert "ended: " in ok(home, "down")
        assert not running(home / "stack") and not [
            one for server in left.values() for one in server.all if one.is_running()
        ]
        assert sleeper.poll() is None, "a server of another stack is a stranger"
    finally:
        sleeper.kill()
        sleeper.wait()
    assert "nothing of the stack" in ok(home, "down")
    (home / "stack" / "stack.json").write_text("{")
    told = stack(home, "up")
    assert told.returncode == 1 and "stack.json is damaged" in told.stderr and "PURGE=1" in told.stderr


def test_a_full_disk_is_told(place: Path):
    home = place / "small"
    command = on_small_disk(home, "20m", [sys.executable, "-m", "infra.stack", "up"])
    environment = {**os.environ, "K2_HOME": str(home)}
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)
    assert told.returncode == 1 and "No space left on device" in told.stderr and "Traceback" not in told.stderr
    assert not running(home / "stack")


def _hear_interrupts() -> None:
    """A suite that was started in the background of a shell ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_postgresql_of_pypi_makes_and_serves_a_database(place: Path, monkeypatch: pytest.MonkeyPatch):
    programs = [one for one in postgres.programs() if "pginstall18" in one.parts]
    monkeypatch.setattr(postgres, "programs", lambda: programs)
    folder, user, (port,) = place / "pypi", postgres.user(), free_ports(1)
    data = folder / "postgres" / "data"
    data.parent.mkdir(parents=True)
    (folder / "logs").mkdir()
    folder.chmod(0o711)
    postgres.make_cluster(data, user, "secret")
    start("postgres", [*postgres.command(data, port), "--log_statement=all"], {}, folder, user)
    try:
        assert wait(30, lambda: _works(lambda: postgres.make_role(port, "secret", "its-own-password")))
        postgres.make_role(port, "secret", "its-own-password")
        postgres.check(port, "its-own-password")
    finally:
        stop(running(folder)["postgres"], signal.SIGINT)
    logged = (folder / "logs" / "postgres.log").read_text()
    assert "CREATE ROLE" in logged and "its-own-password" not in logged
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(StackError, match=re.escape("no PostgreSQL of version 9, which made")):
        postgres.find_programs(data, user)
    monkeypatch.setattr(postgres, "programs", lambda: [])
    with pytest.raises(StackError, match="PostgreSQL is missing"):
        postgres.find_programs(data, user)


def _works(action: Callable[[], None]) -> bool:
    try:
        action()
    except Exception:
        return False
    return True


def test_the_compose_file_is_what_the_settings_give(tmp_path: Path):
    assert composed.FILE.read_text() == composed.text(), "python -m infra.stack compose --write"
    content = yaml.safe_load(composed.FILE.read_text())
    for service in content["services"].values():
        assert re.fullmatch(r"[a-z0-9./-]+:v?\d+[\d.]*", service["image"])
        assert all(published.startswith("127.0.0.1:${") for published in service["ports"])
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    assert not [package for package in composed.MLFLOW_PACKAGES if package not in lock]
    assert f"mlflow=={composed.MLFLOW_IMAGE.rpartition(':v')[2]}" in lock
    config = load_or_choose(tmp_path)
    asked = set(re.findall(r"\$\{(\w+):\?\}", composed.FILE.read_text()))
    assert asked <= composed.variables(config).keys() and "$" not in re.sub(
        r"\$\{\w+:\?\}", "", composed.text().split("name:", 1)[1]
    )
    filled = re.sub(r"\$\{(\w+):\?\}", lambda found: composed.variables(config)[found[1]], composed.FILE.read_text())
    identities = json.loads(yaml.safe_load(filled)["configs"]["s3.json"]["content"])
    assert identities == json.loads(servers.s3_identities(config.secrets))
