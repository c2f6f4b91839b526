"""Hashes of spans of a sequence, all at once in numpy: words of code points, n-grams of words, lines.

A span's hash is the polynomial sum of v[i] * B^(i - start) mod 2^64 over its members, taken from one prefix
sum, so that it costs the same for every width of n-gram. Values `v` must be spread over 64 bits (`mixed`).
B = 3 mod 8, so that swapped neighbours change all but the lowest bits, and `mixed` spreads the result.
Hashes are of content alone: the same on every machine, in every batch. Where a chance of 2^-50 of
a wrong match is not good enough, whoever matches compares the words themselves.
"""

from functools import lru_cache
from typing import Any

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]
Hashes = np.ndarray[Any, np.dtype[np.uint64]]

_BASE = 0x9E3779B97F4A7C13
_INVERSE = pow(_BASE, -1, 1 << 64)
_GRAIN = 1 << 20  # powers are kept for whole multiples of this length


def mixed(values: Hashes) -> Hashes:
    """The finaliser of splitmix64 (Steele et al. 2014): a bijection that spreads every bit."""
    spread = values ^ (values >> np.uint64(30))
    spread *= np.uint64(0xBF58476D1CE4E5B9)
    spread ^= spread >> np.uint64(27)
    spread *= np.uint64(0x94D049BB133111EB)
    spread ^= spread >> np.uint64(31)
    return spread


class SpanHashes:
    """Hashes of any spans of one sequence of 64-bit values."""

    def __init__(self, values: Hashes):
        powers, self._inverse = _powers(-(-max(1, len(values)) // _GRAIN) * _GRAIN)
        self._sums = np.zeros(len(values) + 1, dtype=np.uint64)
        np.cumsum(values * powers[: len(values)], out=self._sums[1:])

    def of(self, starts: Ints, ends: Ints) -> Hashes:
        """Of the spans [start, end), mixed."""
        raw = self._sums[ends] - self._sums[starts]
        raw *= self._inverse[starts]
        return mixed(raw)


@lru_cache(maxsize=2)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    def of(base: int) -> Hashes:
        steps = np.full(count, base, dtype=np.uint64)
        steps[0] = 1
        return np.cumprod(steps, dtype=np.uint64)

    return of(_BASE), of(_INVERSE)


def first_occurrence(keys: Hashes) -> Ints:
    """For each key the position of the first equal key: a hash table filled from the back, since of several
    values that numpy stores in one place the last one stays."""
    bits = max(4, int(2 * max(1, len(keys)) - 1).bit_length())
    table = np.empty(1 << bits, dtype=np.int32)  # read only where it was written in the same round
    first = np.empty(len(keys), dtype=np.int64)
    open_, probe = np.arange(len(keys), dtype=np.int32), keys
    while len(open_):
        slots = (probe >> np.uint64(64 - bits)).astype(np.int64)
        table[slots[::-1]] = open_[::-1]
        found = table[slots]
        same = keys[found] == keys[open_]
        first[open_[same]] = found[same]
        open_, probe = open_[~same], mixed(probe[~same] + np.uint64(0x9E3779B97F4A7C15))
    return first
