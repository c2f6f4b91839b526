"""The loop over steps: batch, all-reduce of small numbers, learning rate, step, log, and a save now and then.

A step's loss is known one all-reduce later, with the next step's counts; a save waits for it, so that nothing
that is not a number, and no open spike, gets into a checkpoint. The learning rate is a pure function of the step:
a resumed run needs no scheduler state. SIGTERM, which an orchestrator sends some seconds before it takes a machine
back, is noted and acted on at the next step. How things are saved and what is undone is the caller's business.

Losses, decisions and the order of calls are the same on every worker.
"""

import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from k2model.errors import Preempted
from k2model.model import training_flops
from k2model.recipe.schedules import learning_rate
from k2model.recipe.schema import ModelConfig, PhaseConfig
from k2model.tokens import PackedSequences
from k2model.training.batch import Batch, StepTotals, read_ahead, read_batch, reduce_step
from k2model.training.engine import Engine, StepOutcome
from k2model.training.log import Intervention, StepMetrics
from k2model.training.spikes import RolledBack, SpikeWatch


class Preemption:
    """`requested` becomes true when SIGTERM arrives inside `watched`."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, SIGTERM sets `requested`; the handler that was there before comes back afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


class Callbacks(Protocol):
    """Whoever saves and logs for the loop. `act_on`, `save` and `save_before_end` are collective."""

    def report(self) -> list[int]:
        """How this worker's part of the save in flight gets on, to be summed over workers."""
        ...

    def reached(self, step: int, waited: float) -> None:
        """This worker is about to meet the others before `step`, after `waited` seconds for its batch."""
        ...

    def act_on(self, totals: list[int]) -> None:
        """Act on the sums of all reports."""
        ...

    def save(self, done: int) -> None:
        """Begin a checkpoint after `done` steps."""
        ...

    def save_before_end(self, done: int) -> None:
        """A checkpoint that is in the store on return: this worker is about to be killed."""
        ...

    def add(self, row: StepMetrics) -> None: ...


@dataclass(frozen=True)
class _Taken:
    """A step whose loss has not been reduced over workers yet."""

    step: int
    lr: float
    targets: int
    attended: int
    outcome: StepOutcome


class TrainingLoop:
    """Takes the steps of a phase that no intervention leaves out. `peak`: FLOP/s of all workers together."""

    def __init__(
        self, engine: Engine, model: ModelConfig, phase: PhaseConfig, sequences: PackedSequences, callbacks: Callbacks,
        watch: SpikeWatch, interventions: Sequence[Intervention], preemption: Preemption, peak: float,
    ) -> None:  # fmt: skip
        self.engine, self.model, self.phase, self.sequences = engine, model, phase, sequences
        self.callbacks, self.watch, self.interventions, self.preemption = callbacks, watch, interventions, preemption
        self.peak = peak
        self.clock = _StepClock()
        self.taken = 0
        self._behind: _Taken | None = None

    def run(self, start: int) -> None:
        """Take what is left of steps `start`..`phase.steps - 1`; save every `save_every`, not after the last.

        Collective. Raises, on every worker: RolledBack for a spike to be undone, Preempted after SIGTERM.
        """
        phase = self.phase
        steps = [step for step in range(start, phase.steps) if not self._left_out(step)]
        self.taken = sum(not self._left_out(step) for step in range(start))
        with closing(read_ahead(self._read, steps, phase.parallelism.loader_workers)) as batches:
            asked = time.perf_counter()
            for step, batch in batches:
                self.callbacks.reached(step, time.perf_counter() - asked)
                totals = self._all_reduce(batch)
                with self.clock.stopped():
                    self.callbacks.act_on(totals.report)
                    if step > start:
                        self._stop_or_save(step, totals)
                self._take(step, batch, totals)
                asked = time.perf_counter()
        self.callbacks.reached(phase.steps, 0.0)
        self._all_reduce(None)

    def _read(self, step: int) -> Batch:
        return read_batch(self.sequences, step, self.phase.global_batch, self.engine.layout)

    def _left_out(self, step: int) -> bool:
        return any(intervention.skips(step) for intervention in self.interventions)

    def _all_reduce(self, ahead: Batch | None) -> StepTotals:
        """Sum the counts of the step ahead (None: there is none) over all workers and log the step behind."""
        behind = self._behind.outcome.loss if self._behind else None
        world, sources = self.engine.layout.world, len(self.sequences.sources)
        totals = reduce_step(world, sources, ahead, self.preemption.requested, self.callbacks.report(), behind)
        seconds = self.clock.lap()
        if self._behind is not None:
            self.taken += 1
            row = self._row(self._behind, totals, seconds)
            self._behind = None
            self.callbacks.add(row)
            if (spike := self.watch.judge(row)) is not None:
                raise RolledBack(spike)
        return totals

    def _stop_or_save(self, step: int, totals: StepTotals) -> None:
        """Nothing is saved while a spike is open: nobody knows yet whether its steps will stand."""
        every = self.phase.checkpoints.save_every
        if totals.stop:
            if not self.watch.open:
                self.callbacks.save_before_end(step)
            raise Preempted(
                f"phase '{self.phase.name}' was told to stop (SIGTERM) at step {step} of {self.phase.steps}"
                + ("" if self.watch.open else " and saved there")
                + ". Run the same command again: it goes on from its newest checkpoint"
            )
        if every and step % every == 0 and not self.watch.open:
            self.callbacks.save(step)

    def _take(self, step: int, batch: Batch, totals: StepTotals) -> None:
        phase = self.phase
        lr = learning_rate(step, phase.steps, phase.optimizer.lr, phase.schedule)
        every = phase.norms_every
        outcome = self.engine.step(
            batch, lr, totals.targets, len(self.sequences.sources), with_norms=bool(every) and (step + 1) % every == 0
        )
        self._behind = _Taken(step, lr, totals.targets, totals.attended, outcome)

    def _row(self, behind: _Taken, totals: StepTotals, seconds: float) -> StepMetrics:
        tokens, norms = self.phase.tokens_per_step, behind.outcome.norms
        flops = training_flops(self.model, tokens, behind.attended)
        return StepMetrics(
            step=behind.step,
            tokens=tokens * self.taken,
            loss=float(totals.nats_S.sum()) / max(behind.targets, 1),
            lr=behind.lr,
            grad_norm=behind.outcome.grad_norm,
            targets=behind.targets,
            tokens_per_second=round(tokens / seconds, 1),
            seconds=round(seconds, 6),
            mfu=round(flops / seconds / self.peak, 4),
            domains=self._by_domain(totals),
            parameter_norm=norms.parameters if norms else None,
            update_ratio=norms.update_ratio if norms else None,
            timestamp=round(time.time(), 3),
        )

    def _by_domain(self, totals: StepTotals) -> dict[str, float]:
        nats: dict[str, float] = defaultdict(float)
        targets: dict[str, float] = defaultdict(float)
        sums = zip(self.sequences.domains, totals.nats_S.tolist(), totals.targets_S.tolist(), strict=True)
        for domain, source_nats, source_targets in sums:
            nats[domain] += source_nats
            targets[domain] += source_targets
        return {domain: nats[domain] / count for domain, count in targets.items() if count}


class _StepClock:
    """Seconds between laps, without those in which training was held up by saving."""

    def __init__(self) -> None:
        self.began = time.perf_counter()

    def lap(self) -> float:
        before, self.began = self.began, time.perf_counter()
        return self.began - before

    @contextmanager
    def stopped(self) -> Iterator[None]:
        before = time.perf_counter()
        yield
        self.began += time.perf_counter() - before
