"""One elastic job per phase of K2, each sized by its row of the recipe.

Flyte names a task by its function and fixes its node count at registration, so each phase is a function
of its own; all of them are the same call.
"""

from k2model.artifacts import ArtifactRef
from k2model.planning import StoreRef
from k2model.recipe.schema import ModelConfig, PhaseConfig
from tasks._platform import training_task
from tasks._types import Artifact


def _train(
    store: StoreRef, model: ModelConfig, phase: PhaseConfig, sequences: ArtifactRef, parent: ArtifactRef | None
) -> ArtifactRef:
    from k2model.training import train_phase

    return train_phase(store.open(), model, phase, sequences, parent)


@training_task("pretrain")
def pretrain(
    store: StoreRef,
    model: ModelConfig,
    phase: PhaseConfig,
    sequences: ArtifactRef,
    parent: ArtifactRef | None = None,
) -> Artifact:
    return _train(store, model, phase, sequences, parent)


@training_task("mid_1")
def mid_1(
    store: StoreRef,
    model: ModelConfig,
    phase: PhaseConfig,
    sequences: ArtifactRef,
    parent: ArtifactRef | None = None,
) -> Artifact:
    return _train(store, model, phase, sequences, parent)


@training_task("mid_2")
def mid_2(
    store: StoreRef,
    model: ModelConfig,
    phase: PhaseConfig,
    sequences: ArtifactRef,
    parent: ArtifactRef | None = None,
) -> Artifact:
    return _train(store, model, phase, sequences, parent)


@training_task("mid_3")
def mid_3(
    store: StoreRef,
    model: ModelConfig,
    phase: PhaseConfig,
    sequences: ArtifactRef,
    parent: ArtifactRef | None = None,
) -> Artifact:
    return _train(store, model, phase, sequences, parent)


@training_task("mid_4")
def mid_4(
    store: StoreRef,
    model: ModelConfig,
    phase: PhaseConfig,
    sequences: ArtifactRef,
    parent: ArtifactRef | None = None,
) -> Artifact:
    return _train(store, model, phase, sequences, parent)


@training_task("sft")
def sft(
    store: StoreRef,
    model: ModelConfig,
    phase: PhaseConfig,
    sequences: ArtifactRef,
    parent: ArtifactRef | None = None,
) -> Artifact:
    return _train(store, model, phase, sequences, parent)


TRAINING_TASKS = {"pretrain": pretrain, "mid_1": mid_1, "mid_2": mid_2, "mid_3": mid_3, "mid_4": mid_4, "sft": sft}
