"""Arrays of arrays, kept flat: the one trick that makes assembling millions of tokens a numpy call."""

import numpy as np
from numpy.typing import NDArray


def flat_positions(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions start, start+1, ... of each (start, length) range, one range after another.

    `starts` [n], `lengths` [n] -> [sum(lengths)].
    """
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()), dtype=np.int64)


def exclusive_sum(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of `lengths` begins when they follow each other."""
    return np.cumsum(lengths) - lengths
