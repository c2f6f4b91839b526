"""A real MLflow server on the loopback interface, which tests end and start again as an outage would."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

START_SECONDS = 180


class MlflowServer:
    """On a database, or a SQLite file in `folder`, and a port that stays its own. It is down until `start`."""

    def __init__(self, folder: Path, database: str = "") -> None:
        from k2model.registry.database import prepare

        if not database:
            prepare(folder / "mlflow.db")
        self.folder, self.database = folder, database or f"sqlite:///{folder}/mlflow.db"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", self.database,
            "--default-artifact-root", str(self.folder / "artifacts"),
        ]  # fmt: skip
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                return urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
            ended = self._process.poll() is not None or time.monotonic() > deadline
            assert not ended, (self.folder / "server.log").read_text()[-3000:]
            time.sleep(0.1)

    def kill(self) -> None:
        """It and its workers, at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
