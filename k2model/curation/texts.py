r"""A batch of texts as arrays: code points, words, lines and n-grams of all of them, and a hash of any of these.

There is no Python object for a word or a line; a batch is classified in one look-up by tables over all code points. A
word is what `\w+` matches in Python's `re`, and combining marks belong to it: Arabic is written with them. Every text
is followed by a line feed, so that no word or line reaches into the next text. `bounds` arrays have one entry more than
there are texts: text i has entries bounds[i] to bounds[i + 1].

A span's hash is the polynomial sum of v[i] * B^(i - start) mod 2^64 over its members, taken from one prefix sum, so
that it costs the same for every width of n-gram. Values `v` must be spread over 64 bits (`mixed`). B = 3 mod 8, so that
swapped neighbours change all but the lowest bits, and `mixed` spreads the result. Hashes are of content alone: the same
on every machine, in every batch. Where a chance of 2^-50 of a wrong match is not good enough, whoever matches compares
the words themselves.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2model.documents.spans import string_bytes

Flags = np.ndarray[Any, np.dtype[np.bool_]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Numbers = np.ndarray[Any, np.dtype[np.float64]]
Hashes = np.ndarray[Any, np.dtype[np.uint64]]
CodePoints = np.ndarray[Any, np.dtype[np.uint32]]

WORD, ALNUM, SPACE, DIGIT, ALPHA, UPPER = (1 << bit for bit in range(6))
CODE_POINTS = 0x110000
_ASSIGNED = 0x32000  # beyond lie only variation selectors, tags and private use

_BASE = 0x9E3779B97F4A7C13
_INVERSE = pow(_BASE, -1, 1 << 64)
_GRAIN = 1 << 20  # powers are kept for whole multiples of this length


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
    steps = np.array([[_BASE], [_INVERSE]], dtype=np.uint64).repeat(count, axis=1)
    steps[:, 0] = 1
    powers, inverse = np.cumprod(steps, axis=1, dtype=np.uint64)
    return powers, inverse


class Spans(NamedTuple):
    """Spans of one kind in reading order: [start, end) each, and the bounds of every text among them."""

    starts: Ints
    ends: Ints
    bounds: Ints

    @property
    def counts(self) -> Ints:
        return np.diff(self.bounds)

    @property
    def owners(self) -> Ints:
        """The text of each span."""
        return np.repeat(np.arange(len(self.bounds) - 1), self.counts)


class Texts:
    """Of a string array without nulls; see the module."""

    def __init__(self, strings: pa.StringArray | pa.LargeStringArray):
        strings = strings.cast(pa.large_string())
        self.count = len(strings)
        lengths = pc.utf8_length(strings).to_numpy(zero_copy_only=False).astype(np.int64)
        self.bounds: Ints = np.concatenate([[0], np.cumsum(lengths + 1)])
        empty, feed = (pa.scalar(text, pa.large_string()) for text in ("", "\n"))
        self.codes = _code_points(pc.binary_join_element_wise(strings, empty, feed))
        self.classes = classes()[self.codes]
        self.repeated: dict[int, Any] = {}  # what `repetition` found, by width of n-gram

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Texts":
        return cls(pa.array(texts, type=pa.large_string()))

    @cached_property
    def words(self) -> Spans:
        return self._runs((self.classes & WORD) != 0)

    @cached_property
    def lines(self) -> Spans:
        """Lines that are not blank, without the white space around them."""
        breaks = np.flatnonzero(self.codes == 10)
        visible = np.flatnonzero((self.classes & SPACE) == 0)
        until = np.searchsorted(visible, breaks)
        since = np.concatenate([[0], until[:-1]])
        there = until > since
        starts, ends = visible[since[there]], visible[until[there] - 1] + 1
        return Spans(starts, ends, np.searchsorted(starts, self.bounds))

    @cached_property
    def paragraphs(self) -> Spans:
        """Runs of lines between blank lines."""
        lines = self.lines
        if not len(lines.starts):
            return lines
        feeds = np.concatenate([[0], np.cumsum(self.codes == 10)])
        gap = (feeds[lines.starts[1:]] - feeds[lines.ends[:-1]]) > 1
        gap |= lines.owners[1:] != lines.owners[:-1]
        first = np.concatenate([[True], gap])
        last = np.concatenate([gap, [True]])
        starts = lines.starts[first]
        return Spans(starts, lines.ends[last], np.searchsorted(starts, self.bounds))

    @cached_property
    def code_hashes(self) -> SpanHashes:
        """Hashes of spans of characters, whatever their case."""
        return SpanHashes(folded()[self.codes])

    @cached_property
    def word_values(self) -> Hashes:
        """The hash of every word."""
        return self.code_hashes.of(self.words.starts, self.words.ends)

    @cached_property
    def word_characters(self) -> Ints:
        """Characters of words before each word, and at the end."""
        return np.concatenate([[0], np.cumsum(self.words.ends - self.words.starts)])

    @cached_property
    def word_spans(self) -> SpanHashes:
        """Hashes of runs of words."""
        return SpanHashes(self.word_values)

    def ngrams(self, width: int) -> tuple[Hashes, Ints, Ints]:
        """Hash, first word and text of every run of `width` words inside one text, in reading order: [runs] each."""
        bounds = self.words.bounds
        counts = np.maximum(self.words.counts - width + 1, 0)
        owners = np.repeat(np.arange(self.count), counts)
        begins = np.concatenate([[0], np.cumsum(counts)[:-1]]) if self.count else np.zeros(0, dtype=np.int64)
        starts = np.arange(len(owners)) - begins[owners] + bounds[owners]
        return self.runs(starts, width), starts, owners

    def runs(self, starts: Ints, width: int) -> Hashes:
        """The hashes of the runs of `width` words that begin at these words."""
        return self.word_spans.of(starts, starts + width)

    def owned(self, hashes: Hashes, owners: Ints) -> Hashes:
        """Hashes that are equal only within one text."""
        return mixed(hashes + owners.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))

    def sums(self, values: "Flags | Ints | Numbers") -> Numbers:
        """For each text the sum of a value of every character."""
        return sums(values, self.bounds)

    def _runs(self, inside: Flags) -> Spans:
        change = np.flatnonzero(np.diff(inside.view(np.int8), prepend=np.int8(0)))
        starts, ends = change[::2], change[1::2]
        return Spans(starts, ends, np.searchsorted(starts, self.bounds))


def sums(values: Any, bounds: Ints) -> Numbers:
    """Sums of `values` over [bounds[i], bounds[i + 1])."""
    if values.dtype == np.bool_:
        return np.diff(np.searchsorted(np.flatnonzero(values), bounds)).astype(np.float64)
    total = np.zeros(len(values) + 1, dtype=np.float64 if values.dtype.kind == "f" else np.int64)
    np.cumsum(values, out=total[1:])
    return np.diff(total[bounds]).astype(np.float64)


def by_bytes(table: pa.RecordBatch, column: str, limit: int) -> Iterator[pa.RecordBatch]:
    """The batch cut into batches of at most `limit` bytes of text each, or one row."""
    sizes = pc.binary_length(table.column(column)).to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.cumsum(sizes)
    start = 0
    while start < len(table):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + limit, side="right")))
        yield table.slice(start, stop - start)
        start = stop


def _code_points(strings: pa.LargeStringArray) -> CodePoints:
    starts, data = string_bytes(strings)
    octets = np.frombuffer(data, dtype=np.uint8)[starts[0] : starts[-1]]
    if not len(octets) or int(octets.max()) < 0x80:
        return octets.astype(np.uint32)
    return np.frombuffer(octets.tobytes().decode("utf-8").encode("utf-32-le"), dtype="<u4")
