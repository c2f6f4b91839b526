"""From raw JSONL to packed rows at several sizes: MB/s of each step, and its peak memory, which must not grow.

Text is generated (`benchmarks.peers.raw_text`) with copies, near copies, addresses and broken lines planted, and goes
through the steps of a lifecycle on a local store, two processes at a time. Every step runs in a process of its own,
whose memory and that of its children is watched: the sum of their resident pages, shared ones counted once for each.
MB are of raw text. Nothing is compared with others here: `benchmarks.data` does that.

    python -m benchmarks.data_scale --sizes 500 1000 2000
    python -m benchmarks.data_scale --documents 250000 500000 1000000

With `--documents` the comparison of all documents alone is run, on generated signatures, with as many more slices as
there are more documents, and what is printed is how many bytes each step read of its store for a document.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Event, Thread

FILE_BYTES = 64_000_000
WORKERS = 2
STEPS = ("corpus_raw", "corpus_clean", "duplicates", "corpus", "corpus_valid", "tokenizer", "tokens", "sequences")
SEQUENCE_LENGTH, GLOBAL_BATCH = 2_048, 8
WATCH_SECONDS = 0.1
READS_PART, READS_SLICE, READS_SKETCHES = 10_000, 500_000, 25_000  # documents, keys and sketches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1000, 2000], help="MB of raw JSONL")
    parser.add_argument(
        "--folder", type=Path, help="where to work (default: a temporary folder); needs 6 x the largest"
    )
    parser.add_argument("--documents", type=int, nargs="+", help="compare signatures of so many documents instead")
    options = parser.parse_args()
    if options.documents:
        _reads(options.documents)
        return
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        _measure(options.sizes, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(sizes: list[int], folder: Path) -> None:
    table: dict[str, list[tuple[float, float]]] = {step: [] for step in STEPS}
    for size in sizes:
        place = folder / str(size)
        planted = generate(place / "raw", size * 1_000_000)
        print(f"{size} MB: planted {planted}", flush=True)
        for step in STEPS:
            seconds, peak, stats = watched(step, place)
            table[step].append((seconds, peak))
            print(f"  {step:14} {size / seconds:8.1f} MB/s {peak:8.0f} MB peak  {stats}", flush=True)
        shutil.rmtree(place)
    _show(sizes, table)


def _show(sizes: list[int], table: dict[str, list[tuple[float, float]]]) -> None:
    print(f"\n{'step':14}" + "".join(f"{size:>7} MB: MB/s  peak MB" for size in sizes))
    for step, found in table.items():
        cells = "".join(
            f"{size / seconds:>16.1f} {peak:>8.0f}" for size, (seconds, peak) in zip(sizes, found, strict=True)
        )
        print(f"{step:14}{cells}")
        rates = [size / seconds for size, (seconds, _) in zip(sizes, found, strict=True)]
        growth = found[-1][1] / found[0][1]
        print(json.dumps({"name": f"data scale {step}", "ours": rates[-1], "unit": "MB/s", "peak growth": growth}))


def _reads(sizes: list[int]) -> None:
    """Bytes read for a document, by step, where slices and groups are the same size whatever the corpus."""
    from benchmarks.peers.reads import compared

    found = {}
    for documents in sizes:
        reads = compared(documents // READS_PART, READS_PART, READS_SLICE, READS_SKETCHES, f"reads-{documents}")
        found[documents] = {step: octets / documents for step, octets in reads.bytes.items()}
        parts = {step: f"{count} parts, {reads.requests[step]:,} requests" for step, count in reads.parts.items()}
        print(f"{documents:,} documents: {parts}; {reads.stats}", flush=True)
    print(f"\n{'bytes read for a document':26}" + "".join(f"{documents:>12,}" for documents in sizes))
    table = {step: [found[documents][step] for documents in sizes] for step in found[sizes[0]]}
    for step, cells in {**table, "all": [sum(own.values()) for own in found.values()]}.items():
        print(f"{step:26}" + "".join(f"{cell:>12.1f}" for cell in cells))
        told = {"name": f"reads {step}", "ours": round(cells[-1], 1), "unit": "bytes a document"}
        print(json.dumps(told | {"growth": round(cells[-1] / cells[0], 3)}))


def generate(folder: Path, size: int) -> dict[str, int]:
    """Files of raw text in two processes; returns what was planted, summed."""
    from k2model.artifacts import map_in_processes

    folder.mkdir(parents=True)
    files = [(number, min(FILE_BYTES, size - start)) for number, start in enumerate(range(0, size, FILE_BYTES))]
    planted = map_in_processes(partial(_generate, folder), files, WORKERS)
    return {name: sum(one[name] for one in planted) for name in planted[0]}


def _generate(folder: Path, file: tuple[int, int]) -> dict[str, int]:
    from benchmarks.peers.raw_text import Language, write_file
    from k2model.documents.spans import segments_of
    from k2model.documents.standard_library import prose_documents

    number, size = file
    language = Language.of([segments_of(document)[1]["text"] for document in prose_documents()[0]])
    return asdict(write_file(folder / f"{number:05d}.jsonl", language, size, number))


def watched(step: str, place: Path) -> tuple[float, float, dict[str, float]]:
    """Seconds, peak MB and the stats of one step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.peers.data_step", step, str(place)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak, done = [0.0], Event()
    watcher = Thread(target=_watch, args=(child.pid, peak, done))
    began = time.perf_counter()
    watcher.start()
    out, _ = child.communicate()
    done.set()
    watcher.join()
    if child.returncode:
        raise SystemExit(f"{step} failed with {child.returncode}")
    return time.perf_counter() - began, peak[0], json.loads(out.splitlines()[-1])


def _watch(pid: int, peak: list[float], done: Event) -> None:
    import psutil

    while not done.wait(WATCH_SECONDS):
        try:
            root = psutil.Process(pid)
            peak[0] = max(peak[0], sum(_resident(one) for one in [root, *root.children(recursive=True)]))
        except psutil.NoSuchProcess:
            return


def _resident(process: "object") -> float:
    import psutil

    try:
        return process.memory_info().rss / 1e6  # type: ignore[attr-defined]
    except psutil.NoSuchProcess:
        return 0.0


if __name__ == "__main__":
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    main()
