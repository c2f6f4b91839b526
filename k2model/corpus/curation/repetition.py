"""How much a text repeats itself: lines, paragraphs and n-grams of words, in shares of its characters.

The measures of Gopher (Rae et al. 2021, arXiv 2112.11446, table A1). "Repeated" counts every occurrence but the
first; characters are those of words for n-grams, and each is counted once however many n-grams cover it.
"""

from typing import NamedTuple

import numpy as np

from k2model.corpus.curation.hashing import Ints, first_occurrence
from k2model.corpus.curation.texts import Numbers, Spans, Texts, sums


def repeated_spans(texts: Texts, spans: Spans, of_characters: bool) -> Numbers:
    """The share of the spans (lines, paragraphs), or of their characters, in spans seen before in the text."""
    keys = texts.owned(texts.code_hashes.of(spans.starts, spans.ends), spans.owners)
    repeated = first_occurrence(keys) != np.arange(len(keys))
    weights = spans.ends - spans.starts if of_characters else np.ones(len(keys), dtype=np.int64)
    return sums(weights * repeated, spans.bounds) / np.maximum(1, sums(weights, spans.bounds))


class Occurrences(NamedTuple):
    """Of n-grams that a text has at least twice: first word and text of each, and the occurrence that came first."""

    starts: Ints
    owners: Ints
    first: Ints


def occurrences(texts: Texts, width: int) -> Occurrences:
    """Of the n-grams of `width` words. They begin where those of `width` - 1 words occur twice, so that each width
    looks at the few places the narrower one has left."""
    if width in texts.repeated:
        return texts.repeated[width]
    if width <= 2:
        keys, starts, owners = texts.ngrams(width)
    else:
        narrower = occurrences(texts, width - 1)
        fits = narrower.starts + width <= texts.words.bounds[narrower.owners + 1]
        starts, owners = narrower.starts[fits], narrower.owners[fits]
        keys = texts.runs(starts, width)
    first = first_occurrence(texts.owned(keys, owners))
    twice = (np.bincount(first, minlength=len(first)) > 1)[first]
    place = np.cumsum(twice) - 1
    texts.repeated[width] = Occurrences(starts[twice], owners[twice], place[first[twice]])
    return texts.repeated[width]


def top_ngram(texts: Texts, width: int) -> Numbers:
    """The share of the words' characters in the most frequent n-gram, the longest of those as frequent.

    0 when no n-gram occurs twice."""
    starts, owners, first = occurrences(texts, width)
    counts = np.bincount(first, minlength=len(first))
    lengths = texts.word_characters
    covered = lengths[starts + width] - lengths[starts]
    order = np.lexsort((covered, counts, owners))
    best = order[np.flatnonzero(np.diff(owners[order], append=-1))] if len(order) else order
    shares = np.zeros(texts.count)
    shares[owners[best]] = counts[best] * covered[best]
    return np.minimum(1.0, shares / np.maximum(1, np.diff(lengths[texts.words.bounds])))


def repeated_ngrams(texts: Texts, width: int) -> Numbers:
    """The share of the words' characters that lie in n-grams seen before in the text."""
    starts, owners, first = occurrences(texts, width)
    again = first != np.arange(len(first))
    starts, owners = starts[again], owners[again]
    ends = np.minimum(starts + width, np.append(starts[1:], len(texts.words.starts)))  # where the next one begins
    before = texts.word_characters
    covered = np.bincount(owners, before[ends] - before[starts], texts.count)
    return covered / np.maximum(1, np.diff(before[texts.words.bounds]))
