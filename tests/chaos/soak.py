"""Workflows over and over in one process, as a month of turns has it: memory, descriptors, threads, children and
temporary files may not grow.

    python -m tests.chaos.soak --minutes 20                     # the whole smoke lifecycle, a minute a round or more
    python -m tests.chaos.soak --minutes 20 --what trainings    # three phases of two workers each, seconds a round

Each round makes everything in a store of its own, which is removed afterwards; the first rounds warm up. A line is
fitted through the rest: what grows by more than its bound a round, and more than its own noise, is growth. flytekit
keeps a folder a task until its process ends (`tasks/_temporary.py`), which is shown and not judged.
"""

import argparse
import ctypes
import gc
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

WARM = 2  # rounds, in which what is loaded once is loaded
#: What may be added in a round. Memory: of the allocator, whose arenas fill with what Python has freed.
BOUNDS = {
    "memory_mb": 3.0,
    "descriptors": 0.25,
    "threads": 0.25,
    "children": 0.0,
    "temporary": 0.25,
    "flytekit": math.inf,
}


@dataclass(frozen=True)
class Look:
    """What the process holds after a round."""

    memory_mb: float
    descriptors: float
    threads: float
    children: float
    temporary: float
    flytekit: float  # files in its own folders


@dataclass(frozen=True)
class Growth:
    """A line through the rounds after the first: what is added in each, with its standard error."""

    name: str
    first: float
    last: float
    slope: float
    error: float

    @property
    def grows(self) -> bool:
        return self.slope > BOUNDS[self.name] and self.slope > 2 * self.error


def look(temporary: Path) -> Look:
    import psutil

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free and not given back is not held
    own = psutil.Process()
    files = [path.relative_to(temporary).parts[0].startswith("flyte") for path in temporary.rglob("*")]
    memory = own.memory_full_info().uss / 1e6
    return Look(
        memory, own.num_fds(), threading.active_count(), len(own.children(True)), files.count(False), files.count(True)
    )


def growth(looks: Sequence[Look]) -> list[Growth]:
    """Least squares over the rounds behind the warm-up. Raises ValueError for fewer than three of them."""
    behind = looks[WARM:]
    if len(behind) < 3:
        raise ValueError(f"{len(looks)} rounds, expected {WARM + 3} or more: give it more minutes")
    rounds = range(len(behind))
    found = []
    for name in (field.name for field in fields(Look)):
        values = [float(getattr(one, name)) for one in behind]
        slope, intercept = statistics.linear_regression(rounds, values)
        left = sum((value - intercept - slope * at) ** 2 for at, value in zip(rounds, values, strict=True))
        spread = sum((at - statistics.mean(rounds)) ** 2 for at in rounds)
        error = (left / max(len(behind) - 2, 1) / spread) ** 0.5
        found.append(Growth(name, values[0], values[-1], slope, error))
    return found


def lifecycle(store: Path) -> None:
    """All of the smoke recipe, with its registrations."""
    os.environ["K2_STORE"] = str(store)
    from workflows.lifecycle import full_lifecycle

    full_lifecycle(overrides={})


def trainings(store: Path) -> None:
    """Three phases of a tiny model by the tasks of a lifecycle, and `k2 check` over what they made."""
    from k2model.artifacts import Store
    from k2model.inspect.check import check
    from tests.tasks.training_run import train

    made = train(Store.open(store))
    print(json.dumps(made))
    assert check(Store.open(store)).faults == []


ROUNDS = {"lifecycle": lifecycle, "trainings": trainings}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where nothing grows, 1 where something does."""
    parser = argparse.ArgumentParser("python -m tests.chaos.soak", description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--what", choices=[*ROUNDS], default="lifecycle")
    asked = parser.parse_args(arguments)
    import tests.conftest  # noqa: F401  which fixes the environment: one thread a process, loopback only

    with tempfile.TemporaryDirectory(prefix="k2-soak-") as name:
        home, temporary = Path(name), Path(name, "tmp")
        temporary.mkdir()
        os.environ.update(K2_HOME=str(home), K2_RECIPE="smoke", K2_OVERRIDES="", TMPDIR=str(temporary))
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home}/mlflow.db"
        tempfile.tempdir = None
        looks: list[Look] = []
        end = time.monotonic() + 60 * asked.minutes
        while time.monotonic() < end:
            began = time.monotonic()
            ROUNDS[asked.what](home / f"store-{len(looks)}")
            shutil.rmtree(home / f"store-{len(looks)}")
            looks.append(look(temporary))
            held = "  ".join(f"{key} {value:.0f}" for key, value in asdict(looks[-1]).items())
            print(f"round {len(looks)}: {time.monotonic() - began:.0f} s  {held}", file=sys.stderr, flush=True)
    print(f"| {len(looks) - WARM} rounds behind {WARM} of warm-up | first | last | a round | bound |")
    print("|---|---|---|---|---|")
    found = growth(looks)
    for one in found:
        told = f"{one.slope:+.2f} ± {one.error:.2f}{' **grows**' if one.grows else ''}"
        print(f"| {one.name} | {one.first:.0f} | {one.last:.0f} | {told} | {BOUNDS[one.name]} |")
    return 1 if any(one.grows for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
