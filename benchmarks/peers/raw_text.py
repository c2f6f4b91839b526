"""Raw text in any amount, for the scale check: JSONL as a crawl leaves it, with what curation must find.

Documents are walks over the word pairs of the standard library's prose, so that words, sentences and
lines are distributed as in written English while no two documents are alike, unless planted: some
documents are copies of earlier ones, some are copies with a few words changed, some hold an address,
some lines are no JSON. What was planted is returned, so that what is found can be held against it.
A function of (seed, file) alone, hence in parallel.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BATCH = 4_000  # documents made at once
MEDIAN_WORDS, SPREAD = 320, 0.8  # of a log-normal length, within WORDS
WORDS = (40, 6_000)
PARAGRAPH = 70  # words
EXACT, NEAR, PRIVATE, BROKEN = 0.06, 0.06, 0.02, 0.002  # shares of documents
CHANGED = 0.01  # share of a near duplicate's words that are others


@dataclass(frozen=True)
class Language:
    """Word pairs: the successors of word w are `successors[offsets[w]:offsets[w + 1]]`."""

    words: pa.Array
    offsets: np.ndarray
    successors: np.ndarray

    @classmethod
    def of(cls, texts: list[str]) -> "Language":
        tokens = [word for text in texts for word in text.split() if word.isascii()]
        coded = pa.array(tokens).dictionary_encode()
        ids = coded.indices.to_numpy().astype(np.int64)
        size = len(coded.dictionary)
        first, second = ids, np.roll(ids, -1)
        order = np.argsort(first, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(np.bincount(first, minlength=size))])
        return cls(coded.dictionary, offsets, second[order])

    def walk(self, rng: np.random.Generator, chains: int, length: int) -> np.ndarray:
        """[chains, length] word ids: each chain goes from word to word as the texts do."""
        made = np.empty((length, chains), dtype=np.int64)
        made[0] = self.successors[rng.integers(len(self.successors), size=chains)]
        for i in range(1, length):
            low = self.offsets[made[i - 1]]
            made[i] = self.successors[
                low + (rng.random(chains) * (self.offsets[made[i - 1] + 1] - low)).astype(np.int64)
            ]
        return made.T


@dataclass(frozen=True)
class Planted:
    documents: int
    exact: int
    near: int
    private: int
    broken: int
    bytes: int


def write_file(path: Path, language: Language, size: int, seed: int) -> Planted:
    """About `size` bytes of JSONL with `text`, `url` and `date`."""
    rng = np.random.default_rng(seed)
    counts = {"documents": 0, "exact": 0, "near": 0, "private": 0, "broken": 0, "bytes": 0}
    with path.open("wb") as sink:
        while counts["bytes"] < size:
            ids, lengths = _documents(language, rng)
            kinds = rng.random(len(lengths))
            kinds[0] = 0.5  # nothing comes before it that it could copy
            _plant_copies(ids, lengths, kinds, language, rng)
            texts = _texts(language, ids, lengths)
            for row, text in enumerate(texts):
                line = _line(text, seed, counts["documents"], kinds[row], counts)
                sink.write(line)
                counts["documents"] += 1
                counts["bytes"] += len(line)
                if counts["bytes"] >= size:
                    break
    return Planted(**counts)


def _documents(language: Language, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    lengths = np.clip(rng.lognormal(np.log(MEDIAN_WORDS), SPREAD, BATCH).astype(np.int64), *WORDS)
    stream = language.walk(rng, 1_024, -(-int(lengths.sum()) // 1_024)).reshape(-1)
    return np.split(stream[: lengths.sum()], np.cumsum(lengths)[:-1]), lengths


def _plant_copies(
    ids: list[np.ndarray], lengths: np.ndarray, kinds: np.ndarray, language: Language, rng: np.random.Generator
) -> None:
    for row in np.flatnonzero(kinds < EXACT + NEAR).tolist():
        ids[row] = ids[int(rng.integers(row))]
        lengths[row] = len(ids[row])
        if kinds[row] >= EXACT:
            ids[row] = ids[row].copy()
            places = rng.integers(len(ids[row]), size=max(1, int(CHANGED * len(ids[row]))))
            ids[row][places] = rng.integers(len(language.words), size=len(places))


def _texts(language: Language, ids: list[np.ndarray], lengths: np.ndarray) -> list[str]:
    words = language.words.take(pa.array(np.concatenate(ids)))
    paragraphs = [np.arange(0, length, PARAGRAPH) for length in lengths.tolist()]
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    offsets = np.concatenate([start + own for start, own in zip(starts, paragraphs, strict=True)] + [[lengths.sum()]])
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), words), " ")
    per_document = np.concatenate([[0], np.cumsum([len(own) for own in paragraphs])])
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(per_document, pa.int32()), joined), ".\n\n").to_pylist()


def _line(text: str, seed: int, number: int, kind: float, counts: dict[str, int]) -> bytes:
    if kind < EXACT + NEAR:
        counts["exact" if kind < EXACT else "near"] += 1
    if kind > 1 - BROKEN:
        counts["broken"] += 1
        return f'{{"text": "{number} cut sho\n'.encode()
    if kind > 1 - BROKEN - PRIVATE:
        counts["private"] += 1
        text += f" Write to person{number}@mail{seed}.org or call +1 415 555 {number % 10_000:04d}."
    row = {"text": text + ".", "url": f"https://site{number % 997}.org/{seed}/{number}", "date": "2026-01-01"}
    return (json.dumps(row) + "\n").encode()
