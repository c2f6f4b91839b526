"""Read-ahead never changes what is read nor its order."""

import threading
import time

import pytest

from k2model.training.batch import read_ahead


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_any_number_of_threads_gives_the_steps_in_order(threads: int) -> None:
    def read(step: int) -> int:
        time.sleep(0.003 * ((7 * step) % 5))  # later steps are often done first
        return step * step

    steps = [3, 4, 5, 9, 10, 11, 12]
    assert list(read_ahead(read, steps, threads)) == [(step, step * step) for step in steps]
    assert list(read_ahead(read, [], threads)) == []


def test_reading_runs_ahead_but_not_far() -> None:
    begun: list[int] = []
    batches = read_ahead(lambda step: begun.append(step) or step, range(100), 2)
    assert next(batches) == (0, 0)
    deadline = time.monotonic() + 5
    while len(begun) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    assert sorted(begun) == [0, 1, 2, 3]
    batches.close()


def test_an_error_comes_at_its_step_and_ends_the_threads() -> None:
    def read(step: int) -> int:
        if step == 2:
            raise OSError("disk gone")
        return step

    seen = []
    with pytest.raises(OSError, match="disk gone"):
        for step, _ in read_ahead(read, range(9), 3):
            seen.append(step)
    assert seen == [0, 1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]
