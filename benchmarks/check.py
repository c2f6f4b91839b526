"""How fast a store is read whole: `k2 check` beside `sha256sum` of the same files, both of one core.

The store is made of random bytes: a few large files as checkpoints have them, and many small ones as parts and scores
do. Rounds alternate the two, so that both find the files where the machine keeps what it has read; what counts is
processor time, of the whole process, start included.

    python -m benchmarks.check --megabytes 512 --rounds 5
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from k2model.artifacts import Identity, Store

LARGE, SMALL = 64 << 20, 32 << 10  # bytes of a file
RUN = "from k2model.cli.main import main; main()"
SHARE = 8  # of all bytes one part in so many is of small files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=512, help="of files")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as folder:
        store, size = _store(Path(folder), options.megabytes << 20)
        files = [str(path) for path in Path(store).rglob("*") if path.is_file()]
        check = [sys.executable, "-c", RUN, "check", "--fresh", "--workers", "1", "--store", store]
        seconds: dict[str, list[float]] = {"k2 check": [], "sha256sum": []}
        for _ in range(options.rounds + 1):
            seconds["k2 check"].append(_processor_seconds(check))
            seconds["sha256sum"].append(_processor_seconds(["sha256sum", *files]))
    kept = {name: those[1:] for name, those in seconds.items()}  # the first round fills the machine's memory
    for name, those in kept.items():
        print(
            f"{name:10} {size / 1e6 / median(those):8,.0f} MB/s a core, {median(those):.2f} s of {size / 1e6:,.0f} MB"
        )
    ratio = median(b / a for a, b in zip(kept["k2 check"], kept["sha256sum"], strict=True))
    rates = {name: round(size / 1e6 / median(those)) for name, those in kept.items()}
    print(json.dumps({"name": "check_against_sha256sum", **rates, "ratio": round(ratio, 2), "unit": "MB/s a core",
                      "versions": {"python": platform.python_version()}}))  # fmt: skip


def _store(folder: Path, size: int) -> tuple[str, int]:
    """A store of one artifact of large files and one of small ones; its place, and how many bytes they have."""
    store = Store.open(folder / "store")
    sizes = {"checkpoint": (LARGE, (size - size // SHARE) // LARGE), "corpus": (SMALL, size // SHARE // SMALL)}

    for step, (each, count) in sizes.items():
        store.build(Identity(step, "1", {}), partial(_write, each, count))
    return store.uri, sum(each * count for each, count in sizes.values())


def _write(each: int, count: int, folder: Path) -> dict[str, float]:
    for number in range(count):
        (folder / f"{number:05d}.bin").write_bytes(os.urandom(each))
    return {}


def _processor_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
