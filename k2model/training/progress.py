"""Model-FLOPs utilisation: arithmetic the model needs, over what this machine was measured to do.

The peak is measured where training runs and while it would run (all workers at once), since data sheets
know neither a shared machine nor a clock under load. What recomputation adds is not counted, as usual.

What a person sees while a phase trains: a bar on a terminal, else a line every tenth of the way.

Single steps are noisy, so loss, tokens per second and utilisation are means over the last steps.
Who watches from elsewhere asks `k2 status`.
"""

import sys
import time
from collections import deque
from collections.abc import Sequence
from functools import cache
from statistics import fmean

from k2model.model import count_parameters
from k2model.recipe.schema import ModelConfig, Precision
from k2model.training.log import Intervention, StepMetrics, TrainingFacts
from k2model.units import readable_seconds

SIZE = {"cpu": 1024, "cuda": 8192}  # of square matrices: well inside a CPU's cache, large enough to fill a GPU
ROUNDS = 2


def step_flops(model: ModelConfig, tokens: int, attended: int) -> int:
    """Forward and backward operations of a step: 6 N tokens + 12 L H E attended.

    As `k2model.model.training_flops_per_token` (PaLM, arXiv:2204.02311, appendix B), but with the pairs of
    positions that documents really have: `attended` is the sum of their squared lengths.
    """
    multiplied = count_parameters(model) - model.vocab_size * model.hidden_size
    return 6 * multiplied * tokens + 12 * model.n_layers * model.n_heads * model.head_dim * attended


@cache
def measured_peak(precision: Precision) -> float:
    """Matrix-product FLOP/s of this worker's device, the best of a few products; under 0.1 s on a CPU.

    In the type that a phase of `precision` multiplies in: fp32 where torch has no kernel for bf16 (see
    `k2model.model.products`).
    """
    import torch

    from k2model.model.products import multiplies_bf16

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = SIZE[device]
    bf16 = precision is Precision.BF16 and multiplies_bf16(device)
    left = torch.randn(size, size, device=device).to(torch.bfloat16 if bf16 else torch.float32)
    best = float("inf")
    for _ in range(ROUNDS + 1):  # the first one warms up
        began = time.perf_counter()
        left @ left
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


WINDOW = 50  # steps the shown numbers are means of
BAR = "{desc}: |{bar:20}| step {n_fmt}/{total_fmt}{postfix}"


def steps_ahead(facts: TrainingFacts, done: int) -> int:
    """How many of the steps from `done` on will be taken: those an intervention leaves out are not."""
    left_out = {
        step
        for record in facts.interventions
        for step in range(max(record["first_step"], done), min(record["last_step"] + 1, facts.steps))
    }
    return facts.steps - done - len(left_out)


def mean_loss(rows: Sequence[StepMetrics]) -> float:
    """Nats per target, every step weighing the same."""
    return fmean(row.loss for row in rows)


def tokens_per_second(facts: TrainingFacts, rows: Sequence[StepMetrics]) -> float:
    """Over all of `rows`."""
    return facts.tokens_per_step * len(rows) / sum(row.seconds for row in rows)


def mean_mfu(rows: Sequence[StepMetrics]) -> float:
    """Utilisation over the time that all of `rows` took together."""
    return sum(row.mfu * row.seconds for row in rows) / sum(row.seconds for row in rows)


class ProgressLine:
    """On stderr, from rank 0 alone; of one attempt, which starts behind `start` steps."""

    def __init__(self, facts: TrainingFacts, start: int) -> None:
        self.facts, self.phase, self.steps = facts, facts.phase, facts.steps
        self.began = time.perf_counter()
        self.taken = 0
        self.recent: deque[StepMetrics] = deque(maxlen=WINDOW)
        self.ahead = steps_ahead(facts, start)
        self.shown = start
        self.bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=self.steps, initial=start, desc=self.phase, bar_format=BAR, mininterval=0.5)
        elif start:
            self._say(f"going on from step {start} of {self.steps}")

    def update(self, row: StepMetrics) -> None:
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
            f"loss {mean_loss(rows):.3f}",
            f"lr {rows[-1].lr:.2e}",
            f"{tokens_per_second(self.facts, rows):,.0f} tokens/s",
            f"MFU {mean_mfu(rows):.0%}",
        ]
        if self.taken < self.ahead:
            seconds = (time.perf_counter() - self.began) / self.taken * (self.ahead - self.taken)
            shown.append(f"{readable_seconds(seconds)} left")
        return ", ".join(shown)

    def _say(self, text: str) -> None:
        print(f"{self.phase}: {text}", file=sys.stderr, flush=True)
