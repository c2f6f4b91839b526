"""What is chosen once for a stack and kept: its ports and secrets. All else is derived from them.

`$K2_HOME/stack/stack.json` has both, readable by its owner alone, and outlives `stack-down`: addresses stay for as long
as the data do. `$K2_HOME/stack/env` is what a client needs, in a shell's syntax.
"""

import fcntl
import json
import os
import secrets
import shlex
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from k2model import settings
from k2model.artifacts.files import files_at
from k2model.artifacts.outside import read_small
from k2model.errors import K2Error
from k2model.plain import NotPlain, read_as

LOOPBACK = "127.0.0.1"
REGION = "us-east-1"
STORE_BUCKET, ARTIFACTS_BUCKET = "k2-lifecycle", "mlflow-artifacts"
LIFECYCLE = "k2"  # a lifecycle's key id in S3: one of eight characters would be masked wherever else it stands
GRPC = 10_000  # SeaweedFS listens for gRPC on each of its ports + this
SEAWEEDFS_PORTS = ("s3", "master", "volume", "filer", "admin")
PORTS = ("postgres", "mlflow", *SEAWEEDFS_PORTS)
SECRETS = (
    "postgres_admin", "postgres", "mlflow", "mlflow_sessions", "seaweedfs_volumes", "seaweedfs_filer",
    "s3_admin", "s3_lifecycle", "s3_mlflow",
)  # fmt: skip
#: What would lead a client elsewhere, or to other credentials, although the stack's are set.
CLEARED = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "FSSPEC_S3_ENDPOINT_URL", "MLFLOW_TRACKING_TOKEN")

_PORT_RANGE = (10_000, 22_000)  # it and its gRPC ports lie below those that outgoing connections take (32768 and on)


class StackError(K2Error):
    """The stack cannot be started, reached or ended as asked."""


@dataclass(frozen=True)
class Config:
    """Ports by the names of `PORTS` and secrets by those of `SECRETS`, of the stack whose files lie in `folder`."""

    folder: Path
    ports: dict[str, int]
    secrets: dict[str, str]

    @property
    def seaweedfs_ports(self) -> list[int]:
        own = [port for name, port in self.ports.items() if name in SEAWEEDFS_PORTS]
        return [*own, *(port + GRPC for port in own)]

    @property
    def s3(self) -> str:
        return f"http://{LOOPBACK}:{self.ports['s3']}"

    @property
    def mlflow(self) -> str:
        return f"http://{LOOPBACK}:{self.ports['mlflow']}"


def folder() -> Path:
    """Without links on the way: processes are told by this name whose they are."""
    return settings.home().resolve() / "stack"


class _Kept(TypedDict):
    ports: dict[str, int]
    secrets: dict[str, str]


def load(where: Path) -> Config | None:
    """What was chosen for the stack in a folder; None where there is none.

    Raises StackError when its file is damaged.
    """
    file = where / "stack.json"
    try:
        kept = read_as(_Kept, read_small(files_at(where), file.name))
        return Config(where, {name: kept["ports"][name] for name in PORTS}, {n: kept["secrets"][n] for n in SECRETS})
    except FileNotFoundError:
        return None
    except (NotPlain, KeyError) as error:
        raise StackError(
            f"{file} is damaged ({type(error).__name__}: {error}): it has the stack's ports and passwords. Restore "
            "it, or remove the stack with its data: make stack-down PURGE=1"
        ) from error


def load_or_choose(where: Path, new_ports: bool = False) -> Config:
    """What was chosen, or a choice that is kept from here on: free ports, and secrets of 192 random bits."""
    found = load(where)
    if found and not new_ports:
        return found
    config = Config(
        where,
        dict(zip(PORTS, free_ports(len(PORTS)), strict=True)),
        found.secrets if found else {name: secrets.token_hex(24) for name in SECRETS},
    )
    write_private(where / "stack.json", json.dumps({"ports": config.ports, "secrets": config.secrets}, indent=1))
    return config


def client_environment(config: Config) -> dict[str, str]:
    """What a lifecycle on this stack runs with. In S3 it may use the store's bucket alone."""
    direct = filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), LOOPBACK])
    return {
        "K2_STORE": f"s3://{STORE_BUCKET}/store",
        "AWS_ENDPOINT_URL": config.s3,
        "AWS_ACCESS_KEY_ID": LIFECYCLE,
        "AWS_SECRET_ACCESS_KEY": config.secrets["s3_lifecycle"],
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "MLFLOW_TRACKING_URI": config.mlflow,
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": config.secrets["mlflow"],
        **dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(direct)),  # programs differ in which of the two they prefer
    }


def write_client_file(config: Config) -> Path:
    """The same as a file for a shell: `set -a; . outputs/stack/env; set +a`."""
    lines = [f"{name}={shlex.quote(value)}" for name, value in client_environment(config).items()]
    return write_private(config.folder / "env", "\n".join(lines) + "\n")


def write_private(file: Path, content: str) -> Path:
    """Writes a file that only its owner may read, whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    with suppress(FileNotFoundError):
        partial.unlink()
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(content)
        os.fsync(opened.fileno())
    os.replace(partial, file)
    return file


def free_ports(count: int) -> list[int]:
    """Ports that are free together with the gRPC port that SeaweedFS would put beside each."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            port = _PORT_RANGE[0] + secrets.randbelow(_PORT_RANGE[1] - _PORT_RANGE[0])
            with suppress(OSError):
                for one in (port, port + GRPC):
                    held.enter_context(socket.socket()).bind((LOOPBACK, one))
                found.append(port)
    return found


@contextmanager
def locked(where: Path, seconds: float = 10.0) -> Iterator[None]:
    """While it is open no other command starts or ends this stack; the system ends it with its holder."""
    where.mkdir(parents=True, exist_ok=True)
    where.chmod(0o711)  # PostgreSQL may run as another user, which has to reach its own folder in here
    descriptor = os.open(where / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StackError(
                        f"another command is starting or ending the stack in {where}. Wait for it, or interrupt it: "
                        "it ends what it has begun"
                    ) from None
                time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)
