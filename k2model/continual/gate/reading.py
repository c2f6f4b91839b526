"""Documents of a validated corpus as the gate of an arriving batch reads them: what is asked, what is learned.

A document is read without K2's special tokens and without what ChatML writes around turns. `asked` is what is given to
the model, `learned` what it is trained to say; of plain text, where all is learned, `asked` is empty and `learned` is
the text. `answer` is the last piece that is learned, behind any thinking.

Of many documents a sample is drawn: of each source the documents with the smallest hashes of their ids, from at most
`FILES` of its files, which are drawn likewise. So it is seeded, spread over the source, and the same on every machine.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from k2model.artifacts import ArtifactRef, Store
from k2model.documents.markup import IM_START, Segment
from k2model.documents.schema import DOCUMENT_SCHEMA
from k2model.documents.spans import segments_of
from k2model.documents.tables import as_stated, opened_table, read_table, selected

FILES = 16  # of a source that are opened
CHARACTERS = 20_000  # of a document that are read
EXCERPT = 200  # characters of a text that a person is shown
_SCHEMA = selected(DOCUMENT_SCHEMA, "id", "domain", "origin", "text", "spans")


@dataclass(frozen=True)
class Read:
    """One document. origin: where it is from, by default the batch's file and row (`a.jsonl#17`)."""

    id: str
    source: str  # the stem of its file's folder
    domain: str
    origin: str
    segments: tuple[Segment, ...]
    asked: str
    learned: str
    answer: str

    @property
    def dialogue(self) -> bool:
        return any(one["kind"] == "special" and one["text"] == IM_START for one in self.segments)

    @property
    def text(self) -> str:
        """Everything that somebody wrote."""
        return f"{self.asked}\n{self.learned}" if self.asked else self.learned

    @property
    def target_bytes(self) -> int:
        """Bytes of UTF-8 that are learned; a special token counts as one."""
        learned = (one for one in self.segments if one["loss_mask"])
        return sum(1 if one["kind"] == "special" else len(one["text"].encode()) for one in learned)

    def example(self, **more: Any) -> dict[str, Any]:
        """As evidence for a person."""
        shown = self.text if len(self.text) <= EXCERPT else f"{self.text[:EXCERPT]}…"
        return {"origin": self.origin, "document": self.id, "text": shown, **more}


def read(source: str, row: Mapping[str, Any]) -> Read:
    """A document from its columns `_SCHEMA`. Raises CorpusError where its spans do not cover its text."""
    segments = tuple(segments_of(row))
    pieces: dict[bool, list[str]] = {False: [], True: []}
    for one in segments:
        if one["kind"] == "text" and one["text"].strip():
            pieces[one["loss_mask"]].append(one["text"][:CHARACTERS])
    asked, learned = ("\n".join(pieces[side])[:CHARACTERS] for side in (False, True))
    answer = pieces[True][-1] if pieces[True] else ""
    return Read(row["id"], source, row["domain"], row["origin"], segments, asked, learned, answer)


def sampled(store: Store, corpus: ArtifactRef, documents: int, split: str = "train", seed: int = 0) -> list[Read]:
    """At most `documents` of each source of a corpus (kind `corpus_valid`), by source and hash."""
    found: list[Read] = []
    for source, files in _sources(store, corpus, split):
        found += _of(store, corpus, source, files, documents, seed)
    return found


def _sources(store: Store, corpus: ArtifactRef, split: str) -> Iterator[tuple[str, list[str]]]:
    _, manifest = store.look_up(corpus)
    found: dict[str, list[str]] = {}
    for path in sorted(entry.path for entry in manifest.files):
        parts = PurePosixPath(path).parts
        if len(parts) == 3 and parts[0] == split and path.endswith(".parquet"):
            found.setdefault(parts[1], []).append(path)
    yield from sorted(found.items())


def _of(store: Store, corpus: ArtifactRef, source: str, files: list[str], documents: int, seed: int) -> Iterator[Read]:
    chosen = sorted(files, key=lambda path: _draw(path, seed))[:FILES]
    folder = store.fetch(corpus, frozenset(chosen).__contains__)
    ids = [(path, read_table(folder / path, selected(_SCHEMA, "id"))["id"].to_pylist()) for path in chosen]
    drawn = sorted((_draw(one, seed), path, row) for path, own in ids for row, one in enumerate(own))[:documents]
    rows: dict[tuple[str, int], Read] = {}
    for path in chosen:
        wanted = np.sort([row for _, own, row in drawn if own == path]).astype(np.int64)
        for row, one in _rows(folder / path, wanted):
            rows[path, row] = read(source, one)
    yield from (rows[path, row] for _, path, row in drawn)


def _rows(path: Path, wanted: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
    """Those rows of a file, read by row groups, with their numbers."""
    start = 0
    with opened_table(path, _SCHEMA) as file:
        for group in range(file.metadata.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            own = wanted[(wanted >= start) & (wanted < end)]
            if len(own):
                table = as_stated(file.read_row_group(group, columns=_SCHEMA.names), _SCHEMA, path)
                yield from zip(own.tolist(), table.take(own - start).to_pylist(), strict=True)
            start = end


def _draw(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
