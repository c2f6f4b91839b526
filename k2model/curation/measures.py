"""What quality rules bound: measures of every text of a batch at once, by name.

Words are those of `k2model.curation.characters`, in every script: where one has no spaces, counts of words are what its
characters come to, and n-grams of n words have as many characters as make them up. Gopher's and FineWeb's rules speak
of words between white space, signs among them (`str.split`, as AI2's Dolma toolkit has them): shares of words and the
length of a "whitespace word" are of those, and of a script without spaces, which has none, of its words.

Lines and paragraphs are not blank. Shares lie in 0..1 and are 0 where there is nothing to share. Sources: Gopher (Rae
et al. 2021, arXiv 2112.11446, section A.1.1 for words, table A1 for repetition), C4 (Raffel et al. 2020), FineWeb
(Penedo et al. 2024). Of what is "repeated" every occurrence but the first counts; for n-grams characters are those of
words, and each is counted once however many n-grams cover it.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from k2model.curation.characters import ALNUM, ALPHA, DIGIT, MARK, SCRIPT_NAMES, SCRIPTS, SPACE, UPPER, mixed
from k2model.curation.texts import CodePoints, Flags, Hashes, Ints, Numbers, Spans, Texts, sums
from k2model.documents.sentences import STOPS
from k2model.errors import CorpusError, nearest


def first_occurrence(keys: Hashes) -> Ints:
    """For each of `keys` [n] the position of the first equal one, [n]: a hash table filled from the back, since of
    several values that numpy stores in one place the last one stays."""
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


def repeated_spans(texts: Texts, spans: Spans, of_characters: bool) -> Numbers:
    """[texts]: the share of the spans (lines, paragraphs), or of their characters, in spans seen before in the text."""
    keys = texts.owned(texts.code_hashes.of(spans.starts, spans.ends), spans.owners)
    repeated = first_occurrence(keys) != np.arange(len(keys))
    weights = spans.ends - spans.starts if of_characters else np.ones(len(keys), dtype=np.int64)
    return sums(weights * repeated, spans.bounds) / np.maximum(1, sums(weights, spans.bounds))


class Occurrences(NamedTuple):
    """Of n-grams that a text has at least twice: first word, the word behind the last, and text of each, and the
    occurrence that came first."""

    starts: Ints
    ends: Ints
    owners: Ints
    first: Ints


def occurrences(texts: Texts, width: int) -> Occurrences:
    """Of the n-grams of `width` words. They begin where those of `width` - 1 words occur twice, so that each width
    looks at the few places the narrower one has left."""
    if width in texts.repeated:
        return texts.repeated[width]
    if width <= 2:
        keys, starts, ends, owners = texts.windows(width)
    else:
        narrower = occurrences(texts, width - 1)
        keys, starts, ends, owners = texts.windows_at(narrower.starts, narrower.owners, width)
    first = first_occurrence(texts.owned(keys, owners))
    twice = (np.bincount(first, minlength=len(first)) > 1)[first]
    place = np.cumsum(twice) - 1
    texts.repeated[width] = Occurrences(starts[twice], ends[twice], owners[twice], place[first[twice]])
    return texts.repeated[width]


def top_ngram(texts: Texts, width: int) -> Numbers:
    """[texts]: the share of the words' characters in the most frequent n-gram, the longest of those as frequent.

    0 when no n-gram occurs twice."""
    starts, ends, owners, first = occurrences(texts, width)
    counts = np.bincount(first, minlength=len(first))
    lengths = texts.word_characters
    covered = lengths[ends] - lengths[starts]
    order = np.lexsort((covered, counts, owners))
    best = order[np.flatnonzero(np.diff(owners[order], append=-1))] if len(order) else order
    shares = np.zeros(texts.count)
    shares[owners[best]] = counts[best] * covered[best]
    return np.minimum(1.0, shares / np.maximum(1, np.diff(lengths[texts.words.bounds])))


def repeated_ngrams(texts: Texts, width: int) -> Numbers:
    """[texts]: the share of the words' characters that lie in n-grams seen before in the text."""
    starts, ends, owners, first = occurrences(texts, width)
    again = first != np.arange(len(first))
    starts, ends, owners = starts[again], ends[again], owners[again]
    ends = np.minimum(ends, np.append(starts[1:], len(texts.words.starts)))  # where the next one begins
    before = texts.word_characters
    covered = np.bincount(owners, before[ends] - before[starts], texts.count)
    return covered / np.maximum(1, np.diff(before[texts.words.bounds]))


SHORT_LINE = 30  # characters, FineWeb
_BULLETS = "•‣▶◀◦■□▪▫–-*●○◆◇★☆※・·∙⁃‧➢➤►✓✔"
#: Marks that end a sentence, in the scripts that have them, and quotation marks and brackets that close behind one.
SENTENCE_ENDS = ".!?…\"'”’»‼⁇⁈⁉」』" + STOPS


def measure(name: str, texts: Texts, stop_words: Iterable[str] = ()) -> Numbers:
    """One number for every text, [texts]. Raises CorpusError for a name that is not in `MEASURES`."""
    if name == "stop_words":
        return distinct_words(texts, stop_words)
    if name not in MEASURES:
        known = [*MEASURES, "stop_words"]
        raise CorpusError(f"a quality rule bounds the measure '{name}', which does not exist; {nearest(name, known)}")
    return MEASURES[name](texts)


def distinct_words(texts: Texts, wanted: Iterable[str]) -> Numbers:
    """[texts]: how many of the words `wanted` occur in each text, whatever their case."""
    found = np.zeros(texts.count)
    keys = Texts.of(sorted(wanted)).word_values
    hits = np.isin(texts.word_values, keys)
    owners, values = texts.words.owners[hits], texts.word_values[hits]
    for key in keys:
        found[np.unique(owners[values == key])] += 1
    return found


def _spaced(texts: Texts) -> Flags:
    """[texts]: whether the main script of each is one with spaces."""
    without = [number for number, name in enumerate(SCRIPT_NAMES) if name and SCRIPTS[name][0]]
    return ~np.isin(texts.main_scripts, without)


def _visible_share(wanted: int, holds: bool, texts: Texts) -> Numbers:
    """The share of characters, without white space and what is part of a letter, that are (or are not) of a class."""
    visible = (texts.classes & (SPACE | MARK)) == 0
    chosen = visible & (((texts.classes & wanted) != 0) == holds)
    return texts.sums(chosen) / np.maximum(1.0, texts.sums(visible))


def _per_whitespace_word(numbers: Numbers, texts: Texts) -> Numbers:
    return numbers / np.maximum(1.0, np.where(_spaced(texts), texts.whitespace_words.counts, texts.word_counts))


def _of_whitespace_words(value: Callable[[Spans], Any], texts: Texts) -> Numbers:
    """[texts]: the mean of a value of each whitespace word; see the module."""

    def mean(words: Spans) -> Numbers:
        return sums(value(words), words.bounds) / np.maximum(1.0, words.counts)

    spaced = _spaced(texts)
    means = mean(texts.whitespace_words)
    return means if spaced.all() else np.where(spaced, means, mean(texts.words))


def _alphabetic_words(texts: Texts) -> Numbers:
    letters = np.concatenate([[0], np.cumsum((texts.classes & ALPHA) != 0)])
    return _of_whitespace_words(lambda words: letters[words.ends] > letters[words.starts], texts)


def _ellipses(texts: Texts) -> Flags:
    """Whether an ellipsis ends at a character: `…` or the third of three full stops."""
    dots = texts.codes == ord(".")
    three = np.zeros_like(dots)
    three[2:] = dots[2:] & dots[1:-1] & dots[:-2]
    fourth = np.zeros_like(dots)
    fourth[1:] = three[:-1]
    return (three & ~fourth) | (texts.codes == ord("…"))


def _line_share(chosen: Flags, texts: Texts) -> Numbers:
    return sums(chosen, texts.lines.bounds) / np.maximum(1.0, texts.lines.counts)


def _ellipsis_lines(texts: Texts) -> Numbers:
    dots = (texts.codes == ord(".")).astype(np.int64)
    last = np.minimum(texts.lines.ends, len(texts.codes)) - 1
    run = dots[last] + dots[np.maximum(last - 1, 0)] + dots[np.maximum(last - 2, 0)]
    return _line_share((run == 3) | (texts.codes[last] == ord("…")), texts)


def _among(codes: CodePoints, characters: str) -> Flags:
    return np.isin(codes, [ord(character) for character in characters])


MEASURES: dict[str, Callable[[Texts], Numbers]] = {
    "words": lambda t: t.word_counts,
    "characters": lambda t: np.diff(t.bounds) - 1.0,
    "mean_word_length": lambda t: sums(t.words.ends - t.words.starts, t.words.bounds) / np.maximum(1.0, t.word_counts),
    "whitespace_word_length": partial(_of_whitespace_words, lambda words: words.ends - words.starts),
    "symbol_share": partial(_visible_share, ALNUM, False),
    "digit_share": partial(_visible_share, DIGIT, True),
    "uppercase_share": partial(_visible_share, UPPER, True),
    "alphabetic_words": _alphabetic_words,
    "hashes_per_word": lambda t: _per_whitespace_word(t.sums(t.codes == ord("#")), t),
    "ellipses_per_word": lambda t: _per_whitespace_word(t.sums(_ellipses(t)), t),
    "bullet_lines": lambda t: _line_share(_among(t.codes[t.lines.starts], _BULLETS), t),
    "ellipsis_lines": _ellipsis_lines,
    "punctuated_lines": lambda t: _line_share(_among(t.codes[t.lines.ends - 1], SENTENCE_ENDS), t),
    "short_lines": lambda t: _line_share(t.lines.ends - t.lines.starts <= SHORT_LINE, t),
    "repeated_lines": lambda t: repeated_spans(t, t.lines, of_characters=False),
    "repeated_line_characters": lambda t: repeated_spans(t, t.lines, of_characters=True),
    "repeated_paragraphs": lambda t: repeated_spans(t, t.paragraphs, of_characters=False),
    "repeated_paragraph_characters": lambda t: repeated_spans(t, t.paragraphs, of_characters=True),
    **{f"top_{n}gram": partial(top_ngram, width=n) for n in (2, 3, 4)},
    **{f"repeated_{n}grams": partial(repeated_ngrams, width=n) for n in range(5, 11)},
}
