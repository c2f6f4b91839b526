"""Elastic tasks as Flyte runs them here: two forked workers, and what they say when one fails."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

TASKS = """
import os
from flytekit import workflow
from tasks._platform import RENDEZVOUS
from tasks._elastic import TorchElastic
from flytekit import task
from k2model.errors import K2Error

ELASTIC = TorchElastic(nnodes=1, nproc_per_node=2, start_method="fork", monitor_interval=0.1, rdzv_configs=RENDEZVOUS)

@task(task_config=ELASTIC)
def work(fails: str) -> str:
    rank = os.environ["RANK"]
    if rank == "1" and fails == "ours":
        raise K2Error("shard x.arrow is corrupt; delete it")
    if rank == "1" and fails == "bug":
        raise ZeroDivisionError("a bug")
    return f"rank {rank} of {os.environ['WORLD_SIZE']}"

@workflow
def run(fails: str) -> str:
    return work(fails=fails)
"""


def run(tmp_path: Path, fails: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(TASKS + f"\nif __name__ == '__main__':\n    print(run(fails={fails!r}))\n")
    return subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "K2_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_answer_is_rank_zeros(tmp_path):
    result = run(tmp_path, "")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "rank 0 of 2"


def test_an_error_of_ours_is_told_in_its_own_words(tmp_path):
    result = run(tmp_path, "ours")
    assert result.returncode != 0
    assert "WorkerFailed" in result.stderr and "rank 1: K2Error: shard x.arrow is corrupt; delete it" in result.stderr


def test_a_bug_keeps_its_traceback(tmp_path):
    result = run(tmp_path, "bug")
    assert result.returncode != 0
    assert "ZeroDivisionError: a bug" in result.stderr and "WorkerFailed" not in result.stderr
