"""Attempts that die before they have saved anything: how many of them there may be, and what does not count as one."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts.files import Files, LocalFiles
from k2model.errors import CrashLoop
from k2model.training.crash_loop import Ending, begin, note
from k2model.training.world import World
from tests.training.job import Spec, metrics, phase, run
from tests.training.workers import run_workers

LIMIT = 2
CHANGES: dict[str, Any] = {"precision": "fp32", "checkpoints": {"save_every": 4, "attempts_without_progress": LIMIT}}
PHASE = phase(**CHANGES)


def attempt(world: World, spec: Spec, dies_at: int | None) -> str:
    """Train; the process kills itself before that step. What it fails with, "" when it is done."""
    from k2model.training.loop import TrainingLoop

    take = TrainingLoop._take

    def or_die(self: TrainingLoop, step: int, *arguments: Any) -> None:
        if step == dies_at:
            self.callbacks.saver.finish()  # type: ignore[attr-defined]  # what it began to save would be a matter of luck
            os.kill(os.getpid(), signal.SIGKILL)
        take(self, step, *arguments)

    TrainingLoop._take = or_die  # type: ignore[method-assign]
    try:
        run(spec)
    except CrashLoop as error:
        return str(error)
    return ""


def test_attempts_that_die_at_the_same_step_are_ended_and_those_that_get_on_are_not(
    tmp_path: Path, world: World
) -> None:
    spec = {"store": str(tmp_path / "store"), "phase": CHANGES}

    def killed(at: int) -> None:
        number = len(list(tmp_path.glob("job-*")))
        run_workers(1, tmp_path / f"job-{number}", attempt, spec, at, killed=True)

    for step in (5, 9):  # each behind a checkpoint of its own
        killed(step)
    for _ in range(LIMIT):  # which begin at 8 and come to nothing
        killed(9)
    [said] = run_workers(1, tmp_path / "refused", attempt, spec, None)
    assert said.startswith(f"phase 'pretrain': {LIMIT} attempts in a row since 2")
    assert "began at step 8 of 12" in said and f"{LIMIT} x without a word: killed, or its node was lost" in said
    assert "Then run the same command again" in said

    made = run(spec)  # as it says
    assert [row["step"] for row in metrics(made)] == list(range(12))
    calm = run({"store": str(tmp_path / "calm"), "phase": CHANGES})
    assert made.digest == calm.digest
    assert not Path(made.uri, "attempts").exists()


def attempts(files: Files, step: int, *endings: Ending | None) -> None:
    for ending in endings:
        number = begin(files, PHASE, step)
        if ending is not None:
            note(files, number, ending, f"because of {ending.value}")


def test_attempts_that_were_told_to_stop_do_not_count(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    attempts(files, 4, Ending.STOPPED, None, *[Ending.STOPPED] * 6, Ending.FAILED)
    with pytest.raises(
        CrashLoop, match=r"(?s)2 attempts .* at step 4 of 12.*1 x because of failed\n  1 x without a word"
    ):
        begin(files, PHASE, 4)


def test_a_node_that_failed_says_more_than_one_that_was_told_to_stop_for_it(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    for _ in range(LIMIT):
        number = begin(files, PHASE, 0)
        for ending, text in ((Ending.STOPPED, "SIGTERM"), (Ending.FAILED, "the cause"), (Ending.FAILED, "its effect")):
            note(files, number, ending, text)
    with pytest.raises(CrashLoop, match="2 x the cause\n"):
        begin(files, PHASE, 0)


def test_an_error_that_is_not_tried_again_is_no_loop(tmp_path: Path) -> None:
    """A person has read it, and comes back."""
    files = LocalFiles(tmp_path)
    attempts(files, 0, *[Ending.FINAL] * 4, None)
    attempts(files, 4, None, None)
    assert len(list((tmp_path / "attempts").glob("*.json"))) == 2, "of those before nothing is kept"


def test_none_is_too_many_where_the_recipe_says_so(tmp_path: Path) -> None:
    files, patient = LocalFiles(tmp_path), phase(checkpoints={"save_every": 4, "attempts_without_progress": 0})
    assert [begin(files, patient, 0) for _ in range(9)] == list(range(1, 10))
