"""Real servers for tests, on the loopback interface: an S3 service (SeaweedFS). Also what listens on this machine, and
small disks.

A fake S3 accepts what a real one refuses (wrong checksums, bad credentials), so these tests talk to a
real one. The fixture is every test's by `tests/conftest.py`: a second instance would be another server, while
clients are kept for the process.
"""

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.stack.config import GRPC, SEAWEEDFS_PORTS, free_ports
from infra.stack.services import find_weed, remove_sockets, s3_client, seaweedfs_command

START_SECONDS = 60


@dataclass(frozen=True)
class S3Server:
    """A running S3 service with one bucket, which `environment` lets every usual client reach."""

    endpoint: str
    bucket: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One S3 service for the whole test session. It does not change the environment: set
    `s3_server.environment` in the test and use a prefix of your own in the bucket."""
    with run_s3(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@contextlib.contextmanager
def run_s3(folder: Path) -> Iterator[S3Server]:
    """Runs SeaweedFS with its data in `folder` until the block ends."""
    config = folder / "s3.json"
    credentials = {"accessKey": "test-key", "secretKey": "test-secret"}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    config.write_text(json.dumps({"identities": [{"name": "tests", "credentials": [credentials], "actions": actions}]}))
    ports = dict(zip(SEAWEEDFS_PORTS, free_ports(5), strict=True))
    command = seaweedfs_command(find_weed(), folder, config, ports, buckets=("k2-tests",))
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env={**os.environ, "GOMEMLIMIT": "400MiB"}
        )
    endpoint = f"http://127.0.0.1:{ports['s3']}"
    environment = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": credentials["accessKey"],
        "AWS_SECRET_ACCESS_KEY": credentials["secretKey"],
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    server = S3Server(endpoint, "k2-tests", environment, process)
    try:
        _wait_for_bucket(server, folder / "weed.log")
        yield server
    finally:
        process.kill()  # its data is not needed any more, and a graceful stop waits for open connections
        process.wait()
        remove_sockets([*ports.values(), *(port + GRPC for port in ports.values())])


class Watch(threading.Thread):
    """What is shown to everybody while a process and its descendants run: `addresses` on which they wait for
    connections, and `commands` of all processes of the machine, servers among them. Looks ten times a second, until
    they have ended."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.addresses: set[str] = set()
        self.commands: set[str] = set()
        self._pid = pid
        self.start()

    def run(self) -> None:
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            watched = psutil.Process(self._pid)
            while watched.is_running() and watched.status() != psutil.STATUS_ZOMBIE:
                self.commands |= command_lines()
                for one in (watched, *watched.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                        sockets = one.net_connections("inet")
                        self.addresses |= {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN}
                time.sleep(0.1)


def command_lines() -> set[str]:
    """Of all processes of this machine, as anybody sees them."""
    found = set()
    for number in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has ended
            line = Path("/proc", number, "cmdline").read_bytes()
            found.add(line.replace(b"\0", b" ").decode(errors="replace").strip())
    return found


def listeners(pid: int) -> list[tuple[str, int]]:
    """Address and port of every socket on which a process or one of its descendants waits for connections."""
    import psutil

    process = psutil.Process(pid)
    sockets = [found for one in (process, *process.children(recursive=True)) for found in one.net_connections("inet")]
    return [(found.laddr.ip, found.laddr.port) for found in sockets if found.status == psutil.CONN_LISTEN]


def on_small_disk(folder: Path, size: str, command: list[str]) -> list[str]:
    """The command, on a machine where `folder` is a disk (tmpfs) of that size: no other process sees it.

    Skips the test where mounting is not permitted.
    """
    folder.mkdir(parents=True)
    unshare, mount, shell = (shutil.which(program) for program in ("unshare", "mount", "sh"))
    private = f'"{mount}" --make-rprivate / && "{mount}" -t tmpfs -o size={size} tmpfs "$0" && exec "$@"'
    wrapped = [str(unshare), "--mount", str(shell), "-c", private, str(folder)]
    if unshare is None or subprocess.run([*wrapped, str(shutil.which("true"))], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    return [*wrapped, *command]


def _wait_for_bucket(server: S3Server, log: Path) -> None:
    """Until the service takes a file: it needs the bucket, and a volume, which comes up later."""
    from botocore.exceptions import BotoCoreError, ClientError

    keys = (server.environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    client = s3_client(server.endpoint, *keys)
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.put_object(Bucket=server.bucket, Key="ready", Body=b"")
            return
        except (BotoCoreError, ClientError) as error:
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"SeaweedFS did not start: {error}\n{log.read_text()[-2000:]}") from error
        time.sleep(0.2)
