"""Tokens packed per second and core: planning, whole phases from shards to files, and a peer in the same run.

Three phases of made-up documents with the lengths of real ones: the laptop's (rows of 128, documents of some 30
tokens), pre-training (8,192, concatenated) and K2's SFT (65,536, 98% of documents below 8K, 1,740 tokens on
average, longer ones skipped). Time is this process's CPU time; files go to a temporary folder and are counted
with their hashes.

The peer is trl's `pack_dataset` ("bfd", or "wrapped" for concatenation) on a shuffled `datasets.Dataset` of the
same documents: ids alone without targets, in memory, up to packed columns and without writing or hashing them.
Where trl is not installed it is best-fit decreasing document by document with a sorted list of rooms, as it is
commonly written, without moving any token. Rounds alternate.

    python -m benchmarks.packing [--megatokens 32] [--rounds 5]
"""

import argparse
import bisect
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from k2model.recipe.laptop import laptop
from k2model.recipe.schema import LongDocuments, MixtureEntry, Packing, PhaseConfig
from k2model.tokens import mixture
from k2model.tokens.sequences import lay_out, pack_folder
from k2model.tokens.shards import SCHEMA, open_shard, read_counts

SOURCES = 8


@dataclass(frozen=True)
class Case:
    """Log-normal lengths of median exp(`mean`); `packing` and what to do with documents longer than a row."""

    name: str
    sequence_length: int
    mean: float
    deviation: float
    packing: Packing
    long_documents: LongDocuments = LongDocuments.SPLIT

    def phase(self, tokens: int) -> PhaseConfig:
        rows = tokens // self.sequence_length
        return replace(
            laptop().phases[0],
            name=self.name,
            sequence_length=self.sequence_length,
            global_batch=1,
            steps=rows,
            mixture=tuple(MixtureEntry(f"source{i}", 1.0) for i in range(SOURCES)),
            packing=self.packing,
            long_documents=self.long_documents,
        )


CASES = (
    Case("laptop", 128, 3.3, 0.5, Packing.BEST_FIT),
    Case("pretrain", 8_192, 6.2, 1.0, Packing.CONCATENATE),
    Case("sft", 65_536, 6.966, 0.995, Packing.BEST_FIT, LongDocuments.SKIP),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megatokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            _measure(case, int(options.megatokens * 1e6), options.rounds, Path(folder))


def _measure(case: Case, tokens: int, rounds: int, folder: Path) -> None:
    _write_shards(folder / "tokens", case, 1.02 * tokens)
    phase, lengths = case.phase(tokens), _lengths(folder / "tokens")
    there = sum(source.tokens for source in lengths)
    peer_name, peer = _peer(folder / "tokens", phase)
    times: dict[str, list[float]] = {"planning": [], "whole": [], "peer": []}
    results: dict[str, Any] = {}
    for number in range(rounds):
        target = folder / f"rows{number}"
        target.mkdir()
        ways: dict[str, Callable[[], Any]] = {
            "planning": lambda: lay_out(lengths, phase),
            "whole": lambda target=target: pack_folder(folder / "tokens", phase, target, 60.0),
            "peer": peer,
        }
        for name, way in ways.items():
            with _timed(times[name]):
                results[name] = way()
    composition = json.loads((target / "composition.json").read_text())
    rates = {name: phase.tokens / median(seconds) / 1e6 for name, seconds in times.items()}
    ratio = median(peer / ours for ours, peer in zip(times["whole"], times["peer"], strict=True))
    print(
        f"{case.name}: rows of {case.sequence_length:,}, "
        f"{composition['tokens'] / composition['documents']:,.0f} tokens a document; "
        f"planning {rates['planning']:,.0f}M, whole {rates['whole']:.1f}M, {peer_name} "
        f"{rates['peer']:.1f}M tokens/s and core; padding {composition['padding']:.5%}, "
        f"split {composition['split']:.4%}, truncated {composition['truncated']:.4%}, "
        f"skipped {composition['skipped']:.4%} of documents; the peer's padding "
        f"{1 - there / (results['peer'] * case.sequence_length):.4%}"
    )
    row = {"name": f"packing_{case.name}", "ours": rates["whole"], **rates}
    versions = {
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
        "peer": peer_name,
        "python": platform.python_version(),
    }
    print(json.dumps({**row, "ratio": round(ratio, 2), "unit": "Mtokens/s/core", "versions": versions}))


@contextmanager
def _timed(into: list[float]) -> Iterator[None]:
    began = time.process_time()
    yield
    into.append(time.process_time() - began)


def _write_shards(folder: Path, case: Case, tokens: float) -> None:
    """A tokens artifact of random ids, equally many tokens in every source."""
    random = np.random.default_rng(0)
    counts: dict[str, Any] = {"vocab_size": 1000, "bos": 0, "pad": 2, "train": {}, "heldout": {}}
    for source in range(SOURCES):
        expected = np.exp(case.mean + case.deviation**2 / 2)
        lengths = random.lognormal(case.mean, case.deviation, int(tokens / SOURCES / expected)).astype(np.int64)
        lengths = np.maximum(lengths, 6)
        total = int(lengths.sum())
        offsets = pa.array(np.append(0, np.cumsum(lengths)), pa.int32())
        ids = pa.array(random.integers(3, 1000, total).astype(np.uint32))
        loss = pa.array(random.random(total) < 0.7)
        columns = [
            pa.array([str(i) for i in range(len(lengths))]),
            pa.ListArray.from_arrays(offsets, ids, type=SCHEMA.field("tokens").type),
            pa.ListArray.from_arrays(offsets, loss, type=SCHEMA.field("loss_mask").type),
            pa.array(np.ones(len(lengths), dtype=np.int32)),
        ]
        path = folder / "train" / f"source{source}" / "00000.arrow"
        path.parent.mkdir(parents=True)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
        counts["train"][f"source{source}"] = {"documents": len(lengths), "tokens": total, "domain": "chat"}
    (folder / "counts.json").write_text(json.dumps(counts))


def _lengths(tokens: Path) -> list[mixture.Source]:
    shards = {name: open_shard(tokens, "train", name) for name in read_counts(tokens)["train"]}
    return [mixture.Source(name, 1 / SOURCES, shard.lengths, natural=False) for name, shard in shards.items()]


def _peer(folder: Path, phase: PhaseConfig) -> tuple[str, Callable[[], Any]]:
    shards = [open_shard(folder, "train", name) for name in read_counts(folder)["train"]]
    try:
        import trl
        from datasets import Dataset, disable_progress_bars
        from datasets.table import InMemoryTable
        from trl import pack_dataset
    except ImportError:
        lengths = np.concatenate([shard.lengths for shard in shards])
        return "a best-fit decreasing loop", lambda: _best_fit_decreasing(lengths.tolist(), phase.sequence_length)
    offsets = np.append(0, np.cumsum(np.concatenate([shard.lengths for shard in shards])))
    tokens = np.concatenate([batch.tokens for shard in shards for batch in shard.batches])
    ids = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), tokens)
    dataset = Dataset(InMemoryTable.from_arrays([ids], names=["input_ids"]))
    strategy = "bfd" if phase.packing is Packing.BEST_FIT else "wrapped"
    disable_progress_bars()

    def pack() -> int:
        # A copy under another fingerprint, since datasets would give the result of the last round.
        fresh = Dataset(dataset.data, fingerprint=f"{time.perf_counter_ns():032x}")
        shuffled = fresh.shuffle(seed=0, keep_in_memory=True).flatten_indices(keep_in_memory=True)
        return len(pack_dataset(shuffled, phase.sequence_length, strategy, {"keep_in_memory": True}))

    return f"trl {trl.__version__} {strategy}", pack


def _best_fit_decreasing(lengths: list[int], capacity: int) -> int:
    rooms: list[int] = []
    rows = 0
    for length in sorted(lengths, reverse=True):
        for piece in [capacity] * (length // capacity) + [length % capacity]:
            at = bisect.bisect_left(rooms, piece)
            if at == len(rooms):
                rooms.append(capacity)
                rows += 1
            bisect.insort(rooms, rooms.pop(at) - piece)
    return rows


if __name__ == "__main__":
    main()
