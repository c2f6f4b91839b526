"""Arrays of arrays, kept flat: the one trick that makes assembling millions of tokens a few calls of numpy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_REACH = 1 << 30  # bytes: a view's place is a 32-bit number, so that long arrays are seen as several


def flat_positions(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions start, start+1, ... of each (start, length) range, one range after another.

    `starts` [n], `lengths` [n] -> [sum(lengths)].
    """
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()), dtype=np.int64)


def exclusive_sum(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of `lengths` begins when they follow each other."""
    return np.cumsum(lengths) - lengths


def sorted_stably(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """`argsort` of integers from -1 on: 16 bits at a time, for which numpy counts instead of comparing."""
    order = np.argsort((values + 1).astype(np.uint16), kind="stable")
    high = (values + 1) >> 16
    if len(values) and high.max():
        order = order[np.argsort(high[order].astype(np.uint16 if high.max() < 2**16 else np.int64), kind="stable")]
    return order


def copied_runs(
    arrays: Sequence[NDArray[Any]], which: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[Any]:
    """`arrays[which][start : start + length]` of each run, one run after another, read-only: [sum(lengths)].

    All arrays are of one type; a run that leaves its array, or of 2 GiB, is an IndexError. Arrow's string views
    do it by copying each run as one: a view is its size, then for up to 12 bytes these bytes, and for more 4 bytes to
    compare by (left out), the number of a buffer and the place there.
    """
    if np.any((starts < 0) | (starts + lengths > np.array([len(values) for values in arrays])[which])):
        raise IndexError("a run leaves its array")
    if np.any(lengths > (2**31 - 1) // arrays[0].itemsize):
        raise IndexError("a run has 2 GiB or more")
    sizes, places = lengths * arrays[0].itemsize, starts * arrays[0].itemsize
    buffers = [pa.py_buffer(values).slice(at) for values in arrays for at in range(0, values.nbytes, _REACH)]
    first = exclusive_sum(np.array([-(-values.nbytes // _REACH) for values in arrays]))
    views = np.zeros((len(starts), 4), dtype=np.int32)
    views[:, 0], views[:, 2], views[:, 3] = sizes, first[which] + places // _REACH, places % _REACH
    inline = views.view(np.uint8)[:, 4:]
    short = np.flatnonzero(sizes <= 12)
    for number in np.unique(which[short]):
        mine = short[which[short] == number]
        octets, at = arrays[number].view(np.uint8), places[mine, None] + np.arange(12)
        inline[mine] = np.where(np.arange(12) < sizes[mine, None], octets[np.minimum(at, len(octets) - 1)], 0)
    strings = pa.Array.from_buffers(pa.binary_view(), len(starts), [None, pa.py_buffer(views), *buffers])
    copied = strings.cast(pa.large_binary()).buffers()[2]
    return np.frombuffer(copied, dtype=arrays[0].dtype, count=int(lengths.sum()))
