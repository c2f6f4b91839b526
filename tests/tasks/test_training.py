"""Kills and preemption through the Flyte tasks: whatever happens when, the weights are those of a calm run."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers import listeners
from tests.smoke import ROOT
from tests.tasks.training_run import PHASES, STEPS

PAUSE = 0.05  # seconds a step takes at least

LOGS = "*/metrics.jsonl"  # in `progress/`, and of a finished phase in `attachments/`


class Run:
    """The phases' tasks, one after the other, in a process of its own session."""

    def __init__(self, home: Path, pause: float = PAUSE) -> None:
        self.home = home
        home.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.tasks.training_run", str(home / "store"), str(pause)],
            cwd=ROOT,
            env=os.environ | {"K2_RECIPE": "smoke", "K2_HOME": str(home), "HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=(home / "stderr.txt").open("a"),
            text=True,
            start_new_session=True,
        )

    def wait_for(self, phase: str, step: int) -> None:
        """Until the phase has logged `step` steps."""
        deadline = time.monotonic() + 120
        while self.logged(phase) < step:
            assert self.process.poll() is None, (self.home / "stderr.txt").read_text()[-3000:]
            assert time.monotonic() < deadline, f"{phase} did not come to step {step}"
            time.sleep(0.02)

    def folder(self, phase: str) -> Path | None:
        """The checkpoint artifact of a phase: the parents' order tells them apart."""
        folders = sorted((self.home / "store/checkpoint").glob("*"), key=lambda path: path.stat().st_ctime_ns)
        position = list(PHASES).index(phase)
        begun = [path for path in folders if any(path.glob(LOGS))]
        return begun[position] if len(begun) > position else None

    def logged(self, phase: str) -> int:
        folder = self.folder(phase)
        return next(folder.glob(LOGS)).read_bytes().count(b"\n") if folder else 0

    def note(self, phase: str, ending: str) -> str:
        """How the attempt at a phase ended, as its agent has left it in the store."""
        folder = self.folder(phase)
        assert folder is not None
        [path] = folder.glob(f"attempts/*.{ending}.json")
        return str(json.loads(path.read_text())["text"])

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children]

    def digests(self) -> dict[str, str]:
        output, _ = self.process.communicate(timeout=300)
        assert self.process.returncode == 0, (self.home / "stderr.txt").read_text()[-3000:]
        made: dict[str, str] = json.loads(output.splitlines()[-1])
        return made


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    digests = Run(tmp_path_factory.mktemp("calm"), pause=0.0).digests()
    assert list(digests) == list(PHASES)
    return digests


def moments(seed: int) -> dict[str, int]:
    """A step of each phase, anywhere in it."""
    return {name: random.Random(f"{seed} {name}").randrange(1, STEPS) for name in PHASES}


@pytest.mark.parametrize("seed", [0, 1])
def test_kills_at_any_moment_of_every_phase_change_nothing(calm: dict[str, str], tmp_path: Path, seed: int) -> None:
    """Seed 0 kills one worker each time, whose job then ends and asks for a retry; seed 1 everything at once."""
    for name, step in moments(seed).items():
        run = Run(tmp_path / "home")
        run.wait_for(name, step)
        if seed:
            os.killpg(run.process.pid, signal.SIGKILL)
            run.process.wait()
        else:
            os.kill(random.Random(seed).choice(run.workers()), signal.SIGKILL)
            assert run.process.wait(60) != 0
            assert "killed" in run.note(name, "failed"), "for whoever counts attempts that come to nothing"
    if not seed:
        said = " ".join((tmp_path / "home/stderr.txt").read_text().split())
        assert said.count("retry goes on at the newest checkpoint") >= len(PHASES) and "Recoverable" in said
    assert Run(tmp_path / "home").digests() == calm


def test_sigterm_saves_where_it_was_and_asks_for_a_retry(calm: dict[str, str], tmp_path: Path) -> None:
    for name, step in {"mid_1": 3, "sft": 15}.items():
        run = Run(tmp_path / "home")
        run.wait_for(name, step)
        assert {address for address, _ in listeners(run.process.pid)} <= {"127.0.0.1", "::1"}
        run.process.send_signal(signal.SIGTERM)
        run.process.wait(60)
        assert run.process.returncode not in (0, -signal.SIGTERM)
        said = " ".join((tmp_path / "home/stderr.txt").read_text().split())
        assert "Recoverable" in said and f"tasks.training.train_{name} was told to stop (SIGTERM)" in said
        folder = run.folder(name)
        assert folder is not None
        saved = max(int(path.parent.name.removeprefix("step-")) for path in folder.glob("checkpoints/*/manifest.json"))
        assert run.note(name, "stopped")
        assert saved >= step, "a checkpoint of its own: the regular ones are every 7 steps"
    assert Run(tmp_path / "home").digests() == calm
    said = (tmp_path / "home/stderr.txt").read_text()
    assert "going on from step" in said
