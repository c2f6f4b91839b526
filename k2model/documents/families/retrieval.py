"""Key-value retrieval over a context: `; key value` entries, then `? key value` queries.

Keys and values are frequent words, so that each becomes one token. What makes the skill learnable in
minutes are short documents with few entries, half of which recite all entries in order with keys and
values as targets: a repeated sequence is the densest lesson in copying. Documents that fill the
context spread their entries through running prose. Elsewhere only the queried values are targets.

Lengths in tokens are estimates made before there is a tokenizer: three tokens an entry or query, and
`BYTES_PER_TOKEN` of prose; `FILL` keeps a document below its context all the same.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

from k2model.documents.markup import BOS, EOS, Segment, special, text
from k2model.documents.schema import Document, Item, content_id, make_document, make_item

ORIGIN, LICENCE = "k2model retrieval over standard library prose", "PSF-2.0"
VOCABULARY = 206
ENTRY_TOKENS = 3
BYTES_PER_TOKEN = 2.7
FILL = 0.92  # of the context a document may fill by estimate
SHORT_CONTEXT, SHORT_SHARE = 128, 0.95  # by count: a long document has the tokens of five short ones
SHORT_ENTRIES = (1, 6)
RECITED, RECITALS = 0.5, 2  # share of the short documents, times each recites its entries
SHORT_QUERIES = (1, 4)  # of a short document that does not recite, times its entries
LONG_ENTRIES = (8, 100)
ITEM_ENTRIES, ITEM_QUERIES, ITEM_DOCUMENTS = 20, 8, 32
_PLAIN_WORD = re.compile(r"(?:[A-Z]?[a-z]{1,14}|[AI])[,.:]?")


class Layout(NamedTuple):
    entries: list[tuple[str, str]]
    gaps: list[str]  # prose after each entry, "" = none
    queries: list[tuple[str, str]]
    recited: bool = False  # the queries are all entries in order, and their keys are targets as well


def vocabulary(texts: Iterable[str], size: int = VOCABULARY) -> list[str]:
    """The `size` most frequent lower-case words of 3 to 8 letters, ties in alphabetical order."""
    counts = Counter(word for content in texts for word in re.findall(r"(?<![\w])[a-z]{3,8}(?![\w])", content))
    return [word for word, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:size]]


def filler(texts: Iterable[str]) -> list[str]:
    """The words of prose that are letters and at most a comma, colon or full stop: none looks like an entry."""
    return [word for content in texts for word in content.split() if _PLAIN_WORD.fullmatch(word)]


def layout(rng: Random, words: Sequence[str], prose: Sequence[str], context: int) -> Layout:
    """A random document for `context` tokens: short with few entries, or filling the context."""
    short_share = SHORT_SHARE if context <= SHORT_CONTEXT else 0.15
    budget = int(context * FILL)
    if rng.random() < short_share:
        count = rng.randint(*SHORT_ENTRIES)
        entries = _entries(rng, words, min(count, budget // ((1 + RECITALS) * ENTRY_TOKENS)))
        if rng.random() < RECITED:
            return Layout(entries, [""] * len(entries), entries * RECITALS, recited=True)
        low, high = SHORT_QUERIES
        asked = min(rng.randint(low * len(entries), high * len(entries)), budget // ENTRY_TOKENS - len(entries))
        return Layout(entries, [""] * len(entries), _queries(rng, entries, asked))
    low, high = LONG_ENTRIES
    most = min(high, len(words), int(budget / ENTRY_TOKENS * 0.75))
    count = min(most, round(math.exp(rng.uniform(math.log(low), math.log(high)))))
    share = rng.uniform(0.2, 0.5)
    asked = min(round(count * share / (1 - share)), budget // ENTRY_TOKENS - count)
    entries = _entries(rng, words, count)
    return Layout(
        entries, _gaps(rng, prose, count, budget - ENTRY_TOKENS * (count + asked)), _queries(rng, entries, asked)
    )


def segments(plan: Layout) -> list[Segment]:
    """`<bos> entries and prose ? key value ... <eos>` with loss on the queried values alone."""
    made = [special(BOS), text(context_text(plan))]
    for key, value in plan.queries:
        made += [text("?"), text(f" {key}", loss_mask=plan.recited), text(f" {value}", loss_mask=True)]
    return [*made, special(EOS)]


def context_text(plan: Layout) -> str:
    return "".join(f"; {key} {value}{gap}" for (key, value), gap in zip(plan.entries, plan.gaps, strict=True))


def document(rng: Random, words: Sequence[str], prose: Sequence[str], context: int, source: str) -> Document:
    """One document for `context` tokens: its keys and values are of `words`, its filling a run of the words `prose`."""
    plan = layout(rng, words, prose, context)
    made = segments(plan)
    key = content_id("retrieval", context_text(plan))
    return make_document(source, "long_context", LICENCE, ORIGIN, made, key=key)


def item(rng: Random, words: Sequence[str], prose: Sequence[str], context: int) -> Item:
    """Entries spread over the whole context; the prompt ends before the queries, which are in `meta`.

    `meta["queries"]` is a list of [key, value]; a query is asked as `? key` and answered ` value`.
    """
    budget = int(context * FILL) - ENTRY_TOKENS * (ITEM_ENTRIES + ITEM_QUERIES)
    entries = _entries(rng, words, min(ITEM_ENTRIES, len(words)))
    plan = Layout(entries, _gaps(rng, prose, len(entries), budget, even=True), rng.sample(entries, ITEM_QUERIES))
    answer = "".join(f" {value}" for _, value in plan.queries)
    prompt = context_text(plan)
    meta = {"queries": [list(query) for query in plan.queries]}
    return make_item("retrieval", content_id("retrieval", prompt), prompt, answer, context=context, meta=meta)


def check(item: Item, answer: str) -> bool:
    """Whether `answer` has the queried values in order."""
    return answer.split() == item["answer"].split()


def _entries(rng: Random, words: Sequence[str], count: int) -> list[tuple[str, str]]:
    return list(zip(rng.sample(list(words), count), rng.choices(words, k=count), strict=True))


def _queries(rng: Random, entries: list[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """`count` queries, each entry once before any is asked again."""
    asked: list[tuple[str, str]] = []
    while len(asked) < count:
        asked += rng.sample(entries, len(entries))
    return asked[:count]


def _gaps(rng: Random, prose: Sequence[str], count: int, tokens: int, even: bool = False) -> list[str]:
    """Prose of about `tokens` tokens in all, one consecutive run of words cut into `count` gaps."""
    weights = [1.0 if even else rng.random() ** 2 for _ in range(count)]
    size = max(0, tokens) * BYTES_PER_TOKEN / sum(weights)
    at = rng.randrange(len(prose))
    gaps = []
    for weight in weights:
        gap, room = "", weight * size
        while len(gap) + 1 + len(prose[at % len(prose)]) <= room:
            gap += f" {prose[at % len(prose)]}"
            at += 1
        gaps.append(gap)
    return gaps
