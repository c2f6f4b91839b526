"""The same three servers for those who have docker: `compose.yaml`, made from what the local stack is made from.

    python -m infra.stack compose         # secrets and ports for it, and how to start it

Ports and secrets are those of the local stack, so `STACK=1` reaches whichever of the two runs. Ports are published on
the loopback interface alone; inside of docker's own network the servers listen for each other. Images are named by
version. The file in the repository is checked against this module by a test; it has not been run by one.
"""

import shlex
from pathlib import Path
from typing import Any

from infra.stack.config import LOOPBACK, SECRETS, Config, write_private
from infra.stack.postgres import DATABASE
from infra.stack.services import (
    mlflow_arguments,
    mlflow_environment,
    mlflow_login_settings,
    s3_identities,
    seaweedfs_command,
    seaweedfs_environment,
)

FILE = Path(__file__).with_name("compose.yaml")
POSTGRES_IMAGE = "postgres:18.4"
SEAWEEDFS_IMAGE = "chrislusf/seaweedfs:4.48"
MLFLOW_IMAGE = "ghcr.io/mlflow/mlflow:v3.17.2"
HEAD = """\
# Made by infra/stack/compose.py from what the local stack is made from: `python -m infra.stack compose --write`.
# Ports and secrets: `python -m infra.stack compose` writes them to $K2_HOME/stack/compose.env, and says how to start.
"""
#: What MLflow's own image lacks, as requirements.lock has it.
MLFLOW_PACKAGES = ("psycopg2-binary==2.9.13", "boto3==1.43.117", "Flask-WTF==1.3.0")
DOCKERFILE = f"FROM {MLFLOW_IMAGE}\nRUN pip install --no-cache-dir {' '.join(MLFLOW_PACKAGES)}\n"

#: A call of the API with the login, which the container has in its environment.
_ASK_MLFLOW = """\
import base64, os, urllib.request as web
login = ":".join(os.environ["MLFLOW_AUTH_ADMIN_" + part] for part in ("USERNAME", "PASSWORD")).encode()
headers = {"Authorization": "Basic " + base64.b64encode(login).decode(), "Content-Type": "application/json"}
address = "http://127.0.0.1:5000/api/2.0/mlflow/experiments/search"
web.urlopen(web.Request(address, b'{"max_results": 1}', headers), timeout=8)
"""

_INSIDE = {"postgres": 5432, "s3": 8333, "master": 9333, "volume": 9340, "filer": 8888, "admin": 23646, "mlflow": 5000}


def variables(config: Config) -> dict[str, str]:
    """What compose.yaml is filled in with."""
    secrets = {f"K2_STACK_{name.upper()}": config.secrets[name] for name in SECRETS}
    return secrets | {f"K2_PORT_{name.upper()}": str(config.ports[name]) for name in ("s3", "mlflow", "postgres")}


def write_variables(config: Config) -> Path:
    lines = [f"{name}={value}" for name, value in variables(config).items()]
    return write_private(config.folder / "compose.env", "\n".join(lines) + "\n")


def compose() -> dict[str, Any]:
    """The file's content, with variables for ports and secrets."""
    secrets = {name: _variable(f"K2_STACK_{name.upper()}") for name in SECRETS}
    database = f"postgresql+psycopg2://{DATABASE}:{secrets['postgres']}@postgres:{_INSIDE['postgres']}/{DATABASE}"
    weed = seaweedfs_command("weed", "/data", "/etc/seaweedfs/s3.json", _INSIDE, bind="0.0.0.0")
    environment = mlflow_environment(
        database, f"http://seaweedfs:{_INSIDE['s3']}", "/etc/mlflow/auth.ini", secrets, _variable("K2_PORT_MLFLOW")
    )
    environment["MLFLOW_SERVER_ALLOWED_HOSTS"] += f",{LOOPBACK}:{_INSIDE['mlflow']}"  # its own health check
    return {
        "name": "k2-stack",
        "services": {
            "postgres": {
                "image": POSTGRES_IMAGE,
                "environment": {
                    "POSTGRES_USER": DATABASE, "POSTGRES_DB": DATABASE, "POSTGRES_PASSWORD": secrets["postgres"],
                },
                "volumes": ["postgres:/var/lib/postgresql"],
                "healthcheck": _every_5_seconds("pg_isready", "-h", LOOPBACK, "-U", DATABASE, "-d", DATABASE),
                **_common("postgres"),
            },
            "seaweedfs": {
                "image": SEAWEEDFS_IMAGE,
                "entrypoint": weed,
                "environment": seaweedfs_environment(secrets["seaweedfs_volumes"], secrets["seaweedfs_filer"]),
                "volumes": ["seaweedfs:/data"],
                "configs": [{"source": "s3.json", "target": "/etc/seaweedfs/s3.json"}],
                "healthcheck": _every_5_seconds("wget", "-q", "-O", "-", f"http://127.0.0.1:{_INSIDE['s3']}/healthz"),
                **_common("s3"),
            },
            "mlflow": {
                "image": "k2-stack-mlflow:3.17.2",
                "build": {"context": ".", "dockerfile_inline": DOCKERFILE},
                "command": ["mlflow", *mlflow_arguments("0.0.0.0", _INSIDE["mlflow"])],
                "environment": environment,
                "configs": [{"source": "auth.ini", "target": "/etc/mlflow/auth.ini"}],
                "depends_on": {name: {"condition": "service_healthy"} for name in ("postgres", "seaweedfs")},
                "healthcheck": _every_5_seconds("python", "-c", _ASK_MLFLOW),
                **_common("mlflow"),
            },
        },
        "configs": {
            "s3.json": {"content": s3_identities(secrets)},
            "auth.ini": {"content": mlflow_login_settings(database)},
        },
        "volumes": {"postgres": {}, "seaweedfs": {}},
    }  # fmt: skip


def _variable(name: str) -> str:
    return f"${{{name}:?}}"  # refused where it is not set


def _common(port: str) -> dict[str, Any]:
    published = f"{LOOPBACK}:{_variable(f'K2_PORT_{port.upper()}')}:{_INSIDE[port]}"
    return {"ports": [published], "restart": "unless-stopped", "security_opt": ["no-new-privileges:true"]}


def _every_5_seconds(*test: str) -> dict[str, Any]:
    return {"test": ["CMD", *test], "interval": "5s", "timeout": "10s", "retries": 3, "start_period": "240s"}


def text() -> str:
    """The file, as the repository has it."""
    import yaml

    class Readable(yaml.SafeDumper):
        """Texts of several lines as such."""

    def represent(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Readable.add_representer(str, represent)
    return HEAD + yaml.dump(compose(), Dumper=Readable, sort_keys=False, width=118)


def how_to_start(variables_file: Path) -> str:
    return f"docker compose --env-file {shlex.quote(str(variables_file))} -f {shlex.quote(str(FILE))} up --build -d"
