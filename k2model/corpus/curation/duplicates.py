"""Exact and near duplicates. A kept document counts the copies it stands for; K2 samples by that count.

Near duplicates are found by MinHash LSH over word 5-grams and confirmed by their exact Jaccard
similarity. Each is compared with kept documents only, so that a chain of small differences does not
pull unlike documents into one cluster.
"""

import hashlib
import re
import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

SHINGLE_WORDS = 5
#: K2's buckets of duplicate counts: lower bound -> name.
BUCKETS = {1: "1", 2: "2-5", 6: "6-10", 11: "11-100", 101: "101-1000", 1001: "1001+"}
_WORDS = re.compile(r"\w+")
_MULTIPLIERS = np.array([1, 2654435761, 2246822519, 3266489917, 668265263], dtype=np.uint64)


def exact(texts: Iterable[str]) -> list[int]:
    """For each text the position of the first equal text (its own when it is the first)."""
    first: dict[bytes, int] = {}
    return [first.setdefault(hashlib.sha256(text.encode()).digest(), i) for i, text in enumerate(texts)]


def near(texts: Sequence[str], threshold: float, permutations: int) -> list[int]:
    """For each text the position of the first kept text that is at least `threshold` similar, or its own.

    Similarity is the Jaccard index of the sets of word 5-grams (of all words for shorter texts).
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=permutations, weights=(0.1, 0.9))
    blank = MinHash(num_perm=permutations, seed=1, hashfunc=int)
    kept: dict[int, np.ndarray] = {}
    representative = []
    for i, text in enumerate(texts):
        own = shingles(text)
        sketch = blank.copy()
        sketch.update_batch(own.tolist())
        match = next((j for j in sorted(index.query(sketch)) if jaccard(own, kept[j]) >= threshold), i)
        representative.append(match)
        if match == i:
            index.insert(i, sketch)
            kept[i] = own
    return representative


def shingles(text: str) -> np.ndarray:
    """The sorted distinct 32-bit hashes of the text's word 5-grams, lower case."""
    words = np.array([_word_hash(word) for word in _WORDS.findall(text.lower())], dtype=np.uint64)
    width = min(SHINGLE_WORDS, max(1, len(words)))
    if len(words) == 0:
        return np.zeros(1, dtype=np.uint64)
    count = len(words) - width + 1
    mixed = np.zeros(count, dtype=np.uint64)
    for k in range(width):
        mixed ^= words[k : k + count] * _MULTIPLIERS[k] + np.uint64(k)
        mixed *= np.uint64(0x9E3779B97F4A7C15)
    return np.unique(mixed >> np.uint64(32))


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Jaccard index of two sorted arrays of distinct hashes."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)


def bucket(count: int) -> str:
    """The name of K2's bucket for a duplicate count of at least 1."""
    return next(name for low, name in reversed(BUCKETS.items()) if count >= low)


@lru_cache(maxsize=200_000)
def _word_hash(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))
