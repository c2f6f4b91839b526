"""The step that trains one phase: check it, find it, or resume, warm-start or begin it, and finish it in the store."""

import contextlib
from collections.abc import Callable
from functools import partial

from k2model.artifacts import ArtifactRef, Identity, JobStep, Lease, Store
from k2model.artifacts.lease import STALE_SECONDS
from k2model.errors import InvalidPhase
from k2model.recipe.fields import identity_fields
from k2model.recipe.parallelism import layout_problem
from k2model.recipe.schema import ModelConfig, PhaseConfig
from k2model.tokens import PackedSequences
from k2model.training.observer import Observer, unobserved
from k2model.training.world import World
from k2model.versions import STEP_VERSIONS

IN_SEQUENCES = ("mixture", "mixing", "packing", "long_documents")  # they act through the rows, whose digest is an input


def validate_phase(
    model: ModelConfig, phase: PhaseConfig, sequences: PackedSequences, parent: ArtifactRef | None, workers: int
) -> None:
    """Check a phase before anything is built or written; `workers` as the job really has them.

    Raises InvalidPhase (or TokensError for the vocabulary) for the first thing that cannot work.
    """
    where = f"phases.{phase.name}"
    if problem := layout_problem(model, phase, workers):
        raise InvalidPhase(problem)
    if phase.parent and parent is None:
        raise InvalidPhase(
            f"{where} starts from phase '{phase.parent}', whose checkpoint was not given: train it first"
        )
    if parent is not None and not phase.parent:
        raise InvalidPhase(f"{where}.parent is empty, so it starts from random weights, but {parent.name} was given")
    if parent is not None and parent.kind not in ("checkpoint", "adopted_checkpoint"):
        raise InvalidPhase(f"{where} can start from a checkpoint, not from {parent.name} of kind '{parent.kind}'")
    if sequences.sequence_length != phase.sequence_length:
        raise InvalidPhase(
            f"{sequences.where} holds rows of {sequences.sequence_length} tokens, but {where}.sequence_length="
            f"{phase.sequence_length}: pack the phase again"
        )
    wanted = phase.steps * phase.global_batch
    if sequences.rows != wanted:
        raise InvalidPhase(
            f"{sequences.where} holds {sequences.rows} rows, but {where} needs {wanted} (steps={phase.steps} x "
            f"global_batch={phase.global_batch}): pack the phase again"
        )
    sequences.check_vocabulary(model.vocab_size)


def checkpoint_identity(
    model: ModelConfig, phase: PhaseConfig, sequences: ArtifactRef, parent: ArtifactRef | None = None
) -> Identity:
    """What decides a phase's checkpoint: its row of the table, the model, the rows and the parent."""
    fields = {f.name: getattr(phase, f.name) for f in identity_fields(phase) if f.name not in IN_SEQUENCES}
    inputs = {"sequences": sequences} | ({"parent": parent} if parent is not None else {})
    return Identity("checkpoint", STEP_VERSIONS["checkpoint"], {"phase": fields, "model": model}, inputs)


def checkpoint_step(
    store: Store,
    model: ModelConfig,
    phase: PhaseConfig,
    sequences: ArtifactRef,
    parent: ArtifactRef | None = None,
    observe: Callable[[ArtifactRef, World], Observer] = unobserved,
) -> JobStep:
    """Train a phase, or go on where a killed attempt saved last; kind `checkpoint`.

    It is run by every worker of a torch-elastic job, or by one process alone; all get the same answer.
    `parent` gives the weights and, with `keep_optimizer_state`, the optimizer state to start from.
    `observe` gives each worker whoever is told how the training goes, once there is something to train: it is given a
    reference to what is to be made (without digest and stats) and the worker's place among the others.

    To run it raises:
        InvalidPhase: the phase cannot be trained as laid out; nothing was written.
        CheckpointMismatch: the parent is of another phase or its tensors do not fit.
        TrainingDiverged: spikes came back more often than the phase's policy undoes.
        Preempted: SIGTERM; what was done is saved.
        CrashLoop: attempts before this one ended again and again without a checkpoint of their own.
        LeaseHeld: another live job trains the same phase.
        ArtifactError: an input is damaged, or the store cannot be written.
    """
    identity = checkpoint_identity(model, phase, sequences, parent)
    return JobStep(identity, partial(_train, store, identity, model, phase, sequences, parent, observe))


def _train(
    store: Store,
    identity: Identity,
    model: ModelConfig,
    phase: PhaseConfig,
    sequences: ArtifactRef,
    parent: ArtifactRef | None,
    observe: Callable[[ArtifactRef, World], Observer],
) -> ArtifactRef:
    world = World.from_environment()
    if world.size == 1 and (found := store.find(identity)) is not None:
        return found
    with contextlib.ExitStack() as held:
        rows = held.enter_context(contextlib.closing(PackedSequences.open(store, sequences, phase.parallelism)))
        validate_phase(model, phase, rows, parent, world.size)
        held.enter_context(world.joined())
        leases: list[Lease] = []

        def find_or_lease() -> ArtifactRef | None:
            if (found := store.find(identity)) is None:
                leases.append(held.enter_context(store.lease(identity, wait_seconds=1.5 * STALE_SECONDS)))
                found = store.find(identity)
            return found

        if (found := world.broadcast(find_or_lease)) is not None:
            return found
        from k2model.training.attempt import Attempt

        observer = observe(ArtifactRef(identity.step, store.location(identity), "", identity.key, {}), world)
        lease = leases[0] if leases else None
        return Attempt(store, identity, model, phase, rows, world, lease, observer).complete(parent)
