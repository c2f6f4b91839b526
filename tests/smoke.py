"""Running the whole DAG with the `smoke` recipe, and reading what it left."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.servers import Watch

ROOT = Path(__file__).parents[1]
PYFLYTE = Path(sys.executable).parent / "pyflyte"
CANARY = "canary-in-a-tracking-uri"  # a secret part of addresses and variables; nothing that a run leaves may have it
# Of clients and endpoints that a run on one machine does not ask, so that their values change nothing.
SECRET_VARIABLES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "MLFLOW_TRACKING_PASSWORD", "HF_TOKEN",
    "LLM_API_KEY", "OPENAI_API_KEY", "WANDB_API_KEY", "GITHUB_TOKEN", "SLACK_BOT_TOKEN", "PGPASSWORD",
)  # fmt: skip
PHASES = ("pretrain", "mid_1", "mid_2", "mid_3", "mid_4", "sft")


def environment(home: Path, canary: str = CANARY) -> dict[str, str]:
    """With no program of the machine: a lifecycle needs no compiler and no git. canary: part of every secret."""
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    own = {"K2_RECIPE": "smoke", "K2_HOME": str(home), "TMPDIR": str(home / "tmp"), "HOME": str(home)}
    own |= {"PATH": str(PYFLYTE.parent), "PYTHONPATH": str(ROOT)}
    own |= {name: f"{canary}-{name.lower()}" for name in SECRET_VARIABLES}
    own["DATABASE_URL"] = f"postgresql://user:{canary}@db.example/runs"
    own["TEAM_CHAT"] = f"https://hooks.slack.com/services/T0/B0/{canary}"
    own["MLFLOW_TRACKING_URI"] = f"sqlite:///{home / 'mlflow.db'}?password={canary}"
    kept = {name: value for name, value in os.environ.items() if name != "K2_STORE"}
    return kept | own


def command(overrides: dict | None = None) -> list[str]:
    run = [str(PYFLYTE), "run", "workflows/lifecycle.py", "full_lifecycle"]
    return [*run, "--overrides", json.dumps(overrides or {})]


class Finished(subprocess.CompletedProcess[str]):
    """A run that has ended, with what was seen of its processes."""

    watch: Watch


def lifecycle(
    home: Path, overrides: dict | None = None, through: Sequence[str] = (), variables: Mapping[str, str] | None = None
) -> Finished:
    """Runs it; the decks, which go with the run, are kept in `home`/decks.

    through: a command that runs the one it is given. variables: the environment, if not `environment(home)`.
    """
    arguments, ended = [*through, *command(overrides)], threading.Event()
    variables = variables or environment(home)
    decks = threading.Thread(target=_keep_decks, args=(home, ended))
    decks.start()
    try:
        with subprocess.Popen(
            arguments, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            watch = Watch(process.pid)
            try:
                out, err = process.communicate(timeout=900)
            finally:
                process.kill()
    finally:
        ended.set()
        decks.join()
    done = Finished(arguments, process.returncode, out, err)
    done.watch = watch
    return done


def _keep_decks(home: Path, ended: threading.Event) -> None:
    kept = home / "decks"
    kept.mkdir(exist_ok=True)
    while not ended.wait(0.5):
        for deck in (home / "tmp").glob("flyte-*/sandbox/local_flytekit/*/deck.html"):
            with contextlib.suppress(FileNotFoundError):  # the run is over
                shutil.copyfile(deck, kept / f"{deck.parent.name}.html")


def made(home: Path) -> dict[str, dict]:
    """Ledger records by `step/key`."""
    records = (json.loads(path.read_text()) for path in (home / "store" / "_ledger").glob("*/*.json"))
    return {f"{record['step']}/{record['identity'][:16]}": record for record in records}


def losses(home: Path) -> dict[str, list[float]]:
    """The loss curve of every checkpoint, by artifact."""
    curves = {}
    for name in (name for name, record in made(home).items() if record["step"] == "checkpoint"):
        lines = (home / "store" / name / "attachments" / "metrics.jsonl").read_text().splitlines()
        curves[name] = [json.loads(line)["loss"] for line in lines]
    return curves


def noted() -> list[list[str]]:
    """From here on of every task that runs in this process its name and what its pod is. Those that start workers have
    an `execute` of their own, so the call before that is what is looked at."""
    from flytekit.core.base_task import PythonTask

    ran: list[list[str]] = []
    dispatch = PythonTask.dispatch_execute

    def looked_at(self: Any, *given: Any) -> Any:
        task = getattr(self, "python_function_task", self)  # of a map task
        ran.append([self.name, task.pod_template.labels["app.kubernetes.io/component"]])
        return dispatch(self, *given)

    PythonTask.dispatch_execute = looked_at
    return ran
