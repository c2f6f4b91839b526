"""What a person sees while a phase trains: a bar on a terminal, else a line every tenth of the way."""

import sys
import time

from k2model.training.metrics import StepMetrics


class ProgressLine:
    """On stderr, from rank 0 alone."""

    def __init__(self, phase: str, steps: int, start: int) -> None:
        self.phase, self.steps, self.start = phase, steps, start
        self.began = time.perf_counter()
        self.bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=steps, initial=start, desc=phase, unit="step", mininterval=0.5, file=sys.stderr)
        elif start:
            print(f"{phase}: going on from step {start} of {steps}", file=sys.stderr, flush=True)

    def update(self, row: StepMetrics) -> None:
        if self.bar is not None:
            self.bar.update(row.step + 1 - self.bar.n)
            self.bar.set_postfix_str(_numbers(row), refresh=False)
            return
        done = row.step + 1
        if done == self.steps or done * 10 // self.steps > row.step * 10 // self.steps:
            print(
                f"{self.phase}: step {done}/{self.steps}, {_numbers(row)}{self._left(done)}",
                file=sys.stderr,
                flush=True,
            )

    def _left(self, done: int) -> str:
        if done == self.steps:
            return ""
        seconds = (time.perf_counter() - self.began) / max(done - self.start, 1) * (self.steps - done)
        return f", {seconds:.0f} s left"

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _numbers(row: StepMetrics) -> str:
    return f"loss {row.loss:.3f}, lr {row.lr:.2e}, {row.tokens_per_second:,.0f} tokens/s"
