"""Evaluation items as decontamination sees them, and where texts share words with them.

Items are the registered ones of a corpus, those of the recipe's own benchmarks, and those of further files. Such a
file is JSONL or Parquet with a prompt and an answer a row (fields named in `DecontaminationConfig`; a missing answer
counts as empty); its family is its name without ending. Rows may have an `id`, else their number serves.

An item is looked for by every run of `words` words of its prompt and answer, and by its prompt as a whole when that is
shorter. Runs are found by 64-bit hashes through a bit table and a binary search, then compared character by character,
so that no collision counts. Told are the spans on both sides and how much of the item is covered.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from k2model.curation.texts import Flags, Hashes, Ints, Numbers, Texts, folded
from k2model.documents.benchmarks import ItemFile, benchmark_files, field_of, item_file, items_in, rows_of
from k2model.documents.schema import read_items
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


STORED_ITEMS = "evaluation_items.parquet"  # of an artifact of items: a column for each field of `EvaluationItem`


def stored_items(paths: Iterable[Path]) -> Iterator[EvaluationItem]:
    """Of artifacts of items (`k2model.evals.contamination`), in their order."""
    for path in paths:
        rows = pq.read_table(path, columns=list(EvaluationItem._fields), partitioning=None).to_pylist()
        yield from (EvaluationItem(**row) for row in rows)


_TABLE_BITS = 22


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
    """Runs of one width, sorted by hash: the first word of each among the words of all items."""

    width: int
    hashes: Hashes
    first: Ints
    table: Flags


class ItemIndex:
    """Of the items with words to look for; immutable."""

    def __init__(self, items: Sequence[EvaluationItem], config: DecontaminationConfig):
        self.items = list(items)
        self.texts = Texts.of([item.text if item.worded else "" for item in self.items])
        self._owners = self.texts.words.owners
        hashes, starts, _ = self.texts.ngrams(config.words)
        self.runs = [_runs(config.words, hashes, starts)]
        prompts = Texts.of([item.prompt if item.worded else "" for item in self.items]).words.counts
        for width in range(config.least_prompt_words, config.words):
            starts = self.texts.words.bounds[:-1][prompts == width]
            starts = starts[starts + width <= len(self.texts.words.starts)]
            self.runs.append(_runs(width, self.texts.runs(starts, width), starts))
        self.runs = [run for run in self.runs if len(run.hashes)]

    def overlaps(self, texts: Texts) -> Overlaps:
        """Of a batch of texts with all items."""
        found = [self._hits(texts, run) for run in self.runs]
        if not found or not sum(len(hit[0]) for hit in found):
            return _none()
        here, there, width = (np.concatenate([hit[side] for hit in found]) for side in range(3))
        same = self._same(texts, here, there, width)
        return self._gathered(texts, here[same], there[same], width[same]) if same.any() else _none()

    def _hits(self, texts: Texts, run: _Runs) -> tuple[Ints, Ints, Ints]:
        """(first word in the texts, first word in the items, width) of every run whose hash an item has."""
        hashes, starts, _ = texts.ngrams(run.width)
        maybe = run.table[(hashes >> np.uint64(64 - _TABLE_BITS)).astype(np.int64)]
        hashes, starts = hashes[maybe], starts[maybe]
        low, high = (np.searchsorted(run.hashes, hashes, side=side) for side in ("left", "right"))
        counts = high - low
        which = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(low, counts)
        return np.repeat(starts, counts), run.first[which], np.full(len(which), run.width)

    def _same(self, texts: Texts, here: Ints, there: Ints, width: Ints) -> Flags:
        """Whether the words of each hit are really equal, whatever their case."""
        hit = np.repeat(np.arange(len(width)), width)
        step = np.arange(len(hit)) - np.repeat(np.cumsum(width) - width, width)
        one, other = here[hit] + step, there[hit] + step
        lengths = texts.words.ends[one] - texts.words.starts[one]
        same = np.ones(len(width), dtype=bool)
        same[hit[lengths != self.texts.words.ends[other] - self.texts.words.starts[other]]] = False
        kept = same[hit]
        hit, one, other, lengths = hit[kept], one[kept], other[kept], lengths[kept]
        word = np.repeat(np.arange(len(hit)), lengths)
        step = np.arange(len(word)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        mine = folded()[texts.codes[texts.words.starts[one][word] + step]]
        theirs = folded()[self.texts.codes[self.texts.words.starts[other][word] + step]]
        same[hit[word[mine != theirs]]] = False
        return same

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


def _runs(width: int, hashes: Hashes, starts: Ints) -> _Runs:
    order = np.argsort(hashes, kind="stable")
    table = np.zeros(1 << _TABLE_BITS, dtype=bool)
    table[(hashes >> np.uint64(64 - _TABLE_BITS)).astype(np.int64)] = True
    return _Runs(width, hashes[order], starts[order], table)


def _none() -> Overlaps:
    empty = np.zeros(0, dtype=np.int64)
    return Overlaps(empty, empty, np.zeros(0), empty, empty, empty, empty)
