"""Training documents that hold evaluation items: by key, and in natural words by shared runs of words.

A document is contaminated when one of its keys is an item's key, or when it shares words (`overlap`) with an item that
holds out. For every item it is counted how many documents have gone for it, how many that overlap with it are still
there (items of trained wordings are meant to be), and how much of it one document covered, so that a score can be read
beside its overlap.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2model.curation.overlap import EvaluationItem, ItemIndex, Items, external, registered, stored_items
from k2model.curation.texts import Ints, Texts
from k2model.documents.tables import required
from k2model.recipe.curation import DecontaminationConfig

BY_KEY, BY_WORDS = "item_key", "item_words"
_AROUND = 80  # characters shown on both sides of a span

TALLY_SCHEMA = required(
    family=pa.string(),
    item=pa.string(),
    holds_out=pa.bool_(),
    removed=pa.int64(),  # training documents that went for it
    kept=pa.int64(),  # training documents that overlap with it and stay
    removed_coverage=pa.float64(),  # most of its words that one document held
    kept_coverage=pa.float64(),
)


class Match(NamedTuple):
    """A document and an item: the characters [start, end) they share on both sides; a key covers the whole item."""

    row: int
    item: EvaluationItem
    rule: str
    coverage: float
    text_span: tuple[int, int]
    item_span: tuple[int, int]

    def shown(self, document: str, text: str) -> dict[str, Any]:
        """For a person, with the text around the span on both sides; `document` names it."""
        ends = (("document", text, self.text_span), ("item", self.item.text, self.item_span))
        return {
            "rule": self.rule,
            "family": self.item.family,
            "item_id": self.item.id,
            "document_id": document,
            "coverage": round(self.coverage, 4),
            **{name: _around(whole, *span) for name, whole, span in ends},
        }

    def shared(self, text: str) -> str:
        """What a person is shown of it: the key, or the shared words of the document's `text`."""
        return self.item.key if self.rule == BY_KEY else text[slice(*self.text_span)]


class Decontamination:
    """The items of a corpus and of further files, ready to judge batches of documents."""

    def __init__(self, items: Iterable[EvaluationItem], config: DecontaminationConfig):
        self.index = ItemIndex(list(items), config)
        self.items: Sequence[EvaluationItem] = self.index.items
        self._by_key = {item.key: number for number, item in reversed(list(enumerate(self.items))) if item.key}
        self._keys = pa.array(list(self._by_key), type=pa.string())
        self._of_key: dict[str, list[int]] = {}
        for number, item in enumerate(self.items):
            if item.key:
                self._of_key.setdefault(item.key, []).append(number)
        self._holds_out = np.array([item.holds_out for item in self.items], dtype=bool)

    def judge(self, table: pa.Table, by_words: bool, tally: "Tally") -> list[Match]:
        """The first match of every contaminated row, in the order of rows; counts all overlaps into `tally`."""
        keyed = self._keyed(table["key"])
        gone = {
            row: Match(row, self.items[item], BY_KEY, 1.0, (0, 0), (0, len(self.items[item].text)))
            for row, item in keyed
        }
        found = self.index.overlaps(Texts(table["text"].combine_chunks()) if by_words else Texts.of([]))
        for at in np.flatnonzero(self._holds_out[found.item]):
            row, item, coverage, *ends = (column[at].item() for column in found)
            match = Match(row, self.items[item], BY_WORDS, coverage, (ends[0], ends[1]), (ends[2], ends[3]))
            gone.setdefault(row, match)
        removed = np.zeros(table.num_rows, dtype=bool)
        removed[list(gone)] = True
        tally.count(found.item, found.coverage, removed[found.text])
        seen = set(zip(found.text.tolist(), found.item.tolist(), strict=True))
        more = np.array([item for row, item in keyed if (row, item) not in seen], dtype=np.int64)
        tally.count(more, np.ones(len(more)), np.ones(len(more), dtype=bool))
        return [gone[row] for row in sorted(gone)]

    def pairs(self, table: pa.Table) -> tuple[Ints, Ints, "np.ndarray"]:
        """(row, item, coverage) of every document and item that share a key or words, whatever that leads to, by row
        and item. A key covers the whole item."""
        found = self.index.overlaps(Texts(table["text"].combine_chunks()))
        covered = dict(zip(zip(found.text.tolist(), found.item.tolist(), strict=True), found.coverage, strict=True))
        covered |= {(row, item): 1.0 for row, key in self._found(table["key"]) for item in self._of_key[key]}
        ordered = sorted(covered)
        rows, items = (np.array([pair[side] for pair in ordered], dtype=np.int64) for side in range(2))
        return rows, items, np.array([covered[pair] for pair in ordered], dtype=np.float64)

    def _keyed(self, keys: pa.ChunkedArray) -> list[tuple[int, int]]:
        """(row, item) of every row one of whose keys is an item's: of the first such key, the first such item."""
        first: dict[int, int] = {}
        for row, key in self._found(keys):
            first.setdefault(row, self._by_key[key])
        return sorted(first.items())

    def _found(self, keys: pa.ChunkedArray) -> Iterator[tuple[int, str]]:
        """(row, key) of every key of a row, of which there is one a line, that is an item's."""
        if len(self._keys):
            lists = pc.split_pattern(keys.combine_chunks(), "\n")
            found = pc.index_in(lists.flatten(), value_set=self._keys)
            rows = pc.list_parent_indices(lists).filter(pc.is_valid(found))
            names = self._keys.take(found.drop_null())
            yield from zip(rows.to_pylist(), names.to_pylist(), strict=True)


class Tally:
    """For every item: documents that went for it and that stayed beside it, and the largest coverage of each."""

    def __init__(self, items: Sequence[EvaluationItem]):
        self.items = items
        self.documents = np.zeros((2, len(items)), dtype=np.int64)  # kept, removed
        self.coverage = np.zeros((2, len(items)))

    def count(self, items: Ints, coverage: "np.ndarray", removed: "np.ndarray") -> None:
        row = removed.astype(np.int64)
        np.add.at(self.documents, (row, items), 1)
        np.maximum.at(self.coverage, (row, items), coverage)

    def table(self) -> pa.Table:
        """All items with their counts, in order."""
        (kept, removed), (kept_coverage, removed_coverage) = self.documents, np.round(self.coverage, 6)
        named = [[getattr(item, name) for item in self.items] for name in ("family", "id", "holds_out")]
        columns = [*named, removed, kept, removed_coverage, kept_coverage]
        return pa.table([pa.array(column) for column in columns], schema=TALLY_SCHEMA)

    def families(self) -> dict[str, dict[str, Any]]:
        """By family of items: how many there are, how many any training document overlaps with, and the documents."""
        kept, removed = self.documents
        made: dict[str, dict[str, Any]] = {}
        for number, item in enumerate(self.items):
            entry = made.setdefault(
                item.family,
                {"items": 0, "holds_out": item.holds_out, "touched": 0, "overlapping": 0, "removed": 0, "kept": 0},
            )
            entry["items"] += 1
            entry["touched"] += int(kept[number] + removed[number] > 0)
            entry["overlapping"] += int(kept[number] > 0)
            entry["removed"] += int(removed[number])
            entry["kept"] += int(kept[number])
        return dict(sorted(made.items()))

    def add(self, table: pa.Table) -> None:
        """Add the `table` of another tally of the same items."""
        self.documents += np.stack([table["kept"].to_numpy(), table["removed"].to_numpy()])
        more = np.stack([table["kept_coverage"].to_numpy(), table["removed_coverage"].to_numpy()])
        np.maximum(self.coverage, more, out=self.coverage)


@lru_cache(maxsize=2)
def decontamination(
    corpus: Path, config: DecontaminationConfig, files: tuple[Items, ...], stored: tuple[Path, ...] = ()
) -> Decontamination:
    """Of the items registered in a corpus folder, those of further files and, each once, those that were `stored` for
    other corpora; kept by each process."""
    own = [*registered(corpus), *external(files, config)]
    return Decontamination(list(dict.fromkeys([*own, *stored_items(stored)])) if stored else own, config)


def detail(match: Match) -> str:
    """What the table of rejects says of it: family, item, coverage and the spans on both sides, as JSON."""
    return json.dumps(
        {
            "family": match.item.family,
            "item": match.item.id,
            "coverage": round(match.coverage, 4),
            "document_span": match.text_span,
            "item_span": match.item_span,
        }
    )


def _around(text: str, start: int, end: int) -> dict[str, Any]:
    return {
        "start": start,
        "end": end,
        "before": text[max(0, start - _AROUND) : start],
        "match": text[start:end],
        "after": text[end : end + _AROUND],
    }
