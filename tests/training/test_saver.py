"""Saving beside training: what is in the file, what a store that fails costs, what stays."""

import math
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from k2model.artifacts import LeaseLost, StoreWriteError
from k2model.artifacts.files import LocalFiles
from k2model.recipe.schema import CheckpointConfig
from k2model.training.checkpoint import (
    FINAL,
    discard_after,
    discard_final,
    list_checkpoints,
    newest_checkpoint,
    read_checkpoint,
    step_folder,
)
from k2model.training.saver import Saver
from k2model.training.world import World
from tests.training.faulty import FaultyFiles, Values, progress
from tests.training.workers import run_workers

WORLD = World()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2model.training.background.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("k2model.training.background.LONGEST_PAUSE", 0.01)


def config(**changes: float) -> CheckpointConfig:
    return CheckpointConfig(**{"save_every": 1, "keep_last": 3, "save_deadline_seconds": 60.0} | changes)  # type: ignore[arg-type]


def value_of(files: LocalFiles, folder: str) -> float:
    return read_checkpoint(files.at(folder)).tensors["model.w"][0].item()


def is_gone(folder: Path) -> bool:
    """Whether no file is below; the folder may go while one looks, which `glob` does not take."""
    return not any(files for _, _, files in os.walk(folder))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def fails(saver: Saver) -> bool:
    """Whether its last attempt at the save in flight failed."""
    return any(saver.report()[2:])


class Run:
    """A training of one tensor whose value is the step, on a store that can fail."""

    def __init__(self, folder: Path, part: str = "", failures: float = 0, **changes: float) -> None:
        self.local = LocalFiles(folder)
        self.files = FaultyFiles(self.local, part, failures)
        self.w = torch.zeros(1000)
        self.state = Values({"model.w": self.w})
        self.saver = Saver(self.files, WORLD, config(**changes))

    def begin(self, step: int, folder: str | None = None) -> None:
        self.w.fill_(step)
        self.saver.begin(folder or step_folder(step), self.state, progress(step))

    def poll(self) -> None:
        """As training does after a step, of one worker alone."""
        self.saver.act_on(self.saver.report())

    def saved(self) -> list[int]:
        return [step for step, _ in list_checkpoints(self.local)]


def test_the_file_holds_the_values_of_the_beginning(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.files.open.clear()
    run.begin(7)
    assert run.saver.report() == [0, 0, 0, 0]
    run.w.fill_(8)  # training goes on while the store takes its time
    run.poll()
    assert not run.saved()
    run.files.open.set()
    wait_until(lambda: run.saver.report() == [1, 0, 0, 0])
    assert not run.saved(), "nothing counts before all workers have written"
    run.saver.finish()
    assert run.saved() == [7]
    assert value_of(run.local, step_folder(7)) == 7


def test_polling_publishes_without_waiting(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.begin(1)
    wait_until(lambda: run.poll() or run.saved() == [1])  # type: ignore[func-returns-value]


@pytest.mark.parametrize("part", ["rank-", "state.json", "manifest.json"])
def test_a_store_that_recovers_costs_nothing(tmp_path: Path, part: str, capfd: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path, part, failures=5)
    run.begin(1)
    run.saver.finish()
    assert run.saved() == [1] and value_of(run.local, step_folder(1)) == 1
    said = capfd.readouterr().err
    assert said.count("No space left on device") == 1, "loud, once"
    assert "succeeded after all" in said


def test_a_checkpoint_to_resume_from_is_dropped_for_the_newer_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path, "step-0000002", failures=math.inf)
    run.begin(1)
    run.saver.finish()
    run.begin(2)
    wait_until(lambda: fails(run.saver))
    run.begin(3)
    run.saver.finish()
    assert run.saved() == [1, 3] and value_of(run.local, step_folder(3)) == 3
    assert "checkpoints/step-0000002" in capfd.readouterr().err
    assert not list(tmp_path.glob("checkpoints/step-0000002/*"))


def test_what_was_written_of_a_dropped_checkpoint_is_removed(tmp_path: Path) -> None:
    run = Run(tmp_path, "step-0000002/manifest", failures=math.inf)
    run.begin(2)
    wait_until(lambda: run.poll() or fails(run.saver))  # type: ignore[func-returns-value]
    assert list(tmp_path.glob("checkpoints/step-0000002/rank-*"))
    run.begin(3)
    wait_until(lambda: is_gone(tmp_path / "checkpoints/step-0000002"))
    run.saver.finish()
    assert run.saved() == [3]


@pytest.mark.parametrize("folder", [step_folder(4), FINAL])
def test_what_is_to_be_kept_is_waited_for_and_then_ends_training(tmp_path: Path, folder: str) -> None:
    run = Run(tmp_path, folder, failures=math.inf, keep_every=4, save_deadline_seconds=0.2)
    run.begin(4, folder)
    with pytest.raises(StoreWriteError, match=rf"{folder} of .* within 0.2 s .*No space left on device"):
        run.begin(5)
    run.begin(5)  # nothing is in flight any more


def test_a_kept_checkpoint_holds_the_next_one_up_until_the_store_recovers(tmp_path: Path) -> None:
    run = Run(tmp_path, "step-0000004", failures=20, keep_every=4)
    run.begin(4)
    run.begin(5)
    run.saver.finish()
    assert run.saved() == [4, 5] and value_of(run.local, step_folder(4)) == 4


def test_as_many_failures_in_a_row_as_checkpoints_are_kept_end_training(tmp_path: Path) -> None:
    run = Run(tmp_path, "checkpoints", failures=math.inf, keep_last=2, save_deadline_seconds=0.2)
    run.begin(1)
    wait_until(lambda: fails(run.saver))
    run.begin(2)  # the first one is dropped
    wait_until(lambda: fails(run.saver))
    with pytest.raises(StoreWriteError, match=r"step-0000002 .*keep_last=2"):
        run.begin(3)


def test_a_success_in_between_begins_the_count_anew(tmp_path: Path) -> None:
    run = Run(tmp_path, "checkpoints", keep_last=2)
    for step in range(1, 9):
        if step % 2:
            run.files.failures = math.inf
            run.begin(step)
            wait_until(lambda: fails(run.saver))
        else:
            run.files.failures = 1  # a success at the second attempt, once the one before is dropped
            run.begin(step)
            run.saver.finish()
    assert run.saved() == [6, 8]


def test_a_save_that_hangs_is_given_up_after_the_deadline(tmp_path: Path) -> None:
    run = Run(tmp_path, save_deadline_seconds=0.1)
    run.files.open.clear()
    run.begin(1)
    run.begin(2)  # a snapshot in memory of its own: the first one's may still be read
    run.files.open.set()
    run.saver.finish(60)
    assert value_of(run.local, step_folder(2)) == 2
    wait_until(lambda: run.saved() == [2] and is_gone(tmp_path / "checkpoints/step-0000001"))


def test_a_deadline_binds_a_synchronous_save(tmp_path: Path) -> None:
    run = Run(tmp_path, "rank-", failures=math.inf)
    with pytest.raises(StoreWriteError, match="within 0"):
        run.saver.save(step_folder(1), run.state, progress(1), deadline=0.1)


def test_what_no_attempt_can_mend_ends_training_at_once(tmp_path: Path) -> None:
    run = Run(tmp_path)

    def lost() -> None:
        raise LeaseLost("another process took over")

    run.saver.guard = lost
    run.begin(1)
    with pytest.raises(LeaseLost):
        run.saver.finish()
    assert not run.saved()


def test_the_newest_and_every_so_many_stay(tmp_path: Path) -> None:
    run = Run(tmp_path, keep_last=2, keep_every=4)
    for step in range(1, 11):
        run.begin(step)
    run.saver.finish()
    assert run.saved() == [4, 8, 9, 10]
    assert [value_of(run.local, folder) for _, folder in list_checkpoints(run.local)] == [4, 8, 9, 10]


def test_the_checkpoint_to_roll_back_to_stays(tmp_path: Path) -> None:
    run = Run(tmp_path, keep_last=1)
    for step in (1, 2, 3):
        run.begin(step)
    run.saver.finish()
    run.saver.rollback_before = 3  # a spike began at step 3
    for step in (4, 5, 6):
        run.begin(step)
    run.saver.finish()
    assert run.saved() == [3, 6]
    before = newest_checkpoint(run.local, "identity", WORLD, before=5)
    assert before is not None and before.progress.step == 3 and before.tensors["model.w"][0] == 3
    assert newest_checkpoint(run.local, "identity", WORLD, before=2) is None


def test_after_a_rollback_nothing_newer_is_left_and_the_step_can_be_saved_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for step in (1, 2):
        run.begin(step)
    run.saver.finish()
    run.files.open.clear()
    run.begin(3)
    release = threading.Timer(0.1, run.files.open.set)
    release.start()
    run.saver.discard_after(1)
    assert run.saved() == [1] and not list(tmp_path.glob("checkpoints/step-0000003/*"))
    run.begin(2)
    run.saver.finish()
    assert run.saved() == [1, 2]


def test_a_worker_that_was_taken_for_dead_removes_nothing_of_its_successors(tmp_path: Path) -> None:
    """Its successor may have finished the phase, whose `final/` lies where one of an earlier attempt would."""

    def lost() -> None:
        raise LeaseLost("another one took over")

    files = LocalFiles(tmp_path)
    for folder in (step_folder(4), FINAL):
        files.write(f"{folder}/manifest.json", b"{}")
    for discard in (partial(discard_after, files, 0), partial(discard_final, files)):
        with pytest.raises(LeaseLost):
            discard(lost)
    assert sorted(files.sizes()) == ["checkpoints/step-0000004/manifest.json", "final/manifest.json"]
    discard_final(files, lambda: None)
    discard_after(files, 3, lambda: None)
    assert not files.sizes()


def test_what_killed_saves_have_left_is_removed_by_a_later_one(tmp_path: Path) -> None:
    run = Run(tmp_path)
    half = tmp_path / step_folder(1)
    half.mkdir(parents=True)
    (half / "rank-00000-of-00002.safetensors").write_bytes(b"half")
    run.begin(2)
    run.saver.finish()
    assert run.saved() == [2] and not half.exists()


def one_of_two_fails(world: World, root: str) -> list[str]:
    """Rank 1's store refuses the checkpoints of steps 1 and 4; the latter is to be kept."""
    part = "step-0000001/rank-00001" if world.rank else "nothing"
    files = FaultyFiles(LocalFiles(root), part, math.inf)
    state = Values({"model.w": torch.ones(1001)}, world.rank, world.size)
    saver = Saver(files, world, config(keep_every=4))
    happened = []
    for step in (1, 2, 3):
        saver.begin(step_folder(step), state, progress(step))
        if step == 1:
            wait_until(lambda: fails(saver) if world.rank else saver.report()[0])
    saver.finish()
    happened.append(str([step for step, _ in list_checkpoints(LocalFiles(root))]))
    files.part = "step-0000004/rank-00001" if world.rank else "nothing"
    saver.begin(step_folder(4), state, progress(4))
    try:
        saver.finish(0.3)
    except StoreWriteError as error:
        happened.append(str(error))
    return happened


def test_workers_decide_alike_when_only_one_of_them_fails(tmp_path: Path) -> None:
    one, two = run_workers(2, tmp_path / "job", one_of_two_fails, str(tmp_path / "store"))
    assert one == two and len(one) == 2
    assert one[0] == "[2, 3]"
    assert "step-0000004" in one[1] and "rank-00001-of-00002" in one[1] and "No space left" in one[1]
    wait_until(lambda: is_gone(tmp_path / "store/checkpoints/step-0000001"))
