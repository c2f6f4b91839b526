"""What a person sees while a phase trains, and the peak that its utilisation is a fraction of.

The loss is the newest step's, as the log has it. Tokens per second and utilisation are means over the last steps, since
single ones are noisy. Model-FLOPs utilisation is arithmetic the model needs over what this machine was measured to do,
once, so that phases and runs can be compared; with all workers at once, since data sheets know neither a shared machine
nor a clock under load. What recomputation adds is not counted, as usual. Who watches from elsewhere asks `k2 status`.
"""

import contextlib
import json
import os
import platform
import re
import sys
import time
from collections import deque
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from k2model.artifacts.files import LocalFiles
from k2model.artifacts.outside import read_small
from k2model.errors import ArtifactError, StoreWriteError
from k2model.plain import NotPlain, read_as
from k2model.recipe.schema import Precision
from k2model.settings import home
from k2model.training.log import Intervention, StepMetrics, TrainingRun
from k2model.training.world import World
from k2model.units import readable_seconds

if TYPE_CHECKING:
    import torch

SIZE = {"cpu": 1024, "cuda": 8192}  # of square matrices: well inside a CPU's cache, large enough to fill a GPU
ROUNDS = 2
WINDOW = 50  # steps that shown rates are means of
BAR = "{desc}: |{bar:20}| step {n_fmt}/{total_fmt}{postfix}"


def machine_peak(world: World, precision: Precision) -> float:
    """Matrix-product FLOP/s of this worker's device beside the other workers of its machine.

    Measured the first time (under 0.1 s on a CPU) and kept in `K2_HOME/peaks/`, a file for each kind of machine, number
    of workers and type; to measure again, delete it. The type is that in which a phase of `precision` multiplies: fp32
    where torch has no kernel for bf16 (see `k2model.model.products`).
    """
    import torch

    from k2model.model.products import multiplies_bf16

    device = "cuda" if torch.cuda.is_available() else "cpu"
    bf16 = precision is Precision.BF16 and multiplies_bf16(device)
    conditions = {
        "machine": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "worker": world.local_rank,
        "workers": int(os.environ.get("LOCAL_WORLD_SIZE") or "1"),
        "dtype": "bfloat16" if bf16 else "float32",
        "torch": torch.__version__,
    }
    kept, name = LocalFiles(home() / "peaks"), f"{sha256(json.dumps(conditions).encode()).hexdigest()[:16]}.json"
    peak = _kept(kept, name, conditions)
    if peak is None:
        peak = _measure(device, torch.bfloat16 if bf16 else torch.float32)
        with contextlib.suppress(StoreWriteError):  # where nothing can be kept, the next phase measures again
            kept.write(name, json.dumps(conditions | {"flops_per_second": peak}, indent=1).encode())
    return peak


class _Measured(TypedDict):
    flops_per_second: float


def _kept(files: LocalFiles, name: str, conditions: dict[str, object]) -> float | None:
    """What was measured under the same conditions; None where it was not, or where the file is not as written."""
    try:
        content = read_as(_Measured, read_small(files, name))
    except (FileNotFoundError, ArtifactError, NotPlain):
        return None
    found = content["flops_per_second"]
    return found if content == {**conditions, "flops_per_second": found} and found > 0 else None


def _measure(device: str, dtype: "torch.dtype") -> float:
    """FLOP/s, the best of a few products of square matrices."""
    import torch

    size = SIZE[device]
    own = torch.Generator(device).manual_seed(0)
    left = torch.randn(size, size, device=device, generator=own).to(dtype)
    best = float("inf")
    for _ in range(ROUNDS + 1):  # the first one warms up
        began = time.perf_counter()
        left @ left
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def _processor() -> str:
    """Model and number of the processors this process may use."""
    described = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    named = re.search(r"^model name\s*: (.+)$", described, re.MULTILINE)
    model = named.group(1) if named else platform.machine()
    return f"{model} x {len(os.sched_getaffinity(0))}"


def steps_ahead(run: TrainingRun, done: int) -> int:
    """How many of the steps from `done` on will be taken: those an intervention leaves out are not."""
    left_out, end = 0, done
    for first, last in sorted((record["first_step"], record["last_step"]) for record in run.interventions):
        begin, end = max(first, end), max(min(last + 1, run.steps), end)
        left_out += max(end - begin, 0)
    return run.steps - done - left_out


def tokens_per_second(run: TrainingRun, rows: Sequence[StepMetrics]) -> float:
    """Over all of `rows`."""
    return run.tokens_per_step * len(rows) / sum(row.seconds for row in rows)


def mean_mfu(rows: Sequence[StepMetrics]) -> float:
    """Utilisation over the time that all of `rows` took together."""
    return sum(row.mfu * row.seconds for row in rows) / sum(row.seconds for row in rows)


class ProgressLine:
    """On stderr, from rank 0 alone; of one attempt, which starts behind `start` steps."""

    def __init__(self, run: TrainingRun, start: int) -> None:
        self.run, self.phase, self.steps = run, run.phase, run.steps
        self.began = time.perf_counter()
        self.taken = 0
        self.recent: deque[StepMetrics] = deque(maxlen=WINDOW)
        self.ahead = steps_ahead(run, start)
        self.shown = start
        self.bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=self.steps, initial=start, desc=self.phase, bar_format=BAR, mininterval=0.5)
        elif start:
            self._say(f"going on from step {start} of {self.steps}")

    def update(self, row: StepMetrics) -> None:
        """Show the newest step."""
        self.recent.append(row)
        self.taken += 1
        # Left-out steps count as done: the position jumps over them, also over those at the very end.
        done = row.step + 1 if self.taken < self.ahead else self.steps
        if self.bar is not None:
            self.bar.set_postfix_str(self._numbers(), refresh=False)
            self.bar.update(done - self.bar.n)
        elif done == self.steps or done * 10 // self.steps > self.shown * 10 // self.steps:
            self._say(f"step {done}/{self.steps}, {self._numbers()}")
            self.shown = done

    def rolled_back(self, intervention: Intervention) -> None:
        """Say what was undone and why; the attempt that follows has a line of its own."""
        self._say(intervention.sentence)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def _numbers(self) -> str:
        rows = self.recent
        shown = [
            f"loss {rows[-1].loss:.3f}",
            f"lr {rows[-1].lr:.2e}",
            f"{tokens_per_second(self.run, rows):,.0f} tokens/s",
            f"MFU {mean_mfu(rows):.0%}",
        ]
        if self.taken < self.ahead:
            seconds = (time.perf_counter() - self.began) / self.taken * (self.ahead - self.taken)
            shown.append(f"{readable_seconds(seconds)} left")
        return ", ".join(shown)

    def _say(self, text: str) -> None:
        print(f"{self.phase}: {text}", file=sys.stderr, flush=True)
