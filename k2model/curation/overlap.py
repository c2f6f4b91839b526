"""Evaluation items as decontamination sees them, and where texts share words with them.

Items are the registered ones of a corpus, those of the recipe's own benchmarks, and those of further files. Such a
file is JSONL or Parquet with a prompt and an answer a row (fields named in `DecontaminationConfig`; a missing answer
counts as empty); its family is its name without ending. Rows may have an `id`, else their number serves.

An item is looked for by every run of `words` words of its prompt and answer, and by its prompt as a whole when that is
shorter; of scripts without spaces by as many characters as make these up (`Texts.windows`). Both sides are compared as
`k2model.curation.characters` says: whatever the normal form, the case, digits, accents, Arabic points, joiners. Items
have the form that curation gives documents (`clean_characters`); where compatibility characters (NFKC) or a space for a
joiner make other words, an item is looked for in those spellings too. Runs are found by 64-bit hashes through a bit
table and a binary search, then compared character by character, so that no collision counts. Told are the spans on both
sides and how much of the item is covered.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from unicodedata import normalize

import numpy as np
import pyarrow as pa

from k2model.curation.normalise import clean_characters
from k2model.curation.texts import Flags, Hashes, Ints, Numbers, Texts
from k2model.documents.benchmarks import ItemFile, benchmark_files, field_of, item_file, items_in, rows_of
from k2model.documents.schema import read_items
from k2model.documents.tables import read_table, required
from k2model.errors import CorpusError
from k2model.recipe.curation import DecontaminationConfig
from k2model.recipe.evaluation import AnswerCheck, BenchmarkConfig, Mode
from k2model.recipe.tasks import WORDED


class Items(NamedTuple):
    """A file of further items, which are those of one of the recipe's benchmarks or as `DecontaminationConfig` says."""

    file: ItemFile
    benchmark: BenchmarkConfig | None = None

    @property
    def family(self) -> str:
        return self.benchmark.name if self.benchmark else PurePosixPath(self.file.path).stem

    @property
    def read(self) -> dict[str, str]:
        """What bears identity: the family, what is in the file, and of a benchmark how a row is read."""
        told = {"family": self.family, "digest": self.file.digest}
        if self.benchmark:
            told |= {name: getattr(self.benchmark, name) for name in ("prompt", "answer", "choices", "id")}
            told["check"] = self.benchmark.check.value
        return told

    @classmethod
    def restored(cls, file: Sequence[str], benchmark: Mapping[str, Any] | None) -> "Items":
        """What `json.dumps` made of it, after `json.loads`."""
        own = BenchmarkConfig(**benchmark) if benchmark else None
        if own:
            own = replace(own, check=AnswerCheck(own.check), mode=Mode(own.mode))
        return cls(ItemFile(*file), own)


class EvaluationItem(NamedTuple):
    """`holds_out`: documents with it leave training. Items of trained wordings hold nothing out, they are counted."""

    family: str
    id: str
    key: str
    prompt: str
    answer: str
    worded: bool
    holds_out: bool

    @property
    def text(self) -> str:
        return self.prompt + self.answer


def registered(corpus: Path) -> Iterator[EvaluationItem]:
    """Of every family in `items/` of a corpus folder."""
    for path in sorted((corpus / "items").glob("*.parquet")):
        for item in read_items(corpus, path.stem):
            named = {name: item[name] for name in ("family", "id", "key", "prompt", "answer")}
            yield EvaluationItem(**named, worded=item["family"] in WORDED, holds_out=bool(item["key"]))


def item_files(paths: Iterable[str], benchmarks: Iterable[BenchmarkConfig] = ()) -> tuple[Items, ...]:
    """Files of further items, and those of benchmarks that are looked for, as they are now.

    Raises CorpusError naming one that cannot be read.
    """
    files = [Items(item_file(path, "corpus.decontamination.external")) for path in paths]
    return (*files, *(Items(benchmark_files(one)[0], one) for one in benchmarks if one.decontaminate))


def external(files: Iterable[Items], config: DecontaminationConfig) -> Iterator[EvaluationItem]:
    """Of further files. Raises CorpusError naming file, row and field, or a file that is not what it was, and
    EvaluationError for rows of a benchmark that cannot be asked."""
    for items in files:
        file = items.file
        if items.benchmark:
            for item in items_in(items.benchmark, file):
                yield EvaluationItem(items.family, item["id"], "", item["prompt"], f"\n{item['answer']}", True, True)
            continue
        for number, (place, row) in enumerate(rows_of(file)):
            prompt = field_of(row, config.prompt_field)
            if not isinstance(prompt, str):
                raise CorpusError(
                    f"{file.path}: {place} has no text in '{config.prompt_field}'; it has {', '.join(sorted(row))}. "
                    "Name the field that holds it in corpus.decontamination.prompt_field"
                )
            answer = field_of(row, config.answer_field)
            tail = "" if answer is None else f"\n{answer}"
            yield EvaluationItem(items.family, str(row.get("id", number)), "", prompt, tail, True, True)


STORED_ITEMS = "evaluation_items.parquet"  # of an artifact of items
#: A column for each field of `EvaluationItem`.
STORED_SCHEMA = required(
    family=pa.string(), id=pa.string(), key=pa.string(), prompt=pa.string(), answer=pa.string(), worded=pa.bool_(),
    holds_out=pa.bool_(),
)  # fmt: skip


def stored_items(paths: Iterable[Path]) -> Iterator[EvaluationItem]:
    """Of artifacts of items (`k2model.evals.contamination`), in their order, by which other tables number them."""
    for path in paths:
        yield from (EvaluationItem(**row) for row in read_table(path, STORED_SCHEMA).to_pylist())


_TABLE_BITS = 22
_JOINER = "\u200c"  # zero-width, non-joining: between the parts of a Persian word


class Overlaps(NamedTuple):
    """One entry for each text and item that share words: columns of equal length, by text and item.

    Spans are of the longest run shared, in characters of the text and of the item's prompt and answer.
    """

    text: Ints
    item: Ints
    coverage: Numbers  # of the item's words
    text_start: Ints
    text_end: Ints
    item_start: Ints
    item_end: Ints


class _Runs(NamedTuple):
    """Runs of items, sorted by hash: the first word of each among the words of all spellings, and how many it has.

    width: in words (`Texts.windows`); of prompts as a `whole` the number of words, or characters that count as words.
    """

    width: int
    whole: bool
    hashes: Hashes
    first: Ints
    sizes: Ints
    table: Flags


class ItemIndex:
    """Of the items with words to look for, each in the form that curation gives documents; immutable."""

    def __init__(self, items: Sequence[EvaluationItem], config: DecontaminationConfig):
        self.items = [
            item._replace(prompt=clean_characters(item.prompt), answer=clean_characters(item.answer)) for item in items
        ]
        spelled, self._item = _spellings(self.items)
        self.texts = Texts.of([item.text for item in spelled])
        self._owners = self.texts.words.owners
        windows = self.texts.windows(config.words)
        self.runs = [_runs(config.words, False, windows.hashes, windows.starts, windows.ends - windows.starts)]
        prompts = Texts.of([item.prompt for item in spelled])
        short = (prompts.word_counts >= config.least_prompt_words) & (prompts.word_counts < config.words)
        firsts, counts = self.texts.words.bounds[:-1], prompts.words.counts
        short &= firsts + counts <= self.texts.words.bounds[1:]
        for width in np.unique(counts[short]).tolist():
            starts = firsts[short & (counts == width)]
            self.runs.append(_runs(width, True, self.texts.runs(starts, width), starts, np.full(len(starts), width)))
        self.runs = [run for run in self.runs if len(run.hashes)]
        self._leads = _table(self.texts.word_values[firsts[short]])

    def overlaps(self, texts: Texts) -> Overlaps:
        """Of a batch of texts with all items."""
        if not self.runs:
            return _none()
        leads = np.flatnonzero(self._leads[_slots(texts.word_values)])
        left = texts.words.bounds[texts.words.owners[leads] + 1] - leads
        found = [self._hits(texts, run, leads, left) for run in self.runs]
        if not sum(len(hit[0]) for hit in found):
            return _none()
        here, there, width = (np.concatenate([hit[side] for hit in found]) for side in range(3))
        same = self._same(texts, here, there, width)
        if not same.any():
            return _none()
        return self._of_items(self._gathered(texts, here[same], there[same], width[same]))

    def _hits(self, texts: Texts, run: _Runs, leads: Ints, left: Ints) -> tuple[Ints, Ints, Ints]:
        """(first word in the texts, first word in the items, width) of every run whose hash an item has.

        leads: the words of the texts that a prompt looked for as a whole begins with. left: words from each to the end
        of its text."""
        if run.whole:
            starts = leads[left >= run.width]
            hashes, count = texts.runs(starts, run.width), np.full(len(starts), run.width)
        else:
            hashes, starts, ends, _ = texts.windows(run.width)
            count = ends - starts
        maybe = run.table[_slots(hashes)]
        hashes, starts, count = hashes[maybe], starts[maybe], count[maybe]
        low, high = (np.searchsorted(run.hashes, hashes, side=side) for side in ("left", "right"))
        counts = high - low
        which = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(low, counts)
        alike = run.sizes[which] == np.repeat(count, counts)
        return np.repeat(starts, counts)[alike], run.first[which][alike], run.sizes[which][alike]

    def _same(self, texts: Texts, here: Ints, there: Ints, width: Ints) -> Flags:
        """Whether the words of each hit are really equal, as words are compared."""
        hit = np.repeat(np.arange(len(width)), width)
        step = np.arange(len(hit)) - np.repeat(np.cumsum(width) - width, width)
        mine, lengths = texts.compared(here[hit] + step)
        theirs, other_lengths = self.texts.compared(there[hit] + step)
        same = np.ones(len(width), dtype=bool)
        same[hit[lengths != other_lengths]] = False
        kept = same[hit]
        mine, theirs = mine[np.repeat(kept, lengths)], theirs[np.repeat(kept, other_lengths)]
        same[np.repeat(hit[kept], lengths[kept])[mine != theirs]] = False
        return same

    def _of_items(self, found: Overlaps) -> Overlaps:
        """Of several spellings of an item the one that a text has most of. In any but its own the whole item is told,
        since its characters are not those of the spelling."""
        if len(self._item) == len(self.items):
            return found
        item = self._item[found.item]
        other = found.item >= len(self.items)
        ends = np.array([len(one.text) for one in self.items], dtype=np.int64)[item]
        start, end = np.where(other, 0, found.item_start), np.where(other, ends, found.item_end)
        found = found._replace(item=item, item_start=start, item_end=end)
        order = np.lexsort((other, -found.coverage, item, found.text))
        text, item = found.text[order], item[order]
        first = np.concatenate([[True], (text[1:] != text[:-1]) | (item[1:] != item[:-1])])
        return Overlaps(*(column[order[first]] for column in found))

    def _gathered(self, texts: Texts, here: Ints, there: Ints, width: Ints) -> Overlaps:
        text, item = texts.words.owners[here], self._owners[there]
        order = np.lexsort((here, here - there, item, text))  # runs of one pair that continue each other are neighbours
        text, item, here, there, width = text[order], item[order], here[order], there[order], width[order]
        new_pair = np.concatenate([[True], (text[1:] != text[:-1]) | (item[1:] != item[:-1])])
        pair = np.cumsum(new_pair) - 1
        ends = here + width
        new_run = new_pair | np.concatenate([[True], (np.diff(here - there) != 0) | (here[1:] > ends[:-1])])
        first = np.flatnonzero(new_run)
        run_end = np.maximum.reduceat(ends, first)
        longest = np.lexsort((first, -(run_end - here[first]), pair[first]))
        chosen = longest[np.concatenate([[True], np.diff(pair[first][longest]) != 0])]
        start, length = first[chosen], run_end[chosen] - here[first[chosen]]
        words, own = texts.words, self.texts.words
        a, b = here[start], there[start]
        at, own_at = texts.bounds[text[start]], self.texts.bounds[item[start]]
        return Overlaps(
            text[start],
            item[start],
            self._coverage(pair, item, there, width),
            words.starts[a] - at,
            words.ends[a + length - 1] - at,
            own.starts[b] - own_at,
            own.ends[b + length - 1] - own_at,
        )

    def _coverage(self, pair: Ints, item: Ints, there: Ints, width: Ints) -> Numbers:
        """For each pair the share of the item's words that lie in a shared run."""
        owner = item[np.concatenate([[True], np.diff(pair) != 0])]
        sizes = self.texts.words.counts[owner]
        begins = np.cumsum(sizes) - sizes
        at = begins[pair] + there - self.texts.words.bounds[item]
        edges = np.zeros(int(sizes.sum()) + 1, dtype=np.int64)
        np.add.at(edges, at, 1)
        np.add.at(edges, at + width, -1)
        covered = np.cumsum(edges[:-1]) > 0
        return np.add.reduceat(covered, begins) / sizes


def _spellings(items: Sequence[EvaluationItem]) -> tuple[list[EvaluationItem], Ints]:
    """All items, then those that have other words with NFKC or with spaces for joiners; and the item of each. What is
    not looked for by words is empty."""
    worded = [item if item.worded else item._replace(prompt="", answer="") for item in items]
    spelled, numbers = list(worded), list(range(len(items)))
    own = _whole_hashes(worded)
    for spelling in (partial(normalize, "NFKC"), lambda text: text.replace(_JOINER, " ")):
        others = [item._replace(prompt=spelling(item.prompt), answer=spelling(item.answer)) for item in worded]
        changed = np.flatnonzero(_whole_hashes(others) != own).tolist()
        spelled += [others[number] for number in changed]
        numbers += changed
    return spelled, np.array(numbers, dtype=np.int64)


def _whole_hashes(items: Sequence[EvaluationItem]) -> Hashes:
    texts = Texts.of([item.text for item in items])
    return texts.word_spans.of(texts.words.bounds[:-1], texts.words.bounds[1:])


def _runs(width: int, whole: bool, hashes: Hashes, first: Ints, count: Ints) -> _Runs:
    order = np.argsort(hashes, kind="stable")
    return _Runs(width, whole, hashes[order], first[order], count[order], _table(hashes))


def _slots(hashes: Hashes) -> Ints:
    return (hashes >> np.uint64(64 - _TABLE_BITS)).astype(np.int64)


def _table(hashes: Hashes) -> Flags:
    table = np.zeros(1 << _TABLE_BITS, dtype=bool)
    table[_slots(hashes)] = True
    return table


def _none() -> Overlaps:
    empty = np.zeros(0, dtype=np.int64)
    return Overlaps(empty, empty, np.zeros(0), empty, empty, empty, empty)
