"""Elastic tasks as Flyte runs them here: two forked workers, and what they say when one fails."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from k2model.errors import K2Error
from k2model.training.crash_loop import Ending
from tasks._elastic import TorchElastic, _tell
from tests.servers import listeners
from tests.training.test_failures import fail

ROOT = Path(__file__).parents[2]

TASKS = """
import os
import signal
import sys
import time
from pathlib import Path
from flytekit import Deck, current_context, workflow
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
        sys.stderr.write(f"hello from {rank}\\n")  # in one piece: lines of two workers do not mix
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
        if fails == "wait":
            Path(f"joined-{rank}").touch()
            while not Path("go").exists():
                time.sleep(0.02)
    return f"rank {rank} of {os.environ['WORLD_SIZE']}"

@task(enable_deck=True)
def show() -> int:
    Deck("page", "of the workflow")
    return 0

@task(enable_deck=True)
def pages() -> int:
    return [deck.name for deck in current_context().decks].count("page")

@workflow
def run(fails: str) -> str:
    return work(fails=fails)

@workflow
def run_twice() -> int:
    show()
    work(fails="")
    work(fails="")
    return pages()
"""


def start(tmp_path: Path, fails: str, **environment: str) -> subprocess.Popen[str]:
    script = tmp_path / "script.py"
    script.write_text(TASKS + f"\nif __name__ == '__main__':\n    print(run(fails={fails!r}))\n")
    places = {"HOME": str(tmp_path), "K2_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    return subprocess.Popen(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"} | places | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(tmp_path: Path, fails: str) -> subprocess.CompletedProcess[str]:
    process = start(tmp_path, fails)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_the_answer_is_rank_zeros(tmp_path):
    result = run(tmp_path, "")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "rank 0 of 2"
    assert {"hello from 0", "[rank 1] hello from 1"} <= set(result.stderr.splitlines())


def test_pages_do_not_double_with_every_job(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"{TASKS}\nprint('pages', run_twice())\n")
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "K2_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "pages 1", done.stderr


ATTACK = """
import base64, os, pickle, sys
from datetime import timedelta
from torch.distributed import TCPStore

class Planted:
    def __reduce__(self):
        return os.system, ("touch executed",)

print("trying", flush=True)
store = TCPStore(sys.argv[1], int(sys.argv[2]), timeout=timedelta(seconds=1), wait_for_workers=False)
store.set("torch.rendezvous.local", base64.b64encode(pickle.dumps(Planted())))
print("written", flush=True)
"""


def test_nobody_else_can_talk_to_a_job_of_one_node(tmp_path):
    """Its agents' rendezvous used to unpickle what anyone wrote to it, and listened on every interface."""
    process = start(tmp_path, "wait", GLOO_SOCKET_IFNAME="no such interface")
    try:
        while len(list(tmp_path.glob("joined-*"))) < 2:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
        found = listeners(process.pid)
        assert found and {address for address, _ in found} <= {"127.0.0.1", "::1"}
        folder = next(tmp_path.glob("k2-job-*/k2-workers-*"))
        assert folder.stat().st_mode & 0o777 == 0o700
        attacks = [
            subprocess.Popen([sys.executable, "-c", ATTACK, address, str(port)], stdout=subprocess.PIPE, text=True)
            for address, port in set(found)
        ]
        assert all(attack.stdout is not None and attack.stdout.readline() == "trying\n" for attack in attacks)
        time.sleep(7)  # torch elastic looks at its rendezvous every 5 s
        for attack in attacks:
            attack.kill()  # it may still wait for an answer
            assert "written" not in attack.communicate()[0]
        assert not (tmp_path / "executed").exists()
        (tmp_path / "go").touch()
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "rank 0 of 2", "strangers' connections do not disturb the workers"
    assert not folder.exists()


def test_a_job_of_several_nodes_is_not_begun_on_one_machine(tmp_path, monkeypatch):
    from flytekit import task

    monkeypatch.delenv("PET_NNODES", raising=False)

    @task(task_config=TorchElastic(nnodes=2, nproc_per_node=1))
    def wide() -> str:
        return ""

    with pytest.raises(K2Error, match=r"a job of 2 nodes.*register the workflow there"):
        wide()


def test_an_error_of_ours_is_told_in_its_own_words(tmp_path):
    result = run(tmp_path, "ours")
    assert result.returncode != 0
    assert "WorkerFailed" in result.stderr and "rank 1: K2Error: shard x.arrow is corrupt; delete it" in result.stderr


def test_a_bug_keeps_its_traceback(tmp_path):
    result = run(tmp_path, "bug")
    assert result.returncode != 0
    assert 'raise ZeroDivisionError("a bug")' in result.stderr and "ZeroDivisionError: a bug" in result.stderr
    assert "[rank 0]" not in result.stderr, "which was only stopped"


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
        fail(monkeypatch, attempt, 0, RuntimeError("gloo: Connection closed by peer [127.0.0.1]:4505"))
        return ChildFailedError("work", {0: ProcessFailure(local_rank=0, pid=1, exitcode=1, error_file="<N/A>")})

    lost = _tell(seen_by_agent(tmp_path / "0"), tmp_path / "0")
    assert lost is not None and lost.ending is Ending.FAILED and "a worker that left no word" in lost.text
    fail(monkeypatch, tmp_path / "1", 1, ZeroDivisionError("a bug"))
    pulled_down = _tell(seen_by_agent(tmp_path / "1"), tmp_path / "1")
    assert pulled_down is not None and pulled_down.ending is Ending.FINAL
    assert pulled_down.text.startswith("rank 1: failed first\nTraceback")
    assert pulled_down.text.splitlines()[-1].startswith("[rank 0] 0.")
