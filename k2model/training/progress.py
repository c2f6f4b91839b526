"""What a person sees while a phase trains: a bar on a terminal, else a line every tenth of the way.

Single steps are noisy, so loss, tokens per second and utilisation are means over the last steps.
Who watches from elsewhere asks `k2 status`.
"""

import sys
import time
from collections import deque
from collections.abc import Sequence
from statistics import fmean

from k2model.training.facts import TrainingFacts
from k2model.training.metrics import StepMetrics
from k2model.training.spikes import Intervention
from k2model.units import readable_seconds

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
