"""Export of a checkpoint to Hugging Face form, and its evaluation on held-out items."""

from k2model.artifacts import ArtifactRef
from k2model.planning import StoreRef
from k2model.recipe.schema import EvaluationConfig, ModelConfig, PhaseConfig
from tasks._platform import TRAIN_IMAGE, data_task, evaluation_task
from tasks._types import Artifact


@data_task(container_image=TRAIN_IMAGE)
def export(
    store: StoreRef,
    model: ModelConfig,
    phase: PhaseConfig,
    trained_length: int,
    sequences: ArtifactRef,
    checkpoint: ArtifactRef,
    tokenizer: ArtifactRef,
) -> Artifact:
    from k2model.model import export_hugging_face

    return export_hugging_face(
        store.open(), model, phase, checkpoint, tokenizer, trained_length=trained_length, sequences=sequences
    )


@evaluation_task()
def evaluate(
    store: StoreRef,
    config: EvaluationConfig,
    phase: PhaseConfig,
    lengths: list[int],
    corpus: ArtifactRef,
    tokens: ArtifactRef,
    tokenizer: ArtifactRef,
    export: ArtifactRef,
    parent_phase: PhaseConfig | None = None,
    parent_export: ArtifactRef | None = None,
) -> Artifact:
    from k2model.evals import evaluate

    return evaluate(
        store.open(), config, phase, corpus, tokens, tokenizer, export,
        parent_export=parent_export, parent_phase=parent_phase, lengths=tuple(lengths),
    )  # fmt: skip
