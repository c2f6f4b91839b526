"""One attempt at a phase: start from the newest good state, train, save, and finish the artifact."""

import time

from k2model.artifacts import ArtifactRef, Identity, Lease, Manifest, Store
from k2model.artifacts.files import Files, files_at
from k2model.model import count_parameters
from k2model.recipe.schema import ModelConfig, PhaseConfig
from k2model.tokens import PackedSequences
from k2model.training.checkpoint import (
    CHECKPOINTS,
    FINAL,
    Progress,
    describe_checkpoint,
    newest_checkpoint,
    prune,
    read_checkpoint,
    step_folder,
    write_checkpoint,
)
from k2model.training.engine import Engine
from k2model.training.loop import TrainingLoop
from k2model.training.metrics import MetricsLog
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
        self.log: MetricsLog | None = None
        self.began = time.time()

    def complete(self, parent: ArtifactRef | None) -> ArtifactRef:
        """Train what is left of the phase and adopt the result into the store."""
        found = newest_checkpoint(self.files, self.identity.key, self.world)
        start, state = (found[0].step, found[1]) if found else (0, self._parent_state(parent))
        self.engine = Engine(self.model, self.phase, self.world, state)
        self.log = self.world.first_does(lambda: MetricsLog(self.files, start))
        loop = TrainingLoop(self.engine, self.phase, self.sequences, self.world, self.log)
        if start < self.phase.steps or not found:
            loop.run(start, self._save)
            self._write(FINAL, self.phase.steps)
        return self.world.agree(lambda: self._adopt(parent))

    def _parent_state(self, parent: ArtifactRef | None) -> TrainingState | None:
        if parent is None:
            return None
        folder = self.store.fetch(parent) / FINAL
        progress, tensors = read_checkpoint(files_at(folder))
        steps = progress.optimizer_steps if self.phase.keep_optimizer_state else None
        return TrainingState(tensors, steps, f"the checkpoint of phase '{progress.phase}' ({folder})")

    def _save(self, done: int) -> None:
        self._write(step_folder(done), done)

        def tidy() -> None:
            prune(self.files, self.phase.cadence.keep_last)
            if self.log is not None:
                self.log.publish()

        self.world.agree(tidy)

    def _write(self, folder: str, done: int) -> None:
        if self.lease is not None:
            self.lease.check()  # a worker that was taken for dead must not overwrite its successor's files
        progress = Progress(
            phase=self.phase.name,
            step=done,
            tokens=done * self.phase.tokens_per_step,
            world_size=self.world.size,
            optimizer_steps=self.engine.state.optimizer_steps,
            identity=self.identity.key,
            sequences=self.sequences.fingerprint,
        )
        write_checkpoint(self.files, folder, self.engine.state, self.engine.shapes, progress, self.world)

    def _adopt(self, parent: ArtifactRef | None) -> ArtifactRef:
        """Rank 0 alone. `final/` stands by itself from here on, so the other checkpoints go."""
        assert self.log is not None
        entries = [*describe_checkpoint(self.files, FINAL), self.log.close()]
        made = self.store.adopt(self.identity, Manifest(tuple(entries)), self._stats(parent), self.began)
        self.files.remove(CHECKPOINTS)
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
