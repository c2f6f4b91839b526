"""From raw JSONL to packed rows at several sizes: MB/s of each step, and its peak memory, which must not grow.

Text is generated (`benchmarks.peers.raw_text`) with copies, near copies, addresses and broken lines planted, and goes
through the steps of a lifecycle on a local store, two processes at a time. Every step runs in a process of its own,
whose memory and that of its children is watched: the sum of their resident pages, shared ones counted once for each,
and of these their own, which a machine cannot take back as it can pages of mapped files.
MB are of raw text. Nothing is compared with others here: `benchmarks.data` does that.

    python -m benchmarks.data_scale --sizes 500 1000 2000
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

FILE_BYTES = 64_000_000
WORKERS = 2
STEPS = ("corpus_raw", "corpus_clean", "duplicates", "corpus", "corpus_valid", "tokenizer", "tokens", "sequences")
SEQUENCE_LENGTH, GLOBAL_BATCH = 2_048, 8
WATCH_SECONDS = 0.1


@dataclass
class Watched:
    """Of one step: seconds on the clock, and the peaks of its resident MB, all and its own."""

    seconds: float = 0.0
    peak: float = 0.0
    own: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1000, 2000], help="MB of raw JSONL")
    parser.add_argument(
        "--folder", type=Path, help="where to work (default: a temporary folder); needs 6 x the largest"
    )
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        _measure(options.sizes, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(sizes: list[int], folder: Path) -> None:
    table: dict[str, list[Watched]] = {step: [] for step in STEPS}
    for size in sizes:
        place = folder / str(size)
        planted = generate(place / "raw", size * 1_000_000)
        print(f"{size} MB: planted {planted}", flush=True)
        for step in STEPS:
            found, stats = watched(step, place)
            table[step].append(found)
            rate = f"{size / found.seconds:8.1f} MB/s {found.peak:8.0f} MB peak {found.own:8.0f} own"
            print(f"  {step:14} {rate}  {stats}", flush=True)
        shutil.rmtree(place)
    _show(sizes, table)


def _show(sizes: list[int], table: "dict[str, list[Watched]]") -> None:
    print(f"\n{'step':14}" + "".join(f"{size:>7} MB: MB/s  peak MB   own MB" for size in sizes))
    for step, found in table.items():
        rates = [size / one.seconds for size, one in zip(sizes, found, strict=True)]
        cells = (f"{rate:>16.1f} {one.peak:>8.0f} {one.own:>8.0f}" for rate, one in zip(rates, found, strict=True))
        print(f"{step:14}{''.join(cells)}")
        growth = {"peak growth": found[-1].peak / found[0].peak, "own growth": found[-1].own / found[0].own}
        print(json.dumps({"name": f"data scale {step}", "ours": rates[-1], "unit": "MB/s", **growth}))


def generate(folder: Path, size: int) -> dict[str, int]:
    """Files of raw text in two processes; returns what was planted, summed."""
    from k2model.artifacts import map_in_processes

    folder.mkdir(parents=True)
    files = [(number, min(FILE_BYTES, size - start)) for number, start in enumerate(range(0, size, FILE_BYTES))]
    planted = map_in_processes(partial(_generate, folder), files, WORKERS)
    return {name: sum(one[name] for one in planted) for name in planted[0]}


def _generate(folder: Path, file: tuple[int, int]) -> dict[str, int]:
    from benchmarks.peers.raw_text import Language, write_file
    from k2model.corpus.prose import documents

    number, size = file
    language = Language.of([document["segments"][1]["text"] for document in documents()[0]])
    return asdict(write_file(folder / f"{number:05d}.jsonl", language, size, number))


def watched(step: str, place: Path) -> tuple[Watched, dict[str, float]]:
    """What one step took in a process of its own, and its stats."""
    command = [sys.executable, "-m", "benchmarks.peers.data_step", step, str(place)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    found, done = Watched(), Event()
    watcher = Thread(target=_watch, args=(child.pid, found, done))
    began = time.perf_counter()
    watcher.start()
    out, _ = child.communicate()
    done.set()
    watcher.join()
    if child.returncode:
        raise SystemExit(f"{step} failed with {child.returncode}")
    found.seconds = time.perf_counter() - began
    return found, json.loads(out.splitlines()[-1])


def _watch(pid: int, found: Watched, done: Event) -> None:
    import psutil

    while not done.wait(WATCH_SECONDS):
        try:
            root = psutil.Process(pid)
            pages = [_resident(one) for one in [root, *root.children(recursive=True)]]
        except psutil.NoSuchProcess:
            return
        found.peak = max(found.peak, sum(resident for resident, _ in pages))
        found.own = max(found.own, sum(resident - shared for resident, shared in pages))


def _resident(process: "psutil.Process") -> tuple[float, float]:
    """MB of resident pages, and of those that are of files or shared."""
    import psutil

    try:
        memory = process.memory_info()
    except psutil.NoSuchProcess:
        return 0.0, 0.0
    return memory.rss / 1e6, memory.shared / 1e6


if __name__ == "__main__":
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    main()
