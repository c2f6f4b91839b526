"""What a person sees while a phase trains: a bar on a terminal, else a line every tenth of the way.

Single steps are noisy, so loss and tokens per second are means over the last steps.
"""

import sys
import time
from collections import deque
from statistics import fmean

from k2model.training.metrics import StepMetrics

WINDOW = 50  # steps the shown numbers are means of


class ProgressLine:
    """On stderr, from rank 0 alone."""

    def __init__(self, phase: str, steps: int, start: int) -> None:
        self.phase, self.steps, self.start = phase, steps, start
        self.began = time.perf_counter()
        self.recent: deque[StepMetrics] = deque(maxlen=WINDOW)
        self.bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=steps, initial=start, desc=phase, unit="step", mininterval=0.5, file=sys.stderr)
        elif start:
            print(f"{phase}: going on from step {start} of {steps}", file=sys.stderr, flush=True)

    def update(self, row: StepMetrics) -> None:
        self.recent.append(row)
        if self.bar is not None:
            self.bar.update(row.step + 1 - self.bar.n)
            self.bar.set_postfix_str(self._numbers(), refresh=False)
            return
        done = row.step + 1
        if done == self.steps or done * 10 // self.steps > row.step * 10 // self.steps:
            print(
                f"{self.phase}: step {done}/{self.steps}, {self._numbers()}{self._left(done)}",
                file=sys.stderr,
                flush=True,
            )

    def _left(self, done: int) -> str:
        if done == self.steps:
            return ""
        seconds = (time.perf_counter() - self.began) / max(done - self.start, 1) * (self.steps - done)
        return f", {seconds:.0f} s left"

    def _numbers(self) -> str:
        newest = self.recent[-1]
        tokens = newest.tokens / (newest.step + 1) * len(self.recent)
        rate = tokens / sum(row.seconds for row in self.recent)
        return f"loss {fmean(row.loss for row in self.recent):.3f}, lr {newest.lr:.2e}, {rate:,.0f} tokens/s"

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
