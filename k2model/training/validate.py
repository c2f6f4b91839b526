"""Whether a phase can be trained as asked, before anything is built or written."""

from k2model.artifacts import ArtifactRef
from k2model.recipe.parallelism import layout_problem
from k2model.recipe.schema import ModelConfig, PhaseConfig
from k2model.tokens import PackedSequences
from k2model.training.errors import InvalidPhase


def validate_phase(
    model: ModelConfig, phase: PhaseConfig, sequences: PackedSequences, parent: ArtifactRef | None, workers: int
) -> None:
    """Raise InvalidPhase (or TokensError for the vocabulary) for the first thing that cannot work."""
    where = f"phases.{phase.name}"
    if problem := layout_problem(model, phase, workers):
        raise InvalidPhase(problem)
    if phase.parent and parent is None:
        raise InvalidPhase(
            f"{where} starts from phase '{phase.parent}', whose checkpoint was not given: train it first"
        )
    if parent is not None and not phase.parent:
        raise InvalidPhase(f"{where}.parent is empty, so it starts from random weights, but {parent.name} was given")
    if parent is not None and parent.kind != "checkpoint":
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
