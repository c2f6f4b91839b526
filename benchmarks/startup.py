"""From launching a training phase to the end of its first step, cold, and where the time goes.

    python -m benchmarks.startup [--rounds 3]

Each round is a new interpreter that calls the Flyte task of a phase, which starts two workers through
torch elastic exactly as a local run does. Files are in the page cache after the first round.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers import workload
from benchmarks.peers.workload import Trial
from k2model.artifacts import Store
from k2model.recipe.schema import Precision

TARGET = 8.0  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = [_cold_start() for _ in range(parser.parse_args().rounds)]
    print(f"{'until':30} {'clock':>8} {'of it':>8} {'processor':>10}   seconds, medians")
    before = 0.0
    for marks in zip(*rounds, strict=True):
        at = statistics.median(mark.clock for mark in marks)
        print(f"{marks[0].name:30} {at:8.2f} {at - before:8.2f} {statistics.median(m.busy for m in marks):10.2f}")
        before = at
    total = before
    versions = {name: version(name) for name in ("torch", "deepspeed", "flytekit")}
    line = {"name": "training/startup", "ours": round(total, 2), "peer": TARGET, "ratio": round(total / TARGET, 3),
            "unit": "seconds from launch to first step, peer is the target", "versions": versions}  # fmt: skip
    print(json.dumps(line))


@dataclass(frozen=True)
class Mark:
    """What was reached, and when: seconds since the launch, and processor seconds spent on the way there by the
    agent and the first worker."""

    name: str
    clock: float
    busy: float


def _cold_start() -> list[Mark]:
    """How far the first worker got when."""
    with tempfile.TemporaryDirectory(prefix="k2-startup-") as folder:
        Store.open(Path(folder, "store"))
        trial = Trial("dense", str(Path(folder, "store")), warmup=0, timed=1, precision=Precision.FP32)
        workload.rows(trial)
        marks = Path(folder, "marks")
        environment = os.environ | {"K2_HOME": folder, "TMPDIR": folder, "FLYTE_SDK_LOGGING_LEVEL": "40"}
        began = time.time()
        subprocess.run(
            [sys.executable, "-m", "benchmarks.peers.cold_start", trial.store, str(marks)],
            env=environment, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        lines = [line.rsplit(" ", 2) for line in marks.read_text().splitlines()]
        return [Mark(name, float(at) - began, float(busy)) for name, at, busy in lines]


if __name__ == "__main__":
    main()
