"""What can be wrong with a recipe's adopted models before anything of them is read."""

import math

from k2model.recipe.schema import AdoptedModel, PhaseConfig, PhaseKind, Recipe


def adopted_problem(recipe: Recipe, model: AdoptedModel) -> str | None:
    """The first thing that is wrong with what a recipe says of an adopted model; None when nothing is. Its licence and
    addresses are left to `k2model.recipe.validate`."""
    where = f"adopted.{model.name}"
    if not model.location:
        return f"{where}.location is empty; name the folder of the model, a path or s3://bucket/folder"
    if not (model.rope_theta > 0 and math.isfinite(model.rope_theta)):
        return f"{where}.rope_theta={model.rope_theta} must be positive and finite: its config.json has it"
    if model.sequence_length < 1:
        return f"{where}.sequence_length={model.sequence_length} must be its config.json's max_position_embeddings"
    if model.name not in (phase.parent for phase in recipe.phases):
        return f"{where}: no phase starts from it; set a phase's parent='{model.name}', or leave the model out"
    return None


def start_problem(phase: PhaseConfig, model: AdoptedModel) -> str | None:
    """Why `phase` cannot start from `model` as the recipe says it does; None when it can.

    Theta is raised before a context is extended and at no other time: another one turns every head otherwise than it
    was trained.
    """
    where = f"phases.{phase.name}"
    if phase.keep_optimizer_state and not model.training_state:
        return (
            f"{where}.keep_optimizer_state=True, but adopted.{model.name} gives its weights alone; set "
            "keep_optimizer_state=False, or, of a release that carries the optimizer state, "
            f"adopted.{model.name}.training_state=True"
        )
    extends = phase.kind is not PhaseKind.SFT and phase.rope_theta > model.rope_theta
    if phase.rope_theta != model.rope_theta and not extends:
        return (
            f"{where}.rope_theta={phase.rope_theta:g}, but adopted.{model.name} was trained with "
            f"{model.rope_theta:g}; set it to that. It may be raised, by a phase that is no fine-tuning"
        )
    return None
