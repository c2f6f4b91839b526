"""What each Unicode character is, as tables over all code points, so that a batch is classified in one look-up.

A word is what `\\w+` matches in Python's `re`, and combining marks belong to it: Arabic is written with them.
"""

import unicodedata
from functools import lru_cache
from typing import Any

import numpy as np

from k2model.corpus.curation.hashing import mixed

WORD, ALNUM, SPACE, DIGIT, ALPHA, UPPER = (1 << bit for bit in range(6))
CODE_POINTS = 0x110000
_ASSIGNED = 0x32000  # beyond lie only variation selectors, tags and private use


@lru_cache(maxsize=1)
def classes() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The classes of every code point, as bits."""
    table = np.zeros(CODE_POINTS, dtype=np.uint8)
    characters = [chr(code) for code in range(_ASSIGNED)]
    for bit, holds in ((ALNUM, str.isalnum), (SPACE, str.isspace), (DIGIT, str.isdigit), (ALPHA, str.isalpha),
                       (UPPER, str.isupper)):  # fmt: skip
        table[:_ASSIGNED] |= np.fromiter(map(holds, characters), dtype=np.uint8, count=_ASSIGNED) * np.uint8(bit)
    word = [c.isalnum() or c == "_" or unicodedata.category(c)[0] == "M" for c in characters]
    table[:_ASSIGNED] |= np.array(word, dtype=np.uint8) * np.uint8(WORD)
    return table


@lru_cache(maxsize=1)
def folded() -> np.ndarray[Any, np.dtype[np.uint64]]:
    """A 64-bit value for every code point, the same for both cases of a letter."""
    table = np.arange(CODE_POINTS, dtype=np.uint64)
    characters = "".join(map(chr, range(_ASSIGNED))).replace("İ", "i")  # the one that becomes two in lower case
    lower = characters.lower().encode("utf-32-le", "surrogatepass")
    table[:_ASSIGNED] = np.frombuffer(lower, dtype="<u4")
    return mixed(table + np.uint64(1))
