"""Copies of what is known: documents of a new corpus that a corpus of before has, by the signatures of both.

No text is read. What is known may be of any size: it passes through slice by slice, a few of its parts at a time, while
of the new corpus the hashes, or the keys of one band, are in memory (some 50 bytes a document). A document is a copy
of the first known one that is equal to it or, without such, of the first that shares a key of a band and has a sketch
as similar as the threshold; first in the order of the corpora and of each one's own numbers. So the result does not
depend on slices.

Of the known documents of one part that share a key `PART_LEADERS` are compared: more are copies of each other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from k2model.curation.duplicates import read_rows
from k2model.curation.parts import CorpusPart, Numbering, Span
from k2model.curation.signatures import (
    BANDS,
    SIGNATURE_SCHEMA,
    SIGNATURES,
    SKETCHES,
    CorpusSignatures,
    band_columns,
    schemas,
    similarity,
    unpacked,
)
from k2model.curation.texts import Flags, Hashes, Ints
from k2model.documents.tables import read_batches, read_table, required, selected, write_table
from k2model.errors import CorpusError
from k2model.recipe.schema import CorpusConfig

#: Of a slice: a new document, and the number of the known one. Equal ones are not `near`.
FOUND_SCHEMA = required(document=pa.int64(), original=pa.int64(), near=pa.bool_())
#: Of all: what a new document copies, `lifecycle:train/prose/00000:17`, by the new document's number.
COPIES_SCHEMA = required(document=pa.int64(), original=pa.string(), near=pa.bool_())
COPIES_FILE, COUNTS_FILE = "copies.parquet", "known_copies.json"
PART_LEADERS = 64
_PAIRS = 1 << 18  # sketches compared at a time
_CANDIDATES = 1 << 22  # pairs held before they are compared
_ROWS = 1 << 16  # signatures read at a time
NEVER = np.iinfo(np.int64).max
SIGNED_BY = ("minhash_permutations", "near_duplicate_threshold", "shingle_words")  # what signatures are made with


def check_comparable(record: Mapping[str, Any], name: str, config: CorpusConfig, version: str) -> None:
    """Raises CorpusError when the known corpus of this record was signed otherwise than `config` and `version` say."""
    told = {"version": record["version"], **{field: record["config"].get(field) for field in SIGNED_BY}}
    wanted = {"version": version, **{field: getattr(config, field) for field in SIGNED_BY}}
    for field, value in wanted.items():
        if told[field] != value:
            what = "the version of corpus_clean" if field == "version" else f"corpus.{field}"
            raise CorpusError(
                f"{name} was signed with {what} = {told[field]}, the new documents with {value}: their signatures say "
                "nothing of each other. Give the new corpus the same setting, or clean the known one again with this "
                "version"
            )


@dataclass(frozen=True)
class KnownPart:
    """A slice of what is known: `spans` of its parts, of which those in `natural` have bands and sketches."""

    signatures: CorpusSignatures
    spans: Sequence[Span]
    natural: frozenset[CorpusPart]


def copies_in(
    new: CorpusSignatures, natural: Sequence[str], config: CorpusConfig, known: KnownPart, out: Path
) -> dict[str, int]:
    """Write the copies that a slice of a known corpus tells of, a row for each document, in their order.

    natural: sources of the new corpus among whose documents near copies are looked for.
    """
    original = _equal(new, known)
    near = original == NEVER
    alike = _alike(new, list(new.numbering.spans(natural)), config, known, near)
    near &= alike != NEVER
    documents = np.flatnonzero((original != NEVER) | near)
    columns = [documents, np.where(near, alike, original)[documents], near[documents]]
    write_table(out, pa.table([pa.array(column) for column in columns], schema=FOUND_SCHEMA))
    return {"exact": int((original != NEVER).sum()), "near": int(near.sum())}


def gather_copies(
    slices: Sequence[tuple[str, Path]], numberings: Mapping[str, Numbering], documents: int, folder: Path
) -> dict[str, Any]:
    """Write what every new document copies, from what was found in slices; returns the counts.

    slices: the known corpus' name, in the order of the corpora, and the slice's file. documents: of the new corpus.
    Counted are `documents`, `exact` and `near` copies, and by corpus the copies of documents there.
    """
    names = list(numberings)
    corpus, original, near = np.full(documents, -1), np.full(documents, NEVER), np.zeros(documents, dtype=bool)
    for name, path in slices:
        table = read_table(path, FOUND_SCHEMA)
        own, number, similar = (table[column].to_numpy() for column in FOUND_SCHEMA.names)
        earlier = (corpus[own] < 0) | (near[own] & ~similar)
        earlier |= (near[own] == similar) & (corpus[own] == names.index(name)) & (number < original[own])
        own, number, similar = own[earlier], number[earlier], similar[earlier]
        corpus[own], original[own], near[own] = names.index(name), number, similar
    copies = np.flatnonzero(corpus >= 0)
    told = [
        f"{names[of]}:{numberings[names[of]].name(number)}"
        for of, number in zip(corpus[copies].tolist(), original[copies].tolist(), strict=True)
    ]
    columns = [pa.array(copies), pa.array(told, pa.string()), pa.array(near[copies])]
    write_table(folder / COPIES_FILE, pa.table(columns, schema=COPIES_SCHEMA))
    by_corpus = {
        name: {"exact": int((~near & (corpus == of)).sum()), "near": int((near & (corpus == of)).sum())}
        for of, name in enumerate(names)
    }
    total = {kind: sum(one[kind] for one in by_corpus.values()) for kind in ("exact", "near")}
    return {"documents": documents, **total, "corpora": by_corpus}


class KnownCopies(NamedTuple):
    """New documents, ascending; the name of what each copies; whether it is a near copy. Each [copies]."""

    documents: Ints
    originals: pa.Array
    near: Flags

    @classmethod
    def read(cls, folder: Path) -> "KnownCopies":
        """From the folder of `gather_copies`."""
        return cls._of(read_table(folder / COPIES_FILE, COPIES_SCHEMA))

    @classmethod
    def none(cls) -> "KnownCopies":
        return cls._of(COPIES_SCHEMA.empty_table())

    @classmethod
    def _of(cls, table: pa.Table) -> "KnownCopies":
        names = pa.array(table["original"].to_pylist(), pa.string())
        return cls(table["document"].to_numpy(), names, table["near"].to_numpy())


def _equal(new: CorpusSignatures, known: KnownPart) -> Ints:
    """For each new document the first known one of the slice with its hash, `NEVER` without: int64 [documents]."""
    none = np.zeros((0, 2), dtype=np.uint64)
    words = np.concatenate([none, *(words for _, words in _hashes(new, list(new.numbering.spans())))])
    order = np.lexsort((words[:, 1], words[:, 0]))
    heads = np.ones(len(order), dtype=bool)
    heads[1:] = (words[order][1:] != words[order][:-1]).any(axis=1)
    unique = words[order][heads]
    first = np.full(len(unique), NEVER)
    for start, theirs in _hashes(known.signatures, known.spans):
        rows, which = _matching(unique[:, 0], theirs[:, 0])
        same = unique[which, 1] == theirs[rows, 1]
        np.minimum.at(first, which[same], rows[same] + start)
    found = np.full(len(order), NEVER)
    found[order] = first[np.cumsum(heads) - 1] if len(order) else first
    return found


def _hashes(signatures: CorpusSignatures, spans: Sequence[Span]) -> Iterator[tuple[int, Hashes]]:
    """(number of the first document, halves of the hashes [documents, 2]), some documents at a time."""
    folder = signatures.folder(SIGNATURES, [part for part, _, _ in spans])
    for part, start, _ in spans:
        for batch in read_batches(part.file(folder), selected(SIGNATURE_SCHEMA, "exact"), _ROWS):
            yield start, unpacked(batch.column("exact")).view(np.uint64)
            start += batch.num_rows


def _matching(ordered: Hashes, values: Hashes) -> tuple[Ints, Ints]:
    """(index among `values`, index in `ordered`) of all that are equal."""
    low, high = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    counts = high - low
    rows = np.repeat(np.arange(len(values)), counts)
    return rows, np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(low, counts)


def _alike(new: CorpusSignatures, spans: Sequence[Span], config: CorpusConfig, known: KnownPart, wanted: Flags) -> Ints:
    """For each new document that is `wanted` the first known one of the slice that is similar, `NEVER` without."""
    best = np.full(new.numbering.documents, NEVER)
    natural = [span for span in known.spans if span[0] in known.natural]
    if not spans or not natural:
        return best
    held: list[tuple[Ints, Ints]] = []
    pairs = 0
    own, others = (
        signatures.folder(BANDS, [part for part, _, _ in some])
        for signatures, some in ((new, spans), (known.signatures, natural))
    )
    for column in band_columns(config):
        keys, numbers = _column(own, spans, column)
        chosen = wanted[numbers]
        keys, numbers = keys[chosen], numbers[chosen]
        order = np.argsort(keys, kind="stable")
        keys, numbers = keys[order], numbers[order]
        for part in natural:
            theirs, known_numbers = _column(others, [part], column)
            for few in _first_of_each(theirs, PART_LEADERS):
                rows, which = _matching(keys, theirs[few])
                earlier = known_numbers[few][rows] < best[numbers[which]]
                if earlier.any():
                    held.append((numbers[which[earlier]], known_numbers[few][rows[earlier]]))
                pairs += int(earlier.sum())
                if pairs > _CANDIDATES:
                    _compare(new, known, config, held, best)
                    pairs = 0
    if held:
        _compare(new, known, config, held, best)
    return best


def _column(folder: Path, spans: Sequence[Span], column: str) -> tuple[Hashes, Ints]:
    """Keys of a band of the documents that have words, and their numbers."""
    keys, numbers = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
    schema = required(**{column: pa.uint64()}, near=pa.bool_())
    for part, start, _ in spans:
        for batch in read_batches(part.file(folder), schema, _ROWS):
            rows = np.flatnonzero(batch.column("near").to_numpy(zero_copy_only=False))
            keys.append(batch.column(column).to_numpy()[rows])
            numbers.append(rows + start)
            start += batch.num_rows
    return np.concatenate(keys), np.concatenate(numbers)


def _first_of_each(keys: Hashes, most: int) -> list[Ints]:
    """Indices of the first of every key, of the second ones, and so on: at most `most`, none empty. A key that many new
    documents have gives pairs with all of them, of which most are settled by the first."""
    order = np.argsort(keys, kind="stable")
    heads = np.ones(len(keys), dtype=bool)
    heads[1:] = keys[order][1:] != keys[order][:-1]
    begins = np.flatnonzero(heads)
    place = np.arange(len(keys)) - np.repeat(begins, np.diff(np.append(begins, len(keys))))
    return [order[place == rank] for rank in range(min(most, int(place.max(initial=-1)) + 1))]


def _compare(
    new: CorpusSignatures, known: KnownPart, config: CorpusConfig, held: list[tuple[Ints, Ints]], best: Ints
) -> None:
    """Takes the candidates held, and lowers `best` of those that are similar."""
    pairs = np.unique(np.stack([np.concatenate(ends) for ends in zip(*held, strict=True)], axis=1), axis=0)
    held.clear()
    pairs = pairs[pairs[:, 1] < best[pairs[:, 0]]]
    for begin in range(0, len(pairs), _PAIRS):
        own, theirs = pairs[begin : begin + _PAIRS].T
        alike = similarity(_sketches(new, config, own), _sketches(known.signatures, config, theirs))
        similar = alike >= config.near_duplicate_threshold
        np.minimum.at(best, own[similar], theirs[similar])


def _sketches(signatures: CorpusSignatures, config: CorpusConfig, numbers: Ints) -> "np.ndarray":
    """[documents, permutations], in the order given."""
    wanted, where = np.unique(numbers, return_inverse=True)
    return read_rows(signatures, SKETCHES, wanted, schemas(config, natural=True)[SKETCHES])[where]
