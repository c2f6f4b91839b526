"""One attempt at a phase: start from the newest good state, train, save, and finish the artifact.

Spikes that have to be undone are handled here: training starts anew from a checkpoint before the spike,
by the very way a killed job is resumed, and leaves the spike's steps out.
"""

import gc
import time
from dataclasses import replace
from statistics import fmean

from k2model.artifacts import ArtifactRef, Identity, Lease, Manifest, Store
from k2model.artifacts.files import Files, files_at
from k2model.artifacts.owner import owner_name
from k2model.errors import CheckpointMismatch, TrainingDiverged, TrainingError
from k2model.model import count_parameters
from k2model.recipe.schema import ModelConfig, PhaseConfig
from k2model.tokens import PackedSequences
from k2model.training.checkpoint import (
    FINAL,
    Checkpoint,
    Progress,
    describe_checkpoint,
    discard_final,
    final_of,
    finished,
    keep_for_good_only,
    newest_checkpoint,
    read_checkpoint,
    step_folder,
)
from k2model.training.crash_loop import begin, forget, noted
from k2model.training.engine import Engine
from k2model.training.layout import Layout
from k2model.training.log import PROGRESS, Intervention, MetricsLog, StepMetrics, TrainingRun
from k2model.training.loop import Preemption, TrainingLoop
from k2model.training.observer import Observer
from k2model.training.progress import ProgressLine, machine_peak
from k2model.training.saver import Saver
from k2model.training.spikes import RolledBack, Spike, SpikeWatch
from k2model.training.state import TrainingState
from k2model.training.world import World

AFTER_STEPS = 10  # steps behind an intervention whose mean loss its record gives


class Attempt:
    """Of one worker; `complete` and all it calls are collective. `lease` is rank 0's, None on other workers."""

    def __init__(
        self, store: Store, identity: Identity, model: ModelConfig, phase: PhaseConfig, sequences: PackedSequences,
        world: World, lease: Lease | None, observer: Observer,
    ) -> None:  # fmt: skip
        self.store, self.identity, self.model, self.phase = store, identity, model, phase
        self.sequences, self.world, self.lease = sequences, world, lease
        self.observer = observer
        self.files: Files = files_at(store.location(identity))
        self.owner = world.broadcast(owner_name)  # of all workers together
        self.final = final_of(self.owner)
        self.saver = Saver(self.files, world, phase.checkpoints, self._guard, self._publish_log, observer.save_ended)
        self.preemption = Preemption()
        self.interventions: list[Intervention] = []
        self.log: MetricsLog | None = None
        self.line: ProgressLine | None = None
        self.began = time.time()

    def complete(self, parent: ArtifactRef | None) -> ArtifactRef:
        """Train what is left of the phase and adopt the result into the store."""
        self.layout = Layout.of(self.world, self.phase.parallelism)
        with self.preemption.watched():
            found = newest_checkpoint(self.files, self.identity.key, self.world)
            if found is None or found.uri != f"{self.files.uri}/{FINAL}":
                self.world.broadcast(lambda: discard_final(self.files, self._guard))  # it is damaged, or of another run
            start = found.progress.step if found is not None else 0
            number = self.world.broadcast(lambda: begin(self.files, self.phase, start))
            with noted(self.files, number, self.world):
                self._train(found, parent)
                return self.world.broadcast(lambda: self._adopt(parent))

    def _train(self, found: Checkpoint | None, parent: ArtifactRef | None) -> None:
        """Take what is left of the steps, going back where a spike has to be undone."""
        self.interventions = [Intervention(**record) for record in found.progress.interventions] if found else []
        self.peak = sum(self.world.all_gather(lambda: machine_peak(self.world, self.phase.precision)))
        try:
            while (spike := self._train_from(found, parent)) is not None:
                found = self._go_back(spike)
            self.observer.finished()
        finally:
            self.saver.close()
            self.observer.close()

    def _train_from(self, found: Checkpoint | None, parent: ArtifactRef | None) -> Spike | None:
        """Take the steps behind `found`, or all of them, and write the last checkpoint; or the spike to be undone."""
        start = found.progress.step if found is not None else 0
        run = TrainingRun.of(self.model, self.phase, self.layout, self.peak, self.interventions)
        self.log = self.world.on_rank_0(lambda: MetricsLog(self.files, start, run))
        self.observer.began(run, start, self.log.path if self.log is not None else None)
        if found is not None and start == self.phase.steps:
            self.final = found.uri.removeprefix(f"{self.files.uri}/")
            return None
        self.line = self.world.on_rank_0(lambda: ProgressLine(run, start))
        self.saver.discard_after(start)  # what is newer is damaged, unfinished or taken back
        state = (
            TrainingState(found.tensors, found.progress.optimizer_steps, found.uri)
            if found is not None
            else self._parent_state(parent)
        )
        self.engine = Engine(self.model, self.phase, self.layout, state)
        self.saver.reserve(self.engine.state)
        self.watch = SpikeWatch(self.phase.spikes, found.progress.ordinary_losses if found is not None else ())
        loop = TrainingLoop(
            self.engine, self.model, self.phase, self.sequences, self, self.watch, self.interventions,
            self.preemption, self.peak,
        )  # fmt: skip
        try:
            loop.run(start)
        except RolledBack as rolled:
            return rolled.spike
        except TrainingError:  # which all workers raise alike: what was saved before it is whole
            self.saver.finish()
            raise
        finally:
            if self.line is not None:
                self.line.close()
        self.saver.save(self.final, self.engine.state, self._progress(self.phase.steps))
        return None

    def _go_back(self, spike: Spike) -> Checkpoint | None:
        """The checkpoint to start from again (None: the phase's beginning), after noting why.

        Raises TrainingDiverged when the policy allows no more of it.
        """
        self.saver.finish()  # it was begun before the spike
        if len(self.interventions) >= self.phase.spikes.max_rollbacks:
            raise self._diverged(spike)
        del self.engine
        gc.collect()  # DeepSpeed's cycles; the next engine wants the memory
        found = newest_checkpoint(self.files, self.identity.key, self.world, before=spike.first_step)
        back_to = found.progress.step if found is not None else 0
        self.interventions.append(
            Intervention(
                spike.reason, spike.first_step, spike.last_step, back_to, spike.before, spike.deviation, spike.losses
            )
        )
        if self.line is not None:
            self.line.rolled_back(self.interventions[-1])
        return found

    def _diverged(self, spike: Spike) -> TrainingDiverged:
        phase, batch = self.phase, self.phase.global_batch
        earlier = "; ".join(f"steps {i.first_step}..{i.last_step} ({i.reason})" for i in self.interventions)
        shown = ", ".join("not a number" if loss is None else f"{loss:.3f}" for loss in spike.losses[-8:])
        before = "" if spike.before is None else f" after a median of {spike.before:.3f} ± {spike.deviation:.3f}"
        return TrainingDiverged(
            f"phase '{phase.name}' diverged at step {spike.last_step}: {spike.reason}; losses {shown}{before}, on rows "
            f"{spike.first_step * batch}..{(spike.last_step + 1) * batch - 1} of {self.sequences.where}. "
            f"spikes.max_rollbacks={phase.spikes.max_rollbacks}, taken for: {earlier or 'none'}. "
            "Nothing of the spike was saved. Look at those rows, lower optimizer.lr or optimizer.grad_clip, or raise "
            "spikes.max_rollbacks; the checkpoints before it are whole"
        )

    def _parent_state(self, parent: ArtifactRef | None) -> TrainingState | None:
        """Read by each worker as far as it needs it, after all of them have verified their share of its files."""
        if parent is None:
            return None

        checkpoint = read_checkpoint(self.world.broadcast(lambda: finished(self.store, parent)), self.world)
        progress = checkpoint.progress
        # A phase that goes on with new data starts from its own checkpoint of before, the champion's of its line.
        if progress.phase not in (self.phase.parent, self.phase.name):
            raise CheckpointMismatch(
                f"{checkpoint.uri} is a checkpoint of phase '{progress.phase}', but phases.{self.phase.name}.parent="
                f"'{self.phase.parent}'. Give the checkpoint of that phase, or change the recipe"
            )
        steps = progress.optimizer_steps if self.phase.keep_optimizer_state else None
        return TrainingState(
            checkpoint.tensors, steps, f"the checkpoint of phase '{progress.phase}' ({checkpoint.uri})"
        )

    # What the loop asks of its `Callbacks`.

    def reached(self, step: int, waited: float) -> None:
        self.observer.reached(step, waited)

    def report(self) -> list[int]:
        return self.saver.report()

    def act_on(self, totals: list[int]) -> None:
        self.observer.save_going(failing=totals[2] > 0)
        self.saver.act_on(totals)

    def add(self, row: StepMetrics) -> None:
        self.observer.stepped(row)
        if self.log is not None and self.line is not None:
            self.log.add(row)
            self.line.update(row)

    def save(self, done: int) -> None:
        self.saver.rollback_before = max(done - self.phase.spikes.margin, 0)
        self.saver.begin(step_folder(done), self.engine.state, self._progress(done))

    def save_before_end(self, done: int) -> None:
        seconds = self.phase.checkpoints.preemption_seconds
        self.saver.save(step_folder(done), self.engine.state, self._progress(done), deadline=seconds)

    def _guard(self) -> None:
        """A worker that was taken for dead must not overwrite its successor's files."""
        if self.lease is not None:
            self.lease.check()

    def _publish_log(self) -> None:
        if self.log is not None:
            self.log.publish()

    def _progress(self, done: int) -> Progress:
        left_out = sum(any(i.skips(step) for i in self.interventions) for step in range(done))
        return Progress(
            phase=self.phase.name,
            step=done,
            tokens=(done - left_out) * self.phase.tokens_per_step,
            world_size=self.world.size,
            optimizer_steps=self.engine.state.optimizer_steps,
            identity=self.identity.key,
            sequences=self.sequences.fingerprint,
            interventions=[self._judged(i).record() for i in self.interventions],
            ordinary_losses=self.watch.history,
        )

    def _judged(self, intervention: Intervention) -> Intervention:
        """With the mean loss behind it, as far as steps were taken there; the log, and so this, is rank 0's."""
        rows = self.log.rows if self.log is not None else []
        after = [row.loss for row in rows if row.step > intervention.last_step][:AFTER_STEPS]
        return replace(intervention, after=fmean(after) if after else None)

    def _adopt(self, parent: ArtifactRef | None) -> ArtifactRef:
        """Rank 0 alone. The last checkpoint stands by itself from here on: only those kept for good stay beside it."""
        assert self.log is not None
        self._guard()
        entries = [*describe_checkpoint(self.files, self.final), *self.log.close(self.owner)]
        manifest = Manifest(tuple(entries), self.owner)
        made = self.store.adopt(self.identity, manifest, self._stats(parent), self.began, self._guard)
        keep_for_good_only(self.files, self.phase.checkpoints)
        forget(self.files)
        self.files.remove(PROGRESS)
        return made

    def _stats(self, parent: ArtifactRef | None) -> dict[str, float]:
        """`loss`: mean over the last tenth of the steps; `tokens_total`: with those of all phases before."""
        assert self.log is not None
        rows = self.log.rows
        last = rows[-max(1, len(rows) // 10) :]
        tokens = rows[-1].tokens if rows else 0
        earlier = parent.stats.get("tokens_total", 0.0) if parent is not None else 0.0
        return {
            "steps": self.phase.steps,
            "tokens": tokens,
            "tokens_total": earlier + tokens,
            "parameters": count_parameters(self.model),
            "loss": sum(row.loss for row in last) / max(len(last), 1),
            "interventions": len(self.interventions),
            "seconds": round(sum(row.seconds for row in rows), 3),
        }
