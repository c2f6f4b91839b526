"""Elastic tasks as Flyte runs them here: two forked workers, and what they say when one fails."""

import json
import subprocess
import sys
from pathlib import Path

from tasks._elastic import _tell
from tests.training.test_failures import fail

ROOT = Path(__file__).parents[2]

TASKS = """
import os
import signal
import sys
from flytekit import workflow
from tasks._platform import RENDEZVOUS
from tasks._elastic import TorchElastic
from flytekit import task
from k2model.errors import K2Error

ELASTIC = TorchElastic(
    nnodes=1, nproc_per_node=2, start_method="fork", monitor_interval=0.1, rdzv_configs=RENDEZVOUS, max_restarts=1
)

@task(task_config=ELASTIC)
def work(fails: str) -> str:
    from k2model.training.world import World
    rank = os.environ["RANK"]
    if rank == "1" and fails == "ours":
        raise K2Error("shard x.arrow is corrupt; delete it")
    if rank == "1" and fails == "bug":
        raise ZeroDivisionError("a bug")
    world = World.from_environment()
    with world.joined():
        print(f"hello from {rank}", file=sys.stderr)
        if fails.startswith("late"):
            import torch
            import torch.distributed as dist
            dist.all_reduce(torch.ones(3))
            if rank == "1" and fails == "late ours":
                raise K2Error("shard y.arrow is corrupt; delete it")
            if rank == "1" and fails == "late bug":
                raise ZeroDivisionError("a late bug")
            if rank == "1" and fails == "late kill":
                os.kill(os.getpid(), signal.SIGKILL)
            dist.all_reduce(torch.ones(3))
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
    assert {"hello from 0", "[rank 1] hello from 1"} <= set(result.stderr.splitlines())


def test_an_error_of_ours_is_told_in_its_own_words(tmp_path):
    result = run(tmp_path, "ours")
    assert result.returncode != 0
    assert "WorkerFailed" in result.stderr and "rank 1: K2Error: shard x.arrow is corrupt; delete it" in result.stderr


def test_a_bug_keeps_its_traceback(tmp_path):
    result = run(tmp_path, "bug")
    assert result.returncode != 0
    assert "ZeroDivisionError: a bug" in result.stderr and "WorkerFailed" not in result.stderr


def told(result: subprocess.CompletedProcess[str]) -> str:
    """What the failed run says at its very end, on one line."""
    assert result.returncode != 0
    said = " ".join(result.stderr.split())
    return said[said.rindex("script.work: rank") :]


def test_of_an_error_of_ours_the_others_lost_connection_comes_second(tmp_path):
    message = told(run(tmp_path, "late ours"))
    assert "rank 1: K2Error: shard y.arrow is corrupt; delete it" in message
    assert "[rank 1]" not in message
    if "[rank 0]" in message:  # unless it was stopped before it noticed
        assert message.index("rank 1: K2Error") < message.index("[rank 0]")
        assert "s later: lost its connection to a worker" in message


def test_of_a_bug_the_traceback_of_whoever_failed_first_comes_first(tmp_path):
    result = run(tmp_path, "late bug")
    message = told(result)
    assert "rank 1: failed first" in message and "ZeroDivisionError: a late bug" in message
    assert "raise ZeroDivisionError" in message
    assert "Connection closed" not in result.stderr, "what it did to the other worker is told in a word"


def test_a_killed_worker_is_named_and_a_retry_asked_for(tmp_path):
    result = run(tmp_path, "late kill")
    message = told(result)
    assert "FlyteRecoverableException" in result.stderr
    assert "killed" in message and "retry goes on at the newest checkpoint" in message


def test_a_connection_lost_to_a_worker_without_a_word_asks_for_a_retry(tmp_path, monkeypatch):
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    def seen_by_agent(attempt: Path) -> ChildFailedError:
        path = fail(monkeypatch, attempt, 0, RuntimeError("gloo: Connection closed by peer [127.0.0.1]:4505"))
        own = {"message": "RuntimeError", "extraInfo": {"py_callstack": "", "timestamp": "1"}}
        Path(path).write_text(json.dumps({"message": own}))  # torch elastic's own account of it
        return ChildFailedError("work", {0: ProcessFailure(local_rank=0, pid=1, exitcode=1, error_file=path)})

    lost = _tell(seen_by_agent(tmp_path / "attempt_0"))
    assert lost is not None and lost.passing and "a worker that left no word" in lost.text
    fail(monkeypatch, tmp_path / "attempt_1", 1, ZeroDivisionError("a bug"))
    pulled_down = _tell(seen_by_agent(tmp_path / "attempt_1"))
    assert pulled_down is not None and not pulled_down.passing
    assert pulled_down.text.startswith("rank 1: failed first\nTraceback")
    assert pulled_down.text.splitlines()[-1].startswith("[rank 0] 0.")
