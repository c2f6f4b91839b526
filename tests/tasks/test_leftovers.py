"""What a command leaves behind, compared before and after: no temporary file and no process, however it ends; after
SIGKILL once the next command has run."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.tasks.test_elastic import TASKS
from tests.tasks.test_terminal import start

MARK = "K2_TEST_LEFTOVERS"  # in the environment of all processes of a test's commands
SECONDS = 240.0  # within which each thing happens, also on a machine that has much to do

SCRIPT = f"""{TASKS}
from tempfile import NamedTemporaryFile, mkdtemp
from k2model.artifacts.steps import map_in_processes

@task
def pool(seconds: float) -> int:
    mkdtemp(prefix="of-a-library-")
    return len(map_in_processes(time.sleep, [seconds] * 4, 2))

@workflow
def everything() -> str:
    pool(seconds=0.1)
    return work(fails="")

@workflow
def parts() -> int:
    return pool(seconds=600.0)
"""


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.setenv(MARK, str(tmp_path))
    (tmp_path / "tmp").mkdir()
    yield left(tmp_path)
    for process in processes(tmp_path):
        process.kill()


def processes(home: Path) -> list[psutil.Process]:
    """All of a test's commands, workers and trackers, whoever is their parent now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def left(home: Path) -> list[str]:
    """Temporary files, by name."""
    return sorted(path.name for path in (home / "tmp").iterdir())


def shared(home: Path) -> set[Path]:
    """Files in shared memory that its processes have in use."""
    maps = [one.path for process in processes(home) for one in process.memory_maps()]
    return {Path(path) for path in maps if path.startswith("/dev/shm/") and Path(path).exists()}


def gone(home: Path) -> bool:
    """Whether no process is left, some time after the command has ended."""
    deadline = time.monotonic() + SECONDS
    while processes(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not processes(home)


def wait_for_workers(home: Path, process: subprocess.Popen[str], count: int) -> set[Path]:
    """Until the command has started them, and they are at work; gives what they have in shared memory."""
    deadline = time.monotonic() + SECONDS
    while len([one for one in processes(home) if one.pid != process.pid]) < count or not ready(home, count):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.05)
    return shared(home)


def ready(home: Path, count: int) -> bool:
    return count == 3 or len(list(home.glob("joined-*"))) == count


@pytest.mark.parametrize(("arguments", "status"), [(["everything"], 0), (["run", "--fails", "late ours"], 1)])
def test_a_command_that_ends_leaves_nothing(
    tmp_path: Path, before: list[str], arguments: list[str], status: int
) -> None:
    process = start(tmp_path, arguments, SCRIPT)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == status, err
    assert gone(tmp_path)
    assert left(tmp_path) == before


#: A workflow that waits in the midst of its work, and how many processes it has beside its own.
WAITING = {"elastic": (["run", "--fails", "wait"], 2), "parts": (["parts"], 3)}


@pytest.mark.parametrize("name", WAITING)
def test_an_interrupted_command_leaves_nothing(tmp_path: Path, before: list[str], name: str) -> None:
    arguments, count = WAITING[name]
    process = start(tmp_path, arguments, SCRIPT)
    in_memory = wait_for_workers(tmp_path, process, count)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert gone(tmp_path)
    assert left(tmp_path) == before and not [path for path in in_memory if path.exists()]


def test_a_killed_command_leaves_no_process_and_the_next_removes_its_files(tmp_path: Path, before: list[str]) -> None:
    """The command alone is killed, as the kernel does that is out of memory; one that lives is spared."""
    for arguments, count in WAITING.values():
        process = start(tmp_path, arguments, SCRIPT)
        in_memory = wait_for_workers(tmp_path, process, count)
        process.kill()
        process.communicate()
        assert gone(tmp_path), [one.cmdline() for one in processes(tmp_path)]
        assert not [path for path in in_memory if path.exists()]
        assert left(tmp_path) != before
        for joined in tmp_path.glob("joined-*"):
            joined.unlink()
    lives = start(tmp_path, *WAITING["elastic"][:1], SCRIPT)
    wait_for_workers(tmp_path, lives, 2)
    (held,) = [name for name in left(tmp_path) if name.startswith("k2-run-")]
    process = start(tmp_path, ["run", "--fails", "late ours"], SCRIPT)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert held in left(tmp_path)
    (tmp_path / "go").touch()
    _, err = lives.communicate(timeout=SECONDS)
    assert lives.returncode == 0, err
    assert gone(tmp_path)
    assert left(tmp_path) == before
