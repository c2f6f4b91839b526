"""Nobody beyond this machine reaches what the project starts: the MLflow UI, and workers that hold a model together.

Others are looked at where they run anyway: a lifecycle (`test_smoke_lifecycle`), the stack (`tests/infra`), training
(`tests/tasks`), a job of synthesis that asks an endpoint (`tests/synthesis/test_endpoint.py`), programs in the sandbox,
which have no sockets at all (`tests/sandbox`).
"""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil

from infra.stack.config import free_ports
from tests.servers import listeners
from tests.smoke import CANARY, ROOT

TEAM = """
import os, sys
import psutil
from k2model.evals.team import team_of
from k2model.training.rendezvous import form_group
from k2model.training.world import World
import torch
import torch.distributed as dist

rank = int(sys.argv[1])
os.environ["MASTER_ADDR"] = "file://" + sys.argv[2]
form_group("gloo", rank, 2)
team = team_of(World(rank, 2, rank), 2)
dist.all_reduce(torch.ones(1), group=team.tensor.group)
own = psutil.Process().net_connections("inet")
print(*{one.laddr.ip for one in own if one.status == psutil.CONN_LISTEN}, sep=",", flush=True)
dist.barrier()
"""


def test_the_ui_listens_on_the_loopback_interface_and_its_password_is_in_no_command(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    make = ["make", f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.ready", "ui", f"PORT={port}"]
    own = {"K2_HOME": str(tmp_path), "HOME": str(tmp_path)}
    own["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path / 'mlflow.db'}?password={CANARY}"
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            make, cwd=ROOT, env=os.environ | own, stdout=log, stderr=log, start_new_session=True
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 400
        while not _answers(port):
            assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.2)
        found = listeners(server.pid)
        everything = [server.pid, *(one.pid for one in psutil.Process(server.pid).children(recursive=True))]
        shown = [" ".join(psutil.Process(pid).cmdline()) for pid in everything]
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    assert ("127.0.0.1", port) in found and {address for address, _ in found} <= {"127.0.0.1", "::1"}
    assert any("mlflow" in command for command in shown) and not [one for one in shown if CANARY in one]
    assert CANARY not in (tmp_path / "log").read_text()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_workers_of_an_evaluation_listen_on_the_loopback_interface(tmp_path: Path) -> None:
    """Whatever the environment names for gloo, and wherever this machine's name leads."""
    own = os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "no such interface"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", TEAM, str(rank), str(tmp_path / "meeting")], env=own, cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        told = [worker.communicate(timeout=120) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], told
    for out, _ in told:
        assert out.strip() and {*out.strip().split(",")} <= {"127.0.0.1", "::1"}
