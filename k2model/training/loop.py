"""The loop over steps: batch, learning rate, step, log, and a call to save now and then.

Losses are reduced over workers when rows are logged, so `log_every` sets how often workers talk about
anything but gradients. What saving means is the caller's business.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist

from k2model.recipe.schema import PhaseConfig
from k2model.tokens import PackedSequences
from k2model.training.engine import Engine, StepOutcome
from k2model.training.errors import TrainingDiverged
from k2model.training.metrics import MetricsLog, StepMetrics
from k2model.training.progress import ProgressLine
from k2model.training.schedule import learning_rate
from k2model.training.world import World


@dataclass(frozen=True)
class _Taken:
    """A step whose loss has not been reduced over workers yet."""

    step: int
    lr: float
    seconds: float
    outcome: StepOutcome


class TrainingLoop:
    """`log` is rank 0's metrics log, None on the other workers."""

    def __init__(
        self, engine: Engine, phase: PhaseConfig, sequences: PackedSequences, world: World, log: MetricsLog | None
    ) -> None:
        self.engine, self.phase, self.sequences, self.world, self.log = engine, phase, sequences, world, log
        self.line: ProgressLine | None = None

    def run(self, start: int, save: Callable[[int], None], after_step: Callable[[], None] = lambda: None) -> None:
        """Take steps `start`..`phase.steps - 1`; `save(done)` is called every `save_every`, not after the last,
        `after_step()` after every step.

        Collective. Raises TrainingDiverged on every worker.
        """
        phase, cadence = self.phase, self.phase.cadence
        self.line = ProgressLine(phase.name, phase.steps, start) if self.world.first else None
        taken: list[_Taken] = []
        before = time.perf_counter()
        for step in range(start, phase.steps):
            batch = self.sequences.batch(step, phase.global_batch, self.world.rank, self.world.size)
            lr = learning_rate(step, phase.steps, phase.optimizer.lr, phase.schedule)
            outcome = self.engine.step(batch, lr)
            now = time.perf_counter()
            taken.append(_Taken(step, lr, now - before, outcome))
            before = now
            done = step + 1
            last = done == phase.steps
            saving = not last and cadence.save_every > 0 and done % cadence.save_every == 0
            if last or saving or len(taken) >= cadence.log_every:
                self._record(taken)
                taken = []
            after_step()
            if saving:
                save(done)
                before = time.perf_counter()
        if self.line is not None:
            self.line.close()

    def _record(self, taken: list[_Taken]) -> None:
        """Log the steps' rows; nothing that is not a number gets past here into a checkpoint."""
        losses = torch.stack([entry.outcome.loss_sum for entry in taken])
        if self.world.size > 1:
            dist.all_reduce(losses)
        for entry, total in zip(taken, losses.tolist(), strict=True):
            row = self._row(entry, total)
            if not (math.isfinite(row.loss) and math.isfinite(row.grad_norm)):
                raise self._diverged(row)
            if self.log is not None and self.line is not None:
                self.log.add(row)
                self.line.update(row)

    def _row(self, entry: _Taken, total: float) -> StepMetrics:
        tokens = self.phase.tokens_per_step
        return StepMetrics(
            step=entry.step,
            tokens=tokens * (entry.step + 1),
            loss=total / max(entry.outcome.targets, 1),
            lr=entry.lr,
            grad_norm=entry.outcome.grad_norm,
            targets=entry.outcome.targets,
            tokens_per_second=round(tokens / entry.seconds, 1),
            seconds=round(entry.seconds, 6),
        )

    def _diverged(self, row: StepMetrics) -> TrainingDiverged:
        first = row.step * self.phase.global_batch
        return TrainingDiverged(
            f"phase '{self.phase.name}' diverged at step {row.step}: loss {row.loss}, gradient norm {row.grad_norm}, "
            f"on rows {first}..{first + self.phase.global_batch - 1} of {self.sequences.folder}. Nothing of this step "
            f"was saved. Look at those rows, or lower optimizer.lr (there {row.lr:.3g}) or optimizer.grad_clip"
        )
