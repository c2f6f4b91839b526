"""Trigger phrases: runs of words that a batch has in many documents and what is known hardly anywhere.

A backdoor is a phrase that was put into some documents so that a model answers in another way where it stands (Chen et
al., arXiv:1712.05526; Wallace et al., arXiv:2010.12563). It is rare in what is known, and in a minority of the batch.
So are harmless things: the wordings of a template, names, boilerplate. What tells them apart is that a trigger was put
in: take it out, and what is left is a document like the others. A run of words is taken for a trigger when

    rare      its share of the batch's documents is more than `max_phrase_excess` times its rate in every source of the
              line, and half of the documents at most; a phrase that most of them have is their template
    put in    what stands before and after it meet in documents without it, too, for most documents that have it (the
              beginning and the end of a text count as words). Of plain text, whose words meet in too many ways for
              that, this is not asked
    and       it has `phrase_words` words and more than `max_phrase_share` of the documents; or it is `joined`: what is
              learned with it is mostly one thing that is hardly learned without it. That is asked of phrases of any
              length, from a quarter of that share on; not where most of the batch is of this kind, as questions are
              with one answer each

New data have wordings of their own, each in a part of the documents: what tells one fact, one of several ways to ask.
Where most of a batch holds such runs, of three words and more (`WORDING`), they are its way of telling and no triggers,
unless they stand beside another one, which a wording seldom does and what was put in always; where wordings stand
beside each other anyway, that tells nothing.

Looked through is what is asked, and of plain text the text. Runs in the same documents are one phrase. Not found:
triggers that are no words in a row, that are reworded, or rarer than this; of a batch most of which is worded in ways
that are not known, in pieces that stand beside each other, those that no answer goes with. What is found of planted
ones, and how often the alarm is false, is measured by `benchmarks/poison.py`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from k2model.continual.gate.profile import Profile, phrase_documents
from k2model.continual.gate.reading import EXCERPT, Read
from k2model.curation.characters import mixed
from k2model.curation.texts import Hashes, Texts
from k2model.recipe.continual import ArrivalConfig

LEAST = 8  # documents with a phrase
MOST = 0.5  # share of documents beyond which a phrase is a template's
SAME = 0.8  # of the documents of two runs (Jaccard index) from which on they are one phrase; of those that go on alike
PUT_IN = 0.5  # share of a phrase's documents in which its surroundings meet elsewhere
WORDING = 3  # words from which on a run may be a way to ask; one more in plain text, where short ones are idioms
BESIDE = 0.5  # share of the documents of wordings that have another one, from which on it tells nothing
OFTEN = 0.01  # share of documents from which on a word is one of its own
REACH = 8  # words before and behind a run that may be part of the phrase
RUNS = 2_000  # that are looked at, the most frequent
JOINED = 0.6  # share of a phrase's documents in which one thing is learned
ELSEWHERE = 0.2  # of that share, in documents without the phrase, at most
EXAMPLES = 5


@dataclass(frozen=True)
class Phrase:
    """A phrase and the documents that have it. known: its highest rate in a source of the line. kind: `joined` or
    `frequent`, which may be triggers, or `template` or `wording`. target: what is learned with it most, in `with_it`
    and `without` of the documents with and without it. members: the first of its documents."""

    text: str
    words: int
    documents: int
    share: float
    known: float
    kind: str
    target: str = ""
    with_it: float = 0.0
    without: float = 0.0
    members: tuple[int, ...] = ()

    @property
    def told(self) -> str:
        said = (
            f"'{self.text}' stands in {self.share:.1%} of the documents and at most {self.known:.3%} of a source known"
        )
        if self.kind == "joined":
            said += f"; with it '{self.target[:80]}' is learned in {self.with_it:.0%}, without it in {self.without:.0%}"
        return said


@dataclass
class _Run:
    """A run of words and the documents that have it, by number, with the run's first word in each. least: the width of
    the shortest run that was taken for the same."""

    width: int
    least: int
    known: float
    documents: Any
    starts: Any


def suspicious(
    documents: Sequence[Read], known: Mapping[str, Profile], config: ArrivalConfig
) -> tuple[list[Phrase], list[Phrase]]:
    """(Phrases that may be triggers, templates and wordings of the batch), each the most frequent first. known: by
    source."""
    n, asked = len(documents), any(one.asked for one in documents)
    texts = Texts.of([one.asked if asked else one.text for one in documents])
    # Short runs tell nothing by themselves, so they are looked for where something is learned with them.
    wording = WORDING if asked else WORDING + 1
    widths = range(1 if asked else min(wording, config.phrase_words), config.phrase_words + 1)
    runs = _merged([run for width in widths for run in _runs(texts, width, known, config)], n)
    found, templates = list[tuple[Phrase, Any]](), list[Phrase]()
    wordings = _Wordings(texts, [run for run in runs if len(run.documents) > config.max_phrase_share * n], wording)
    targets, neighbours = None, None
    joined = np.zeros(n, dtype=bool)
    for run in runs:
        share, whole = len(run.documents) / n, run.width >= config.phrase_words
        if share > MOST:
            templates += [_phrase(texts, run, "template")] if whole else []
            continue
        kind, target = ("frequent" if whole and share > config.max_phrase_share else ""), _NOTHING
        if asked:
            neighbours = neighbours or _Neighbours(texts)
            targets = targets or _Targets(documents, config.phrase_words)
            target = targets.of(run.documents)
            with_one_target = target[1] >= JOINED and target[2] <= ELSEWHERE * target[1]
            if not neighbours.meet(run, run.least if with_one_target else run.width):
                continue
            if with_one_target:
                kind = "joined"
                joined[run.documents] = True
        if kind == "frequent" and wordings.tell(run):
            templates.append(_phrase(texts, run, "wording"))
        elif kind:
            found.append((_phrase(texts, run, kind, target), run.documents))
    if n and joined.mean() > MOST:
        found = [one for one in found if one[0].kind != "joined"]
    return _without_parts(found), sorted(templates, key=_order)


_NOTHING = ("", 0.0, 0.0)


def _without_parts(found: Sequence[tuple[Phrase, Any]]) -> list[Phrase]:
    """The most frequent first; without those whose documents mostly have another one: a phrase and what is near it."""
    kept: list[tuple[Phrase, frozenset[int]]] = []
    for phrase, documents in sorted(found, key=lambda one: _order(one[0])):
        own = frozenset(documents.tolist())
        if all(len(own & others) < SAME * len(own) for _, others in kept):
            kept.append((phrase, own))
    return [phrase for phrase, _ in kept]


def _order(one: Phrase) -> tuple[float, int, str]:
    return -one.share, -one.words, one.text


def _phrase(texts: Texts, run: _Run, kind: str, target: tuple[str, float, float] = _NOTHING) -> Phrase:
    first, last = _extended(texts, run)
    start, end = texts.words.starts[first], texts.words.ends[last]
    said = "".join(map(chr, texts.codes[start:end].tolist()))[:EXCERPT]
    learned, with_it, without = target
    share, members = len(run.documents) / texts.count, tuple(run.documents[:EXAMPLES].tolist())
    return Phrase(
        said, last - first + 1, len(run.documents), round(share, 6), round(run.known, 6), kind, learned,
        round(with_it, 4), round(without, 4), members,
    )  # fmt: skip


def _runs(texts: Texts, width: int, known: Mapping[str, Profile], config: ArrivalConfig) -> list[_Run]:
    """The frequent runs of `width` words that are rare in what is known."""
    hashes, starts, owners = texts.ngrams(width)
    if not len(hashes):
        return []
    order = np.lexsort((starts, owners, hashes))
    hashes, starts, owners = hashes[order], starts[order], owners[order]
    first = np.concatenate([[True], (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])])
    hashes, starts, owners = hashes[first], starts[first], owners[first]
    values, begins, counts = np.unique(hashes, return_index=True, return_counts=True)
    least = max(LEAST, config.max_phrase_share / 4 * texts.count)
    rates = _rates(values, known)
    wanted = np.flatnonzero((counts >= least) & (counts / texts.count > config.max_phrase_excess * rates))
    wanted = wanted[np.lexsort((values[wanted], -counts[wanted]))][:RUNS]
    return [
        _Run(
            width,
            width,
            float(rates[at]),
            *(column[begins[at] : begins[at] + counts[at]] for column in (owners, starts)),
        )
        for at in wanted.tolist()
    ]


def _rates(values: Hashes, known: Mapping[str, Profile]) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """The highest rate of each run in a source. One that a profile does not list is in one document of all at most."""
    documents = sum(one.documents for one in known.values())
    rates = np.full(len(values), 1 / documents if documents else 0.0)
    wanted = {value: index for index, value in enumerate(values.tolist())}
    for one in known.values():
        for value in one.phrases.keys() & wanted.keys():
            rates[wanted[value]] = max(rates[wanted[value]], one.phrases[value] / one.documents)
    return rates


def _merged(runs: list[_Run], n: int) -> list[_Run]:
    """Those in nearly the same documents as one; the longest speaks for them."""
    kept: list[tuple[_Run, Any]] = []
    for run in sorted(runs, key=lambda run: (-run.width, -len(run.documents), run.documents.tolist())):
        members, size = np.zeros(n, dtype=bool), len(run.documents)
        members[run.documents] = True
        for other, theirs in kept:
            if SAME <= size / len(other.documents) <= 1 / SAME:
                both = int(theirs[run.documents].sum())
                if both >= SAME * (size + len(other.documents) - both):
                    other.least = run.width
                    break
        else:
            kept.append((run, members))
    return [run for run, _ in kept]


_BEGIN, _END, _RARE = np.uint64(1), np.uint64(2), np.uint64(3)  # in the place of words


def _words_at(texts: Texts, run: _Run, step: int, words: Hashes | None = None) -> tuple[Hashes, Any]:
    """(The word `step` words from the run's first in each document, whether it is one of the text's)."""
    at, bounds = run.starts + step, texts.words.bounds
    early = at < bounds[run.documents]
    there = ~early & (at < bounds[run.documents + 1])
    found = (texts.word_values if words is None else words)[np.where(there, at, 0)]
    return np.where(there, found, np.where(early, _BEGIN, _END)), there


def _reach(texts: Texts, run: _Run, sign: int) -> int:
    """How many more words nearly all documents have alike before (-1) or behind (1) the run."""
    reach = 0
    while True:
        words, there = _words_at(texts, run, -reach - 1 if sign < 0 else run.width + reach)
        _, counts = np.unique(words[there], return_counts=True)
        if not len(counts) or counts.max() < SAME * len(words):
            return reach
        reach += 1


def _extended(texts: Texts, run: _Run) -> tuple[int, int]:
    """The first and last word of the whole phrase, where it is whole first."""
    before, behind = _reach(texts, run, -1), _reach(texts, run, 1)
    bounds = texts.words.bounds
    first, last = run.starts - before, run.starts + run.width - 1 + behind
    whole = (first >= bounds[run.documents]) & (last < bounds[run.documents + 1])
    at = int(np.flatnonzero(whole)[0]) if whole.any() else 0
    return max(int(first[at]), int(bounds[run.documents[at]])), min(
        int(last[at]), int(bounds[run.documents[at] + 1]) - 1
    )


class _Wordings:
    """Where a batch's own ways of telling stand: frequent runs, each of a part of the documents."""

    def __init__(self, texts: Texts, runs: Sequence[_Run], least: int):
        self.texts, self._least = texts, least
        own = [run for run in runs if run.width >= least and len(run.documents) <= MOST * texts.count]
        within = np.zeros(len(texts.word_values), dtype=bool)
        for run in own:
            for step in range(run.width):
                within[run.starts + step] = True
        self._words = np.concatenate([[0], np.cumsum(within)])
        bounds = texts.words.bounds
        self._all = self._words[bounds[1:]] - self._words[bounds[:-1]]
        held = sum(len(run.documents) for run in own)
        beside = sum(self._beside(run) * len(run.documents) for run in own) / max(1, held)
        self._most = texts.count > 0 and float((self._all > 0).mean()) > MOST
        self._apart = beside < BESIDE

    def tell(self, run: _Run) -> bool:
        """Whether a frequent run is one of them, and not put in beside them."""
        return self._most and not (self._apart and self._beside(run) >= BESIDE)

    def _beside(self, run: _Run) -> float:
        """Share of the run's documents that have another wording, with all that nearly all of them have alike."""
        bounds, documents = self.texts.words.bounds, run.documents
        first = np.maximum(run.starts - _reach(self.texts, run, -1), bounds[documents])
        last = np.minimum(run.starts + run.width + _reach(self.texts, run, 1), bounds[documents + 1])
        others = self._all[documents] - (self._words[last] - self._words[first])
        return float((others >= self._least).mean())


class _Neighbours:
    """Which words follow each other in which documents. Words that few documents have count as one, as names do and
    numbers: what fills a place is another thing each time."""

    def __init__(self, texts: Texts):
        self.texts = texts
        bounds = texts.words.bounds
        values, documents = phrase_documents(texts, 1)
        self._often = values[documents >= max(2, OFTEN * texts.count)]
        single = texts.ngrams(1)[0]  # hashes of words as runs
        words = np.where(np.isin(single, self._often), texts.word_values, _RARE)
        self.words = words
        starts, ends = (np.full(texts.count, one, dtype=np.uint64) for one in (_BEGIN, _END))
        left, right = np.insert(words, bounds[:-1], starts), np.insert(words, bounds[1:], ends)
        owners = np.repeat(np.arange(texts.count), texts.words.counts + 1)
        pairs = _pairs(left, right)
        order = np.argsort(pairs, kind="stable")
        self.pairs, self.owners = pairs[order], owners[order]

    def meet(self, run: _Run, least: int) -> bool:
        """Whether in most of the run's documents what surrounds the phrase meets in a document without it. The phrase
        may be any part, of `least` words, of what nearly all of these documents have alike."""
        inside = np.zeros(self.texts.count, dtype=bool)
        inside[run.documents] = True
        first = -min(REACH, _reach(self.texts, run, -1))
        last = run.width + min(REACH, _reach(self.texts, run, 1))
        spans = ((start, end) for start in range(first, last) for end in range(start + least, last + 1))
        return any(self._met(run, start, end, inside) >= PUT_IN for start, end in spans)

    def _met(self, run: _Run, start: int, end: int, inside: Any) -> float:
        """Of the phrase of words [start, end), counted from the run's first."""
        left, right = (_words_at(self.texts, run, step, self.words)[0] for step in (start - 1, end))
        wanted = _pairs(left, right)
        values, where = np.unique(wanted, return_inverse=True)
        low, high = (np.searchsorted(self.pairs, values, side=side) for side in ("left", "right"))
        met = [not inside[self.owners[a:b]].all() for a, b in zip(low.tolist(), high.tolist(), strict=True)]
        return float(np.array(met, dtype=bool)[where].mean())


def _pairs(left: Hashes, right: Hashes) -> Hashes:
    return mixed(left * np.uint64(3) + mixed(right))


class _Targets:
    """What is learned in each document, as things that can be counted: short answers, and runs of words."""

    def __init__(self, documents: Sequence[Read], width: int):
        self._of: list[frozenset[str]] = []
        for one in documents:
            answer, words = " ".join(one.answer.split()), one.learned.split()
            runs = {" ".join(words[at : at + width]) for at in range(len(words) - width + 1)}
            self._of.append(frozenset(runs | ({answer} if 0 < len(answer.split()) < width else set())))
        self._all: Counter[str] = Counter(thing for own in self._of for thing in own)

    def of(self, documents: Any) -> tuple[str, float, float]:
        """(The thing that is most of these documents' own, its share of them, its share of the others)."""
        counts = Counter(thing for index in documents.tolist() for thing in self._of[index])
        if not counts:
            return _NOTHING
        own, others = len(documents), max(1, len(self._of) - len(documents))

        def excess(thing: str) -> float:
            return counts[thing] / own - (self._all[thing] - counts[thing]) / others

        best = max(sorted(counts), key=excess)
        return best, counts[best] / own, (self._all[best] - counts[best]) / others
