"""One attempt at a phase: start from the newest good state, train, save, and finish the artifact."""

import time

from k2model.artifacts import ArtifactRef, Identity, Lease, Manifest, Store
from k2model.artifacts.files import Files, files_at
from k2model.artifacts.manifest import MANIFEST, check_hash, hash_stored
from k2model.model import count_parameters
from k2model.recipe.schema import ModelConfig, PhaseConfig
from k2model.tokens import PackedSequences
from k2model.training.checkpoint import (
    FINAL,
    Progress,
    describe_checkpoint,
    keep_for_good_only,
    newest_checkpoint,
    read_checkpoint,
    step_folder,
)
from k2model.training.engine import Engine
from k2model.training.errors import TrainingError
from k2model.training.loop import TrainingLoop
from k2model.training.metrics import MetricsLog
from k2model.training.saver import Saver
from k2model.training.state import TrainingState
from k2model.training.world import World


class Attempt:
    """Of one worker; all methods are collective. `lease` is rank 0's, None on the other workers."""

    def __init__(
        self, store: Store, identity: Identity, model: ModelConfig, phase: PhaseConfig, sequences: PackedSequences,
        world: World, lease: Lease | None,
    ) -> None:  # fmt: skip
        self.store, self.identity, self.model, self.phase = store, identity, model, phase
        self.sequences, self.world, self.lease = sequences, world, lease
        self.files: Files = files_at(store.location(identity))
        self.saver = Saver(self.files, world, phase.cadence, self._guard, self._publish_log)
        self.log: MetricsLog | None = None
        self.began = time.time()

    def complete(self, parent: ArtifactRef | None) -> ArtifactRef:
        """Train what is left of the phase and adopt the result into the store."""
        found = newest_checkpoint(self.files, self.identity.key, self.world)
        start, state = 0, None
        if found is not None:
            start, state = found.progress.step, TrainingState(found.tensors, found.progress.optimizer_steps, found.uri)
        elif parent is not None:
            state = self._parent_state(parent)
        self.engine = Engine(self.model, self.phase, self.world, state)
        self.log = self.world.first_does(lambda: MetricsLog(self.files, start))
        if start < self.phase.steps or found is None:
            self._train(start)
        return self.world.agree(lambda: self._adopt(parent))

    def _train(self, start: int) -> None:
        self.saver.discard_after(start)  # what is newer is damaged, or was never finished
        self.saver.reserve(self.engine.state)
        loop = TrainingLoop(self.engine, self.phase, self.sequences, self.world, self.log)
        try:
            try:
                loop.run(start, self._save, self.saver.poll)
            except TrainingError:  # which all workers raise alike: what was saved before it is whole
                self.saver.finish()
                raise
            self.saver.save(FINAL, self.engine.state, self._progress(self.phase.steps))
        finally:
            self.saver.close()

    def _parent_state(self, parent: ArtifactRef) -> TrainingState:
        """Read by each worker as far as it needs it, after all of them have verified their share of its files."""

        def look_up() -> Files:
            files, manifest = self.store.look_up(parent)
            [entry] = [entry for entry in manifest.files if entry.path == f"{FINAL}/{MANIFEST}"]
            check_hash(files.uri, entry, hash_stored(files, entry.path))
            return files.at(FINAL)

        checkpoint = read_checkpoint(self.world.agree(look_up), self.world)
        steps = checkpoint.progress.optimizer_steps if self.phase.keep_optimizer_state else None
        origin = f"the checkpoint of phase '{checkpoint.progress.phase}' ({checkpoint.uri})"
        return TrainingState(checkpoint.tensors, steps, origin)

    def _save(self, done: int) -> None:
        self.saver.begin(step_folder(done), self.engine.state, self._progress(done))

    def _guard(self) -> None:
        """A worker that was taken for dead must not overwrite its successor's files."""
        if self.lease is not None:
            self.lease.check()

    def _publish_log(self) -> None:
        if self.log is not None:
            self.log.publish()

    def _progress(self, done: int) -> Progress:
        return Progress(
            phase=self.phase.name,
            step=done,
            tokens=done * self.phase.tokens_per_step,
            world_size=self.world.size,
            optimizer_steps=self.engine.state.optimizer_steps,
            identity=self.identity.key,
            sequences=self.sequences.fingerprint,
        )

    def _adopt(self, parent: ArtifactRef | None) -> ArtifactRef:
        """Rank 0 alone. `final/` stands by itself from here on: only checkpoints kept for good stay beside it."""
        assert self.log is not None
        entries = [*describe_checkpoint(self.files, FINAL), self.log.close()]
        made = self.store.adopt(self.identity, Manifest(tuple(entries)), self._stats(parent), self.began)
        keep_for_good_only(self.files, self.phase.cadence)
        return made

    def _stats(self, parent: ArtifactRef | None) -> dict[str, float]:
        """`loss`: mean over the last tenth of the steps; `tokens_total`: with those of all phases before."""
        assert self.log is not None
        rows = self.log.rows
        last = rows[-max(1, len(rows) // 10) :]
        earlier = parent.stats.get("tokens_total", 0.0) if parent is not None else 0.0
        return {
            "steps": self.phase.steps,
            "tokens": self.phase.tokens,
            "tokens_total": earlier + self.phase.tokens,
            "parameters": count_parameters(self.model),
            "loss": sum(row.loss for row in last) / max(len(last), 1),
            "seconds": round(sum(row.seconds for row in rows), 3),
        }
