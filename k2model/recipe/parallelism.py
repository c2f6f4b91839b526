"""Whether a phase can be laid over machines as its row says: asked before any process starts.

Every rule here is a fact of the model's shape, the optimizer or DeepSpeed; whoever asks decides what to
raise. The number of workers may be given, since an elastic job can come up with another number than the
recipe's nodes x workers_per_node.
"""

from k2model.recipe.schema import ModelConfig, OptimizerName, PhaseConfig

ZERO_STAGES = (0, 1, 2, 3)


def layout_problem(model: ModelConfig, phase: PhaseConfig, workers: int | None = None) -> str | None:
    """What is wrong with `phases.<name>.parallelism` and what to change, or None. `workers`: how many there are."""
    layout, where = phase.parallelism, f"phases.{phase.name}"
    for name, least in (("nodes", 1), ("workers_per_node", 1), ("tensor", 1), ("context", 1), ("micro_batch", 0),
                        ("loader_workers", 0)):  # fmt: skip
        if getattr(layout, name) < least:
            return f"{where}.parallelism.{name}={getattr(layout, name)} must be at least {least}"
    if not layout.loader_cache_gb > 0:
        return f"{where}.parallelism.loader_cache_gb={layout.loader_cache_gb} must be above 0"
    if not layout.loader_wait_seconds >= 0:
        return f"{where}.parallelism.loader_wait_seconds={layout.loader_wait_seconds} must be at least 0"
    if layout.zero_stage not in ZERO_STAGES:
        return f"{where}.parallelism.zero_stage={layout.zero_stage}; there are {ZERO_STAGES}"
    return _sizes(phase, workers) or _tensor(model, phase) or _context(model, phase) or _optimizer(phase)


def _sizes(phase: PhaseConfig, workers: int | None) -> str | None:
    layout, where = phase.parallelism, f"phases.{phase.name}"
    world = layout.nodes * layout.workers_per_node if workers is None else workers
    shared = layout.tensor * layout.context
    if world % shared:
        return (
            f"{where}.parallelism: {world} workers must be a multiple of tensor x context = {layout.tensor} x "
            f"{layout.context} = {shared}. Change nodes, workers_per_node, tensor or context"
        )
    if phase.global_batch % (world // shared):
        return (
            f"{where}: global_batch={phase.global_batch} sequences cannot be shared evenly: it must be a multiple of "
            f"the {world // shared} data-parallel workers ({world} workers / tensor {layout.tensor} / context "
            f"{layout.context}). Change global_batch, nodes or workers_per_node"
        )
    return None


def _tensor(model: ModelConfig, phase: PhaseConfig) -> str | None:
    tensor = phase.parallelism.tensor
    for name in ("n_heads", "n_kv_heads", "ffn_size", "vocab_size"):
        if getattr(model, name) % tensor:
            return (
                f"phases.{phase.name}.parallelism.tensor={tensor} must divide model.{name}={getattr(model, name)}: "
                "every worker holds an equal part of each matrix"
            )
    return None


def _context(model: ModelConfig, phase: PhaseConfig) -> str | None:
    layout, where = phase.parallelism, f"phases.{phase.name}"
    heads = model.n_heads // layout.tensor
    if heads % layout.context:
        return (
            f"{where}.parallelism.context={layout.context} must divide the {heads} query heads of a worker (model."
            f"n_heads={model.n_heads} / tensor {layout.tensor}): workers of a sequence attend with a share of them each"
        )
    if phase.sequence_length % (layout.context * layout.tensor):
        return (
            f"{where}.sequence_length={phase.sequence_length} must be a multiple of parallelism.context x tensor = "
            f"{layout.context} x {layout.tensor}: workers hold equal parts of a sequence. Change one of them"
        )
    return None


def _optimizer(phase: PhaseConfig) -> str | None:
    layout, where = phase.parallelism, f"phases.{phase.name}"
    if phase.optimizer.name is OptimizerName.MUON and (layout.zero_stage or layout.tensor > 1):
        cut = f"zero_stage={layout.zero_stage}" if layout.zero_stage else f"tensor={layout.tensor}"
        return (
            f"{where}: parallelism.{cut} cuts matrices into pieces, and optimizer.name=muon needs them whole. "
            "Use adamw, or zero_stage=0 and tensor=1"
        )
    if layout.offload and not layout.zero_stage:
        return (
            f"{where}.parallelism.offload moves the optimizer state that ZeRO shares out: set zero_stage to 1, 2 or 3, "
            "or offload to false"
        )
    return None
