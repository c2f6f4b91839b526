"""Curation on raw text of two sizes: MB/s of every step in CPU time of one process, and its peak memory.

    python -m benchmarks.curation [--megabytes 64 256] [--profile prose|web]
    python -m benchmarks.curation --peer PYTHON [--peer-megabytes 8] [--pages 3200]

The text is that of `benchmarks.peers.raw_text`, in parts of 16 MB, with planted copies whose number is printed beside
what was found. Each size runs in a process of its own, so that its peak is its own. With `--peer` the rules and
signatures are measured beside datatrove's instead (`benchmarks.peers.verdicts`), which PYTHON's environment has.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

PART_MEGABYTES = 16
PROFILES = ("prose", "web")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--profile", choices=PROFILES, default="prose")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peer", help="the Python of an environment with datatrove: compare with it")
    parser.add_argument("--peer-megabytes", type=float, default=8, help="of prose, for speed")
    parser.add_argument("--pages", type=int, default=3_200, help="for agreement of verdicts")
    asked = parser.parse_args()
    if asked.peer:
        from benchmarks.peers.verdicts import measure

        measure(asked.peer, asked.peer_megabytes, asked.pages)
        return
    if asked.run:
        _run(asked.run, asked.profile)
        return
    for size in asked.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            planted = _write_raw(Path(folder) / "raw", size)
            print(f"{size} MB, profile {asked.profile}; planted {planted}")
            command = [sys.executable, "-m", "benchmarks.curation", "--profile", asked.profile, "--run", folder]
            subprocess.run(command, check=True)


def _write_raw(raw: Path, megabytes: int) -> dict[str, int]:
    from benchmarks.peers.raw_text import Language, write_file
    from k2model.documents.markup import plain
    from k2model.documents.schema import make_document, part_path, write_documents, write_items
    from k2model.documents.standard_library import prose_documents

    language = Language.of([document["text"] for document in prose_documents()[0]])
    total: dict[str, int] = {}
    for part in range(max(1, megabytes // PART_MEGABYTES)):
        file = raw.with_suffix(".jsonl")
        raw.mkdir(exist_ok=True, parents=True)
        counts = asdict(write_file(file, language, PART_MEGABYTES << 20, seed=part))
        total = {name: total.get(name, 0) + count for name, count in counts.items()}
        rows = (json.loads(line) for line in file.read_text().splitlines() if line.endswith("}"))
        made = [make_document("crawl", "prose", "CC0-1.0", row["url"], plain(row["text"])) for row in rows]
        write_documents(part_path(raw, "train", "crawl", part), made)
    write_items(raw, "facts_heldout", [])
    return total


def _run(folder: Path, profile: str) -> None:
    from k2model.artifacts import Identity, Store, make
    from k2model.curation import (
        clean_step,
        curated_step,
        duplicates_step,
        near_pairs_step,
        signature_matches_step,
        signature_ranges_step,
        sketch_ranges_step,
    )
    from k2model.curation.clean import clean_part
    from k2model.curation.parts import parts_in
    from k2model.recipe.curation import PROSE, WEB
    from k2model.recipe.schema import CorpusConfig, SourceConfig

    chosen = replace({"prose": PROSE, "web": WEB}[profile], sources=("crawl",))
    config = CorpusConfig(sources=(SourceConfig("crawl"),), profiles=(chosen,), max_characters=1_000_000)
    parts, store = parts_in(folder / "raw", ["crawl"]), Store.open(folder / "store")
    clean_part(folder / "raw", folder / "warm-up", parts[0], config)  # tables of characters, the model of languages

    def link(target: Path) -> dict[str, float]:
        shutil.copytree(folder / "raw", target, copy_function=os.link, dirs_exist_ok=True)
        return {}

    raw = store.build(Identity("corpus_raw", "benchmark", {}), link)
    timed = partial(_timed, sum(_text_bytes(part.file(folder / "raw")) for part in parts) / 1e6)
    clean = timed("clean and sign", lambda: make(store, clean_step(store, config, raw)))
    ranges = timed("ranges", lambda: make(store, signature_ranges_step(store, config, clean)))
    matches = timed("matches", lambda: make(store, signature_matches_step(store, ranges)))
    sketches = timed("sketches", lambda: make(store, sketch_ranges_step(store, config, clean, ranges, matches)))
    near = timed("near pairs", lambda: make(store, near_pairs_step(store, config, sketches)))
    duplicates = timed("decide", lambda: make(store, duplicates_step(store, config, clean, matches, near)))
    corpus = timed("select", lambda: make(store, curated_step(store, config, raw, clean, duplicates)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  found {duplicates.stats}; corpus {corpus.stats}; peak {peak:,.0f} MB")


def _text_bytes(path: Path) -> int:
    import pyarrow.compute as pc

    from k2model.curation.parts import batches

    return sum(pc.sum(pc.binary_length(batch["text"])).as_py() for batch in batches(path, ["text"]))


def _timed(megabytes: float, name: str, work: Callable[[], Any]) -> Any:
    wall, cpu = time.perf_counter(), time.process_time()
    made = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(f"  {name:<16} {megabytes / cpu:7.1f} MB/s of CPU time, {megabytes / wall:7.1f} MB/s of wall time")
    return made


if __name__ == "__main__":
    main()
