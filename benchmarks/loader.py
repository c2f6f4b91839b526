"""Rows from an object store 50 ms away: tokens a second, and how long training would wait for them.

A SeaweedFS on this machine behind a proxy (a process of its own) that holds every request back for 50 ms; a
phase in parts of 8 blocks; a cache of a quarter of the phase. Three measurements:

* flat out: all rows as tensors, ours (verified, cached) and as it is plainly done: `pyarrow.ipc` on fsspec's
  `open`, which reads ahead but neither verifies nor keeps anything. Rounds alternate, each on an empty cache.
* paced: a step takes as long as training would, at 100 times the 19k tokens/s the laptop's recipe trains at; printed
  is how long each step waited for its rows after the first, apart for steps that begin in another part.
* one of 400: the rows of one of K2's 400 data-parallel workers, 3 of the 1,200 of each step, 24,576 tokens. How often
  it needs them is an assumption, since K2's throughput is not public: at 400 TFLOP/s on each of 3,200 GPUs a step
  of 9.83M tokens takes 3.3 s by 6 x 72.5e9 FLOPs a token.

    python -m benchmarks.loader [--megatokens 32] [--rounds 3]
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import numpy as np

from k2model.artifacts import ArtifactRef, Identity, Store
from k2model.recipe.schema import Parallelism
from k2model.tokens import PackedSequences
from k2model.tokens.rows import BLOCK_TOKENS, Rows, RowsIndex, part_path, write_rows
from tests.proxy import proxied
from tests.servers import run_s3

LATENCY = 0.05
LENGTH = 8_192
GLOBAL_BATCH = 24  # rows a step, where no other number is said
TRAINED = 19_000 * 100  # tokens a second of the paced reading
STEP_SECONDS = 6 * 72.5e9 * 9.83e6 / (3_200 * 400e12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megatokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = options.megatokens * 1_000_000 // LENGTH // GLOBAL_BATCH * GLOBAL_BATCH
    with tempfile.TemporaryDirectory() as folder, _far_store(Path(folder)) as store:
        ref = store.build(Identity("sequences", "1", {"rows": rows}), lambda target: _write(target, rows))
        shutil.rmtree(Path(folder, "home"))  # what was just written lies in the cache
        layout = Parallelism(loader_cache_gb=rows * LENGTH * 4.2 / 4e9)
        _flat_out(store, ref, layout, options.rounds)
        _paced(store, ref, layout)
        _one_of_many(store, ref, layout)


def _flat_out(store: Store, ref: ArtifactRef, layout: Parallelism, rounds: int) -> None:
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        _empty_cache()
        began = time.perf_counter()
        with contextlib.closing(PackedSequences.open(store, ref, layout)) as rows:
            steps = rows.rows // GLOBAL_BATCH
            for step in range(steps):
                rows.batch(step, GLOBAL_BATCH)
        times["ours"].append(time.perf_counter() - began)
        began = time.perf_counter()
        _read_plainly(ref, rows.index.parts)
        times["peer"].append(time.perf_counter() - began)
    tokens = steps * GLOBAL_BATCH * LENGTH
    ours, peer = (tokens / median(times[name]) for name in ("ours", "peer"))
    ratio = median(p / o for o, p in zip(times["ours"], times["peer"], strict=True))
    print(
        f"flat out, {LATENCY * 1e3:.0f} ms a request, {tokens / 1e6:.0f}M tokens: ours {ours / LENGTH:,.0f} rows/s, "
        f"{ours / 1e6:.1f}M tokens/s; pyarrow on fsspec's open {peer / 1e6:.1f}M tokens/s"
    )
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    row = {"name": "loader_flat_out", "ours": ours, "peer": peer, "ratio": round(ratio, 2), "unit": "tokens/s"}
    print(json.dumps({**row, "versions": versions}))


def _paced(store: Store, ref: ArtifactRef, layout: Parallelism) -> None:
    _empty_cache()
    per_step = GLOBAL_BATCH * LENGTH / TRAINED
    waits, borders = [], []
    with contextlib.closing(PackedSequences.open(store, ref, layout)) as rows:
        per_part = rows.index.rows_per_block * rows.index.blocks_per_part
        for step in range(rows.rows // GLOBAL_BATCH):
            began = time.perf_counter()
            rows.batch(step, GLOBAL_BATCH)
            waited = time.perf_counter() - began
            first, last = step * GLOBAL_BATCH, (step + 1) * GLOBAL_BATCH - 1
            if step == 0:
                print(f"paced at {TRAINED / 1e6:.1f}M tokens/s, {1e3 * per_step:.0f} ms a step: first {waited:.3f} s")
            elif first % per_part == 0 or first // per_part != last // per_part:
                borders.append(waited)
            else:
                waits.append(waited)
            time.sleep(max(per_step - waited, 0))
    for name, seconds in (("within a part", waits), ("at the border of a part", borders)):
        longest = f", median {1e3 * median(seconds):.1f} ms, most {1e3 * max(seconds):.1f} ms" if seconds else ""
        print(f"  {name}: {len(seconds)} steps{longest}")


def _one_of_many(store: Store, ref: ArtifactRef, layout: Parallelism) -> None:
    _empty_cache()
    with contextlib.closing(PackedSequences.open(store, ref, layout)) as rows:
        began = time.perf_counter()
        steps = rows.rows // 1_200
        for step in range(steps):
            rows.batch(step, 1_200, 7, 400)
        seconds = (time.perf_counter() - began) / max(steps, 1)
    print(
        f"one of 400: {steps} steps of 3 rows, {seconds:.3f} s each ({3 * LENGTH / seconds:,.0f} tokens/s); on paper "
        f"K2 needs them every {STEP_SECONDS:.1f} s ({3 * LENGTH / STEP_SECONDS:,.0f} tokens/s)"
    )


def _read_plainly(ref: ArtifactRef, parts: int) -> None:
    import pyarrow as pa
    import s3fs
    import torch

    files = s3fs.S3FileSystem()
    for part in range(parts):
        with files.open(f"{ref.uri}/{part_path(part)}", "rb") as file, pa.ipc.open_file(file) as reader:
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                torch.from_numpy(batch["tokens"].flatten().to_numpy().astype(np.int64))
                torch.from_numpy(batch["loss_mask"].flatten().to_numpy(zero_copy_only=False).copy())


def _write(folder: Path, rows: int) -> dict[str, float]:
    per_block = BLOCK_TOKENS // LENGTH
    index = RowsIndex(rows, LENGTH, per_block, 8, ["prose"], ["prose"], vocab_size=250_000, pad=2)
    random = np.random.default_rng(0)

    def block(first: int) -> Rows:
        count = min(per_block, rows - first)
        tokens = random.integers(0, 250_000, (count, LENGTH)).astype(np.uint32)
        ones = np.ones(count, dtype=np.int64)
        lengths, sources = np.full(count, LENGTH, dtype=np.int32), np.zeros(count, dtype=np.uint8)
        return Rows(tokens, tokens % 3 > 0, ones, lengths, sources)

    write_rows(folder, (block(first) for first in range(0, rows, per_block)), index)
    return {}


@contextlib.contextmanager
def _far_store(folder: Path) -> Iterator[Store]:
    (folder / "s3").mkdir()
    with run_s3(folder / "s3") as server:
        here, there = multiprocessing.get_context("spawn").Pipe()
        proxy = multiprocessing.get_context("spawn").Process(target=_proxy, args=(server.endpoint, there))
        proxy.start()
        os.environ |= {**server.environment, "AWS_ENDPOINT_URL": here.recv(), "K2_HOME": str(folder / "home")}
        try:
            yield Store.open(f"s3://{server.bucket}/store")
        finally:
            here.send(None)
            proxy.join()


def _proxy(endpoint: str, pipe: Connection) -> None:
    with proxied(endpoint, LATENCY) as proxy:
        pipe.send(proxy.endpoint)
        pipe.recv()


def _empty_cache() -> None:
    shutil.rmtree(Path(os.environ["K2_HOME"], "cache"), ignore_errors=True)


if __name__ == "__main__":
    main()
