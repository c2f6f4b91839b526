"""What comparing a corpus reads from its store, counted where the store reads, for corpora of any number of documents.

Signatures are generated, not made from text, so that millions of documents take a minute: a share are exact copies of
earlier documents of any part, a share look-alikes of earlier ones, which have about as many keys in common with them as
texts of that similarity have. The store is one of objects in memory; every task runs on a machine that has nothing of
it yet, so that all it reads is fetched, and what plans a step's tasks and gathers them is counted as well.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from k2model.artifacts import ArtifactRef, Identity, PartedStep, Step, Store, make, make_part
from k2model.artifacts.files import RemoteFiles
from k2model.curation import (
    duplicates_step,
    near_pairs_step,
    signature_matches_step,
    signature_ranges_step,
    sketch_ranges_step,
)
from k2model.curation.parts import NUMBERING_FILE, CorpusPart, Numbering
from k2model.curation.signatures import BANDS, SIGNATURES, SKETCHES, bands_for, schemas
from k2model.documents.tables import write_table
from k2model.recipe.schema import CorpusConfig, SourceConfig

CONFIG = CorpusConfig(sources=(SourceConfig("web", location="-", domain="prose", licence="CC0-1.0"),))
COPIES, LOOK_ALIKES = 0.1, 0.2
SIMILARITY = 0.9  # of look-alikes


@dataclass
class Reads:
    """Bytes and requests, by step, how many parts each step had and what it counted."""

    bytes: dict[str, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    stats: dict[str, dict[str, float]] = field(default_factory=dict)

    def count(self, step: str, size: int) -> None:
        self.bytes[step] = self.bytes.get(step, 0) + size
        self.requests[step] = self.requests.get(step, 0) + 1


def compared(parts: int, documents: int, slice_rows: int, sketch_rows: int, name: str) -> Reads:
    """What is read to compare `parts` x `documents`, on a store of that name."""
    reads, before = Reads(), os.environ.get("K2_HOME")
    with tempfile.TemporaryDirectory() as home:
        machines = _machines(Path(home))
        next(machines)
        store = Store.open(f"memory://{name}")
        try:
            clean = store.build(Identity("corpus_clean", "generated", {}), _writer(parts, documents))
            run = _Runner(store, reads, machines)
            ranges = run.parted(signature_ranges_step(store, CONFIG, clean, slice_rows))
            matches = run.parted(signature_matches_step(store, ranges))
            sketches = run.parted(sketch_ranges_step(store, CONFIG, clean, ranges, matches, sketch_rows))
            near = run.parted(near_pairs_step(store, CONFIG, sketches))
            run.whole(duplicates_step(store, CONFIG, clean, matches, near))
            return reads
        finally:
            store.files_of("").remove("")
            if before is None:
                del os.environ["K2_HOME"]
            else:
                os.environ["K2_HOME"] = before


class _Runner:
    def __init__(self, store: Store, reads: Reads, machines: Iterator[Path]) -> None:
        self.store, self.reads, self.machines = store, reads, machines

    def parted(self, step: PartedStep) -> ArtifactRef:
        with counted(self.reads, step.identity.step):
            parts = step.parts()
            for part in parts:
                next(self.machines)
                make_part(self.store, step, part)
            next(self.machines)
            return self._counted(make(self.store, step), len(parts))

    def whole(self, step: Step) -> ArtifactRef:
        next(self.machines)
        with counted(self.reads, step.identity.step):
            return self._counted(make(self.store, step), 1)

    def _counted(self, made: ArtifactRef, parts: int) -> ArtifactRef:
        self.reads.parts[made.kind], self.reads.stats[made.kind] = parts, dict(made.stats)
        return made


@contextlib.contextmanager
def counted(reads: Reads, step: str) -> Iterator[None]:
    """Counts what is read of object stores meanwhile."""
    read, ranged, download = RemoteFiles.read, RemoteFiles.read_range, RemoteFiles.download

    def counting(function: Callable[..., bytes]) -> Callable[..., bytes]:
        def wrapped(self: RemoteFiles, *arguments: Any) -> bytes:
            data = function(self, *arguments)
            reads.count(step, len(data))
            return data

        return wrapped

    def downloaded(self: RemoteFiles, path: str, target: Path) -> None:
        download(self, path, target)
        reads.count(step, target.stat().st_size)

    names = {"read": counting(read), "read_range": counting(ranged), "download": downloaded}
    try:
        for name, function in names.items():
            setattr(RemoteFiles, name, function)
        yield
    finally:
        for name, function in {"read": read, "read_range": ranged, "download": download}.items():
            setattr(RemoteFiles, name, function)


def _machines(home: Path) -> Iterator[Path]:
    """Each an empty K2_HOME; the one before is gone."""
    number = 0
    while True:
        place = home / str(number)
        os.environ["K2_HOME"] = str(place)
        yield place
        shutil.rmtree(place, ignore_errors=True)
        number += 1


def _writer(parts: int, documents: int) -> Callable[[Path], dict[str, float]]:
    def write(folder: Path) -> dict[str, float]:
        signed = _Generated(parts * documents)
        places = [CorpusPart("train", "web", number) for number in range(parts)]
        for number, part in enumerate(places):
            for kind, table in signed.tables(number * documents, documents).items():
                write_table(part.file(folder / kind), table)
        numbering = Numbering.counted(places, [documents] * parts)
        (folder / NUMBERING_FILE).write_text(numbering.to_json(), encoding="utf-8")
        return {}

    return write


class _Generated:
    """A function of the number of a document and of the one that it copies, so that any part can be made alone."""

    def __init__(self, documents: int) -> None:
        rng = np.random.default_rng(0)
        self.kind = rng.random(documents)
        earlier = (rng.random(documents) * np.arange(documents)).astype(np.int64)
        self.of = np.where(self.kind < COPIES + LOOK_ALIKES, earlier, np.arange(documents))
        for _ in range(8):  # what a copy copies is itself a copy sometimes
            self.of = self.of[self.of]

    def tables(self, start: int, count: int) -> dict[str, pa.Table]:
        own = np.arange(start, start + count)
        of, copy = self.of[own], self.kind[own] < COPIES
        bands, rows = bands_for(CONFIG.near_duplicate_threshold, CONFIG.minhash_permutations)
        width = CONFIG.minhash_permutations
        minima, other = _hashed(of, width), _hashed(own + (1 << 40), width)
        keeps = copy[:, None] | (of == own)[:, None] | (_hashed(own + (1 << 41), width) < SIMILARITY * 2.0**64)
        minima = np.where(keeps, minima, other)
        keys = np.stack([minima[:, i * rows : (i + 1) * rows].sum(axis=1, dtype=np.uint64) for i in range(bands)])
        sketch = np.ascontiguousarray((minima >> np.uint64(56)).astype(np.uint8))
        exact = _hashed(np.where(copy, of, own) + (1 << 42), 2)
        columns = {
            SIGNATURES: [own - start, _binary(exact.view(np.uint8)), np.ones(count, dtype=np.int32)],
            BANDS: [*keys, np.ones(count, dtype=bool)],
            SKETCHES: [_binary(sketch)],
        }
        return {
            kind: pa.table([pa.array(column) for column in columns[kind]], schema=schema)
            for kind, schema in schemas(CONFIG, True).items()
        }


def _hashed(numbers: np.ndarray, width: int) -> np.ndarray:
    """[numbers, width] well-mixed 64-bit values of each number."""
    value: Any = numbers.astype(np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15) + np.arange(
        1, width + 1, dtype=np.uint64
    )
    for factor, shift in ((0xBF58476D1CE4E5B9, 30), (0x94D049BB133111EB, 27)):  # splitmix64 (Steele et al. 2014)
        value = (value ^ (value >> np.uint64(shift))) * np.uint64(factor)
    return value ^ (value >> np.uint64(31))


def _binary(octets: np.ndarray) -> pa.Array:
    width = octets.shape[1]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(octets), [None, pa.py_buffer(octets.tobytes())])
