"""MinHash of word shingles: band keys by which similar texts meet, and a sketch that tells how similar they are.

Each of `permutations` hash functions h -> a*h + b mod 2^32 (a odd) keeps its minimum over a text's shingles
(Broder 1997). Bands of consecutive minima are hashed to keys; of every minimum 8 bits are kept as the sketch
(b-bit minwise hashing, Li & Koenig 2010), so that a text costs a byte a permutation and no text is read again.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from k2model.curation.hashing import Hashes, Ints, mixed
from k2model.curation.texts import Texts

Sketches = np.ndarray[Any, np.dtype[np.uint8]]
_CHUNK = 1 << 15  # shingles at a time: three arrays of them stay in a core's cache


def shingles(texts: Texts, width: int) -> tuple[Hashes, Ints]:
    """The shingles of all texts and their bounds: runs of `width` words, or all words of a shorter text.

    A text without words has none."""
    keys, _, owners = texts.ngrams(width)
    counts = texts.words.counts
    short = np.flatnonzero((counts > 0) & (counts < width))
    together = np.concatenate([owners, short])
    order = np.argsort(together, kind="stable")
    found = np.concatenate([keys, texts.whole()[short]])[order]
    return found, np.searchsorted(together[order], np.arange(texts.count + 1))


def minima(hashes: Hashes, bounds: Ints, permutations: int) -> "np.ndarray[Any, np.dtype[np.uint32]]":
    """[texts, permutations]; 2^32 - 1 throughout for a text without shingles."""
    factors, offsets = _functions(permutations)
    values = (hashes >> np.uint64(32)).astype(np.uint32)
    result = np.full((permutations, len(bounds) - 1), 0xFFFFFFFF, dtype=np.uint32)
    owners = np.flatnonzero(np.diff(bounds))
    starts = bounds[owners]
    for begin in range(0, len(values), _CHUNK):
        chunk = values[begin : begin + _CHUNK]
        first = int(np.searchsorted(starts, begin, side="right")) - 1
        last = int(np.searchsorted(starts, begin + len(chunk), side="left"))
        cuts = np.maximum(starts[first:last] - begin, 0)
        whose, room = owners[first:last], np.empty_like(chunk)
        for row, (a, b) in enumerate(zip(factors, offsets, strict=True)):
            np.multiply(chunk, a, out=room)
            room += b
            least = np.minimum.reduceat(room, cuts)
            result[row, whose] = np.minimum(result[row, whose], least)
    return np.ascontiguousarray(result.T)


def band_keys(minimum: "np.ndarray[Any, np.dtype[np.uint32]]", bands: int, rows: int) -> Hashes:
    """[texts, bands]: a key for each band of `rows` minima; the keys of different bands differ."""
    keys = np.empty((len(minimum), bands), dtype=np.uint64)
    for band in range(bands):
        key = np.full(len(minimum), band + 1, dtype=np.uint64)
        for column in range(band * rows, (band + 1) * rows):
            key = mixed(key + minimum[:, column])
        keys[:, band] = key
    return keys


def sketches(minimum: "np.ndarray[Any, np.dtype[np.uint32]]") -> Sketches:
    """[texts, permutations]: 8 well-mixed bits of each minimum."""
    return ((minimum * np.uint32(2654435761)) >> np.uint32(24)).astype(np.uint8)


def similarity(one: Sketches, other: Sketches) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """The estimated Jaccard index of pairs of sketches; its standard error is sqrt(J (1 - J) / permutations).

    Different minima agree in 8 bits once in 256 times, which is taken out."""
    agreement = np.mean(one == other, axis=-1)
    return (agreement - 1 / 256) / (1 - 1 / 256)


@lru_cache(maxsize=8)
def bands_for(threshold: float, permutations: int, missed: float = 0.9) -> tuple[int, int]:
    """(bands, rows a band) whose chance of meeting, 1 - (1 - J^rows)^bands, errs least around `threshold`.

    The area of false meetings below it weighs 1 - `missed`, that of missed ones above it `missed`: meetings
    are confirmed by the sketch, missed pairs are lost."""
    below, above = np.linspace(0, threshold, 1001), np.linspace(threshold, 1, 1001)

    def error(bands: int, rows: int) -> float:
        false = np.mean(1 - (1 - below**rows) ** bands) * threshold
        lost = np.mean((1 - above**rows) ** bands) * (1 - threshold)
        return float((1 - missed) * false + missed * lost)

    options = [(b, r) for b in range(1, permutations + 1) for r in range(1, permutations // b + 1)]
    return min(options, key=lambda option: (error(*option), option))


@lru_cache(maxsize=4)
def _functions(permutations: int) -> tuple[Any, Any]:
    seeds = mixed(np.arange(1, 2 * permutations + 1, dtype=np.uint64))
    values = (seeds >> np.uint64(32)).astype(np.uint32)
    return values[:permutations] | np.uint32(1), values[permutations:]
