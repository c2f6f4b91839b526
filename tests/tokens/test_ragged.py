"""Runs of several arrays, copied as one, against slices taken one by one."""

import numpy as np
import pytest

from k2model.tokens import ragged
from k2model.tokens.ragged import copied_runs, sorted_stably


@pytest.mark.parametrize("kind", [np.uint32, np.uint8, np.bool_])
@pytest.mark.parametrize("longest", [3, 14, 200])  # of which views hold the shortest themselves
def test_runs_in_any_order_and_more_than_once(kind: type, longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "_REACH", 256)  # bytes, so that runs begin in one buffer and end in the next
    rng = np.random.default_rng(longest)
    arrays = [rng.integers(0, 200, size).astype(kind) for size in (900, 201, 300)]
    which = rng.choice([0, 2, 1], size=120)
    lengths = rng.integers(0, longest + 1, size=120)
    starts = rng.integers(0, np.array([len(values) for values in arrays])[which] - lengths + 1)
    found = copied_runs(arrays, which, starts, lengths)
    expected = [arrays[w][s : s + n] for w, s, n in zip(which, starts, lengths, strict=True)]
    assert found.dtype == kind and found.tolist() == np.concatenate(expected).tolist()


@pytest.mark.parametrize(("start", "length"), [(-1, 2), (5, 6), (11, 0)])
def test_a_run_that_leaves_its_array_is_refused(start: int, length: int) -> None:
    arrays = [np.arange(100, dtype=np.uint32), np.arange(10, dtype=np.uint32)]
    with pytest.raises(IndexError):
        copied_runs(arrays, np.array([0, 1]), np.array([3, start]), np.array([4, length]))


def test_sorting_of_numbers_beyond_16_bits_is_stable() -> None:
    values = np.random.default_rng(0).integers(-1, 200_000, size=5_000).repeat(2)
    assert sorted_stably(values).tolist() == np.argsort(values, kind="stable").tolist()
