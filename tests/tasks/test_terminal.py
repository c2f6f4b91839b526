"""What a person reads when `pyflyte run` ends badly: one message and nothing around it, but the traceback of a bug."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.servers import on_small_disk
from tests.smoke import PYFLYTE, ROOT, command, environment
from tests.tasks.test_elastic import TASKS

FRAMES = ("Traceback", "│", "W1", "E1")  # Python's, those of pyflyte, and log lines of torch
SCRIPT = (
    TASKS
    + """
from k2model.settings import home

@task
def fill() -> str:
    with (home() / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    return ""

@workflow
def fill_disk() -> str:
    return fill()

@task(task_config=ELASTIC)
def fill_together() -> str:
    from k2model.training.world import World
    world = World.from_environment()
    with world.joined():
        if world.first:
            fill.task_function()
        import torch
        import torch.distributed as dist
        dist.all_reduce(torch.ones(3))
    return ""

@workflow
def fill_disk_together() -> str:
    return fill_together()

@task
def has_a_bug() -> str:
    return str(1 // 0)

@workflow
def bug() -> str:
    return has_a_bug()
"""
)
GATE = """
from flytekit import workflow
from k2model.artifacts import ArtifactRef, Store
from k2model.settings import home
from tasks.steps import gather_and_show, list_parts, make_parts
from tests.tasks.test_gates import told
from tests.validation.gates import as_artifact
from tests.validation.tokens.conftest import clean_shards, tokens_of

shards = clean_shards()
shards["train/prose/00001"][7]["id"] = shards["heldout/prose/00000"][2]["id"]
store = Store.open(home() / "store")
where = told(store, as_artifact(store, "tokens", tokens_of(shards, home() / "bad")))
identity, shares = list_parts.task_function(**where)
made = [make_parts.task_function(**where, identity=identity, share=share) for share in shares]

@workflow
def gate() -> ArtifactRef:
    return gather_and_show(**where, identity=identity, made=made)
"""


def start(home: Path, arguments: list[str], script: str = SCRIPT, **variables: str) -> subprocess.Popen[str]:
    """`pyflyte run` of a workflow of the script, in a session of its own."""
    (home / "script.py").write_text(script)
    return subprocess.Popen(
        [str(PYFLYTE), "run", str(home / "script.py"), *arguments],
        cwd=home,
        env=environment(home) | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A suite that was started in the background has SIGINT ignored, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def said(process: subprocess.Popen[str], status: int) -> list[str]:
    """What it wrote to stderr, line by line, after checking how it ended."""
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == status, err
    assert not any(mark in out for mark in FRAMES), out
    return err.splitlines()


def test_a_mistyped_override_is_told_in_one_line_and_its_traceback_with_a_setting(tmp_path: Path) -> None:
    overrides = {"phases.sft.optimizer.lrr": 1e-4}
    run = [*command(overrides)]
    result = subprocess.run(run, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == (
        "OverrideError: override 'phases.sft.optimizer.lrr': unknown name 'lrr'; did you mean 'lr'? There are name, "
        "lr, beta1, beta2, eps, weight_decay, grad_clip, muon_momentum, muon_newton_schulz_steps\n"
    )
    assert result.stdout.split() == ["Running", "Execution", "on", "local."]
    asked = environment(tmp_path) | {"K2_TRACEBACK": "1"}
    result = subprocess.run(run, cwd=ROOT, env=asked, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "Traceback" in result.stdout and "_known(parts" in result.stdout and "did you mean 'lr'?" in result.stdout


def test_overrides_that_are_no_object_are_told_in_one_line(tmp_path: Path) -> None:
    run = [*command()[:-1], "[1]"]
    result = subprocess.run(run, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        '--overrides=[1] is no JSON object; give dotted fields with their values, as {"phases.sft.steps": 99}\n'
    )


def test_a_mistyped_workflow_is_told_in_one_line(tmp_path: Path) -> None:
    run = [str(PYFLYTE), "run", "workflows/lifecycle.py", "full_lifecicle"]
    result = subprocess.run(run, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(
        r"Task/Workflow 'full_lifecicle' not found in module 'workflows.lifecycle'; did you mean 'full_lifecycle'\? "
        r"There are .*\n", result.stderr,
    )  # fmt: skip


def test_a_failed_gate_is_told_alone(tmp_path: Path) -> None:
    lines = said(start(tmp_path, ["gate"], GATE), 1)
    told = [line for line in lines if not re.match(r"\d\d:\d\d:\d\d  ", line)]  # but for the progress
    assert told[0].startswith("ValidationFailed: The tokens breaks 1 expectation of severity 'stop'")
    assert "ids_unique" in told[1] and not any(mark in line for line in told for mark in FRAMES)


def test_an_error_of_a_worker_is_told_alone(tmp_path: Path) -> None:
    lines = said(start(tmp_path, ["run", "--fails", "late ours"]), 1)
    told = [line for line in lines if "hello from" not in line and not line.startswith("[rank 0]")]
    assert told == ["WorkerFailed: script.work: rank 1: K2Error: shard y.arrow is corrupt; delete it"]


def test_a_killed_worker_is_told_alone_and_what_to_do(tmp_path: Path) -> None:
    lines = said(start(tmp_path, ["run", "--fails", "late kill"]), 1)
    (told,) = [line for line in lines if "hello from" not in line]
    assert told.startswith("script.work: rank ") and told.endswith("Run the same command again")
    assert "newest checkpoint" in told  # whether the kill or the connection that it cut was seen first


def test_with_the_setting_a_workers_error_has_its_traceback(tmp_path: Path) -> None:
    process = start(tmp_path, ["run", "--fails", "ours"], K2_TRACEBACK="1")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and 'raise K2Error("shard x.arrow is corrupt; delete it")' in out


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    process = start(tmp_path, ["bug"])
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "return str(1 // 0)" in out and "ZeroDivisionError" in out


def test_an_interrupt_is_told_in_one_line(tmp_path: Path) -> None:
    process = start(tmp_path, ["run", "--fails", "wait"])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("joined-*"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    lines = said(process, 130)
    assert [line for line in lines if "hello from" not in line] == [
        "Interrupted. Run the same command again to go on; what is finished is kept."
    ]


@pytest.mark.parametrize("workflow", ["fill_disk", "fill_disk_together"])
def test_a_full_disk_is_told_in_one_line(tmp_path: Path, workflow: str) -> None:
    """Nothing else can be written there either: error files of the workers, the cache, decks."""
    disk, script = tmp_path / "disk", tmp_path / "script.py"
    script.write_text(SCRIPT)
    places = environment(tmp_path) | {"K2_HOME": str(disk), "TMPDIR": str(disk)}
    run = on_small_disk(disk, "2m", [str(PYFLYTE), "run", str(script), workflow])
    result = subprocess.run(run, cwd=tmp_path, env=places, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1, result.stderr
    line = result.stderr
    assert f"Nothing more can be written on {disk} (0.0 of 2 MB free), for K2_HOME ({disk})" in line
    assert "OSError: [Errno 28] No space left on device" in line
    assert not any(mark in result.stdout for mark in FRAMES), result.stdout
