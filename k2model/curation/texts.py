r"""A batch of texts as arrays: code points, words, lines and n-grams of all of them, and a hash of any of these.

There is no Python object for a word or a line; a batch is classified in one look-up by tables over all code points
(`k2model.curation.characters`, which says what a word is in each script, and what of a text counts when texts are
compared). Every text is followed by a line feed, so that no word or line reaches into the next text. `bounds` arrays
have one entry more than there are texts: text i has entries bounds[i] to bounds[i + 1].

A span's hash is the polynomial sum of v[i] * B^(i - start) mod 2^64 over its members, taken from one prefix sum, so
that it costs the same for every width of n-gram. Values `v` must be spread over 64 bits (`mixed`). B = 3 mod 8, so that
swapped neighbours change all but the lowest bits, and `mixed` spreads the result. A character that is compared as none
or as several takes as many places i. Hashes are of content alone: the same on every machine, in every batch. Where a
chance of 2^-50 of a wrong match is not good enough, whoever matches compares the words themselves.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2model.curation.characters import (
    ALONE,
    ALPHA,
    BASE,
    MARK,
    SCRIPT_NAMES,
    SPACE,
    WORD,
    WORD_UNITS,
    classes,
    letter_units,
    matching,
    mixed,
    scripts,
    units,
)
from k2model.documents.spans import string_bytes

Flags = np.ndarray[Any, np.dtype[np.bool_]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Numbers = np.ndarray[Any, np.dtype[np.float64]]
Hashes = np.ndarray[Any, np.dtype[np.uint64]]
CodePoints = np.ndarray[Any, np.dtype[np.uint32]]

_INVERSE = pow(BASE, -1, 1 << 64)
_GRAIN = 1 << 20  # powers are kept for whole multiples of this length


class SpanHashes:
    """Hashes of any spans of one sequence of 64-bit values; `places` [values + 1] are those of members that do not take
    one place each."""

    def __init__(self, values: Hashes, places: Ints | None = None):
        self._places = places
        most = len(values) if places is None else int(places[-1])
        powers, self._inverse = _powers(-(-max(1, most) // _GRAIN) * _GRAIN)
        self._sums = np.zeros(len(values) + 1, dtype=np.uint64)
        np.cumsum(values * (powers[: len(values)] if places is None else powers[places[:-1]]), out=self._sums[1:])

    def of(self, starts: Ints, ends: Ints) -> Hashes:
        """Of the spans [start, end), mixed."""
        raw = self._sums[ends] - self._sums[starts]
        raw *= self._inverse[starts if self._places is None else self._places[starts]]
        return mixed(raw)


@lru_cache(maxsize=2)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    steps = np.array([[BASE], [_INVERSE]], dtype=np.uint64).repeat(count, axis=1)
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


class Windows(NamedTuple):
    """Runs of words of one width in reading order: hash, first word, the word behind the last, and text of each."""

    hashes: Hashes
    starts: Ints
    ends: Ints
    owners: Ints


class Texts:
    """Of a string array without nulls; see the module."""

    def __init__(self, strings: pa.StringArray | pa.LargeStringArray):
        strings = strings.cast(pa.large_string())
        self.count = len(strings)
        lengths = pc.utf8_length(strings).to_numpy(zero_copy_only=False).astype(np.int64)
        self.bounds: Ints = np.concatenate([[0], np.cumsum(lengths + 1)])
        empty, feed = (pa.scalar(text, pa.large_string()) for text in ("", "\n"))
        self.codes, others = _code_points(pc.binary_join_element_wise(strings, empty, feed))
        self.classes = classes()[self.codes]
        self._others: Ints | None = np.flatnonzero(self.codes >= 0x80) if others else None  # none: all is ASCII
        self.repeated: dict[int, Any] = {}  # what `repetition` found, by width of n-gram

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Texts":
        return cls(pa.array(texts, type=pa.large_string()))

    @cached_property
    def words(self) -> Spans:
        inside = (self.classes & WORD) != 0
        self._trim(inside)
        spans = self._runs(inside)
        if self._others is None:
            return spans
        found = self.classes[self._others]
        if ((found & MARK) != 0).any():
            spans = self._led(spans, inside)
        return self._apart(spans, inside) if ((found & ALONE) != 0).any() else spans

    @cached_property
    def whitespace_words(self) -> Spans:
        """Runs of anything but white space, as `str.split` has them: marks and symbols are words too."""
        return self._runs((self.classes & SPACE) == 0)

    @cached_property
    def word_units(self) -> Ints | None:
        """`WORD_UNITS` before each word, and at the end; None where every word has as many, as where scripts have
        spaces."""
        if self._others is None or not (self.classes[self._others] & ALONE).any():
            return None
        starts = self.words.starts
        own = np.where(self.classes[starts] & ALONE, units()[self.codes[starts]], WORD_UNITS)
        return np.concatenate([[0], np.cumsum(own, dtype=np.int64)])

    @cached_property
    def word_counts(self) -> Numbers:
        """[texts]: the number of words; of scripts without spaces, what their characters come to."""
        if self.word_units is None:
            return self.words.counts.astype(np.float64)
        return np.diff(self.word_units[self.words.bounds]) / WORD_UNITS

    @cached_property
    def main_scripts(self) -> Ints:
        """[texts]: the script, a number of `SCRIPT_NAMES`, that most of its text is of: letters, each as much as it is
        of a word, so that formulas do not outweigh the Chinese around them; 0 for none of them.
        A text without letters counts as Latin, so that rules which were made for English judge it."""
        count = len(SCRIPT_NAMES)
        latin = SCRIPT_NAMES.index("Latin")
        if self._others is None:
            return np.full(self.count, latin)
        others = self._others[(self.classes[self._others] & ALPHA) != 0]
        own = scripts()[self.codes[others]].astype(np.int64)
        owner = np.searchsorted(self.bounds, others, side="right") - 1
        found = np.bincount(owner * count + own, minlength=self.count * count).reshape(self.count, count)
        for text in np.flatnonzero(found.sum(axis=1) > found[:, latin]).tolist():  # in others ASCII changes nothing
            letters = self.classes[self.bounds[text] : self.bounds[text + 1]] & ALPHA
            found[text, latin] += np.count_nonzero(letters) - found[text].sum()
        return np.where(found.any(axis=1), (found * letter_units()).argmax(axis=1), latin)

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
        """Hashes of spans of characters, as they are compared."""
        table = matching()
        values = table.values[self.codes]
        if self._others is not None:
            taken = table.lengths[self.codes[self._others]]
            if (taken != 1).any():
                each = np.ones(len(self.codes), dtype=np.int64)
                each[self._others] = taken
                return SpanHashes(values, np.concatenate([[0], np.cumsum(each)]))
        return SpanHashes(values)

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

    def windows(self, width: int) -> Windows:
        """Every run inside one text that is `width` words long, or as many characters of scripts without spaces as make
        them up: the shortest that begin at each word and come to it."""
        if self.word_units is None:
            hashes, starts, owners = self.ngrams(width)
            return Windows(hashes, starts, starts + width, owners)
        owners = self.words.owners
        return self.windows_at(np.arange(len(owners)), owners, width)

    def windows_at(self, starts: Ints, owners: Ints, width: int) -> Windows:
        """Those that begin at these words, which are of these texts."""
        if self.word_units is None:
            ends = starts + width
        else:
            ends = np.searchsorted(self.word_units, self.word_units[starts] + width * WORD_UNITS)
        fits = ends <= self.words.bounds[owners + 1]
        starts, ends, owners = starts[fits], ends[fits], owners[fits]
        return Windows(self.word_spans.of(starts, ends), starts, ends, owners)

    def runs(self, starts: Ints, width: int) -> Hashes:
        """The hashes of the runs of `width` words that begin at these words."""
        return self.word_spans.of(starts, starts + width)

    def compared(self, words: Ints) -> tuple[CodePoints, Ints]:
        """What is compared of these words, one after the other, and how many characters of it each has, [words]."""
        starts, sizes = self.words.starts[words], self.words.ends[words] - self.words.starts[words]
        codes = self.codes[_ranges(starts, sizes)]
        table = matching()
        lengths = table.lengths[codes].astype(np.int64)
        before = np.concatenate([[0], np.cumsum(lengths)])
        ends = np.cumsum(sizes)
        return table.parts[_ranges(table.begins[codes].astype(np.int64), lengths)], before[ends] - before[ends - sizes]

    def owned(self, hashes: Hashes, owners: Ints) -> Hashes:
        """Hashes that are equal only within one text."""
        return mixed(hashes + owners.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))

    def sums(self, values: "Flags | Ints | Numbers") -> Numbers:
        """For each text the sum of a value of every character."""
        return sums(values, self.bounds)

    def _trim(self, inside: Flags) -> None:
        """Takes out the low lines that begin or end a word, as those of emphasis do."""
        lines = np.flatnonzero(self.classes == WORD)
        if not len(lines):
            return
        apart = np.flatnonzero(np.diff(lines) != 1)
        starts, ends = lines[np.append(0, apart + 1)], lines[np.append(apart, -1)] + 1
        sides = [np.maximum(starts - 1, 0), ends]
        joins = np.all([inside[side] & ((self.classes[side] & ALONE) == 0) for side in sides], axis=0) & (starts > 0)
        inside[_ranges(starts[~joins], (ends - starts)[~joins])] = False

    def _led(self, spans: Spans, inside: Flags) -> Spans:
        """Words without the marks before their first letter: those belong to a sign before the word."""
        first = (self.classes[spans.starts] & MARK) != 0
        if not first.any():
            return spans
        letters = np.append(np.flatnonzero(inside & ((self.classes & MARK) == 0)), len(self.codes))
        starts = spans.starts.copy()
        starts[first] = letters[np.searchsorted(letters, starts[first])]
        there = starts < spans.ends
        starts = starts[there]
        return Spans(starts, spans.ends[there], np.searchsorted(starts, self.bounds))

    def _apart(self, spans: Spans, inside: Flags) -> Spans:
        """Words cut before and behind every letter that is one by itself, whose marks stay with it."""
        letters = np.flatnonzero(inside & ((self.classes & MARK) == 0))
        alone = (self.classes[letters] & ALONE) != 0
        begins = np.zeros(len(self.codes), dtype=bool)
        begins[spans.starts] = True
        begins[letters[alone]] = True
        begins[letters[1:][alone[:-1]]] = True
        starts = np.flatnonzero(begins)
        ends = spans.ends[np.searchsorted(spans.ends, starts, side="right")]
        ends[:-1] = np.minimum(ends[:-1], starts[1:])
        return Spans(starts, ends, np.searchsorted(starts, self.bounds))

    def _runs(self, inside: Flags) -> Spans:
        change = np.flatnonzero(np.diff(inside.view(np.int8), prepend=np.int8(0)))
        starts, ends = change[::2], change[1::2]
        return Spans(starts, ends, np.searchsorted(starts, self.bounds))


def words_of(text: str) -> list[str]:
    """The words of one text, as they are compared."""
    texts = Texts.of([text])
    parts, lengths = texts.compared(np.arange(len(texts.words.starts)))
    said = "".join(map(chr, parts.tolist()))
    ends = np.cumsum(lengths).tolist()
    return [said[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _ranges(starts: Ints, sizes: Ints) -> Ints:
    """The numbers from each start on, as many as its size, one after the other."""
    return np.arange(int(sizes.sum())) + np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)


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


def _code_points(strings: pa.LargeStringArray) -> tuple[CodePoints, bool]:
    """The code points of all strings, and whether there are others than ASCII."""
    starts, data = string_bytes(strings)
    octets = np.frombuffer(data, dtype=np.uint8)[starts[0] : starts[-1]]
    if not len(octets) or int(octets.max()) < 0x80:
        return octets.astype(np.uint32), False
    return np.frombuffer(octets.tobytes().decode("utf-8").encode("utf-32-le"), dtype="<u4"), True
