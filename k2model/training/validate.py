"""Whether a phase can be trained as laid out, asked before anything is built or written."""

from k2model.recipe.schema import ModelConfig, OptimizerName, PhaseConfig
from k2model.tokens import PackedSequences
from k2model.training.errors import InvalidPhase

ZERO_STAGES = (0, 1, 2, 3)


def validate_phase(model: ModelConfig, phase: PhaseConfig, sequences: PackedSequences, workers: int) -> None:
    """Raise InvalidPhase (or TokensError for the vocabulary) for the first thing that cannot work."""
    where = f"phases.{phase.name}"
    _check_layout(phase, where, workers)
    if sequences.sequence_length != phase.sequence_length:
        raise InvalidPhase(
            f"{sequences.folder} holds rows of {sequences.sequence_length} tokens, but {where}.sequence_length="
            f"{phase.sequence_length}: pack the phase again"
        )
    wanted = phase.steps * phase.global_batch
    if sequences.rows != wanted:
        raise InvalidPhase(
            f"{sequences.folder} holds {sequences.rows} rows, but {where} needs {wanted} (steps={phase.steps} x "
            f"global_batch={phase.global_batch}): pack the phase again"
        )
    sequences.check_vocabulary(model.vocab_size)


def _check_layout(phase: PhaseConfig, where: str, workers: int) -> None:
    layout = phase.parallelism
    for name in ("tensor", "context"):
        if getattr(layout, name) != 1:
            raise InvalidPhase(
                f"{where}.parallelism.{name}={getattr(layout, name)} is not available: workers are data-parallel. "
                "Set it to 1 and shard with zero_stage instead"
            )
    if layout.activation_checkpointing:
        raise InvalidPhase(
            f"{where}.parallelism.activation_checkpointing is not available: set it to false and lower micro_batch"
        )
    if layout.zero_stage not in ZERO_STAGES:
        raise InvalidPhase(f"{where}.parallelism.zero_stage={layout.zero_stage}; there are {ZERO_STAGES}")
    if layout.zero_stage and phase.optimizer.name is not OptimizerName.ADAMW:
        raise InvalidPhase(
            f"{where}: zero_stage={layout.zero_stage} cuts matrices into flat pieces, which optimizer.name="
            f"{phase.optimizer.name.value} cannot work on. Use adamw, or zero_stage=0"
        )
    if layout.micro_batch < 0:
        raise InvalidPhase(f"{where}.parallelism.micro_batch={layout.micro_batch} must be 0 (all) or positive")
    if phase.global_batch % workers:
        raise InvalidPhase(
            f"{where}: global_batch={phase.global_batch} sequences cannot be shared evenly by {workers} workers. Make "
            "it a multiple of nodes x workers_per_node, or start fewer workers"
        )
