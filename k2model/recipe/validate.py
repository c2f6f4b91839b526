"""Checks on a recipe as a whole, made before anything runs: what single fields cannot tell."""

import math

from k2model.errors import K2Error
from k2model.recipe.licence import licence_problem
from k2model.recipe.mixture_problems import entries_problem, mixture_problem, short_problem
from k2model.recipe.mixtures import known_sizes, plan_mixture
from k2model.recipe.parallelism import layout_problem
from k2model.recipe.schema import PhaseConfig, PhaseKind, Recipe
from k2model.recipe.source_files import names_problem, secret_problem, source_problem

SMALLEST_VOCABULARY = 280  # 256 bytes, the special tokens, and a few merges


class RecipeError(K2Error):
    """The recipe contradicts itself; the message names the row and the field to change."""


def validate_recipe(recipe: Recipe) -> None:
    """Raise RecipeError for the first contradiction found in `recipe`."""
    names = [phase.name for phase in recipe.phases]
    if len(set(names)) != len(names):
        raise RecipeError(f"recipe '{recipe.name}': phase names must be unique, got {names}")
    if problem := licence_problem(recipe.licence):
        raise RecipeError(f"recipe '{recipe.name}': {problem}")
    _check_model(recipe)
    _check_evaluation(recipe)
    for field, address in (
        ("tokenizer.adopt", recipe.tokenizer.adopt),
        ("validation.previous_statistics", recipe.validation.previous_statistics),
    ):
        if problem := secret_problem(field, address):
            raise RecipeError(problem)
    if problem := names_problem(recipe.corpus.sources):
        raise RecipeError(problem)
    for source in recipe.corpus.sources:
        if problem := source_problem(source):
            raise RecipeError(problem)
    for position, phase in enumerate(recipe.phases):
        _check_phase(recipe, phase, names[:position])
    for gate in recipe.gates:
        if gate.phase not in names:
            raise RecipeError(f"gates.{gate.phase}: no such phase; there are {', '.join(names)}")


def _check_model(recipe: Recipe) -> None:
    model = recipe.model
    for name in ("n_layers", "n_heads", "n_kv_heads", "hidden_size", "ffn_size"):
        if getattr(model, name) < 1:
            raise RecipeError(f"model.{name}={getattr(model, name)} must be at least 1")
    if model.n_heads % model.n_kv_heads:
        raise RecipeError(f"model.n_heads={model.n_heads} must be a multiple of model.n_kv_heads={model.n_kv_heads}")
    if model.head_dim % 2:
        raise RecipeError(f"model.head_dim={model.head_dim} must be even: rotary embedding turns pairs")
    if recipe.tokenizer.vocab_size < SMALLEST_VOCABULARY:
        raise RecipeError(
            f"tokenizer.vocab_size={recipe.tokenizer.vocab_size} must be at least {SMALLEST_VOCABULARY}: 256 bytes and "
            "the special tokens"
        )
    if recipe.tokenizer.vocab_size > model.vocab_size:
        raise RecipeError(
            f"tokenizer.vocab_size={recipe.tokenizer.vocab_size} exceeds model.vocab_size={model.vocab_size}; "
            "tokens above it would have no embedding"
        )


def _check_evaluation(recipe: Recipe) -> None:
    evaluation, corpus = recipe.evaluation, recipe.corpus
    for name in ("items_per_family", "retrieval_documents", "retrieval_queries", "loss_tokens", "batch_size"):
        if getattr(evaluation, name) < 1:
            raise RecipeError(f"evaluation.{name}={getattr(evaluation, name)} must be at least 1")
    if evaluation.items_per_family > corpus.heldout_items:
        raise RecipeError(
            f"evaluation.items_per_family={evaluation.items_per_family} exceeds the corpus.heldout_items="
            f"{corpus.heldout_items} that are held out; raise the latter"
        )
    contexts = {source.context for source in corpus.sources if source.context}
    lacking = sorted({phase.sequence_length for phase in recipe.phases} - contexts) if contexts else []
    if lacking:
        raise RecipeError(
            f"retrieval is scored at every phase's sequence_length, but no corpus source has context {lacking[0]}; "
            f"the sources have {sorted(contexts)}. Add a source 'retrieval/{lacking[0]}' or keep to those lengths"
        )


def _check_phase(recipe: Recipe, phase: PhaseConfig, earlier: list[str]) -> None:
    where = f"phases.{phase.name}"
    if phase.parent and phase.parent not in earlier:
        raise RecipeError(f"{where}.parent='{phase.parent}' must be an earlier phase; earlier are {earlier or 'none'}")
    for name in ("sequence_length", "global_batch", "steps"):
        if getattr(phase, name) < 1:
            raise RecipeError(f"{where}.{name}={getattr(phase, name)} must be at least 1")
    for name, value in (("optimizer.lr", phase.optimizer.lr), ("rope_theta", phase.rope_theta)):
        if not (value > 0 and math.isfinite(value)):
            raise RecipeError(f"{where}.{name}={value} must be positive and finite")
    for name in ("weight_decay", "grad_clip", "beta1", "beta2", "eps"):
        if not (getattr(phase.optimizer, name) >= 0 and math.isfinite(getattr(phase.optimizer, name))):
            raise RecipeError(f"{where}.optimizer.{name}={getattr(phase.optimizer, name)} must be a number, 0 or above")
    if phase.schedule.warmup_steps >= phase.steps:
        raise RecipeError(
            f"{where}.schedule.warmup_steps={phase.schedule.warmup_steps} must be below steps={phase.steps}"
        )
    sources = {source.name for source in recipe.corpus.sources}
    for entry in phase.mixture:
        if entry.source not in sources:
            raise RecipeError(
                f"{where}.mixture.{entry.source}: the corpus has no such source; it has {sorted(sources)}"
            )
    _check_mixing(recipe, phase, where)
    _check_cadence(phase, where)
    if problem := layout_problem(recipe.model, phase):
        raise RecipeError(problem)


def _check_mixing(recipe: Recipe, phase: PhaseConfig, where: str) -> None:
    """What can be said of a mixture before there are documents: amounts, public sizes, lengths aimed at."""
    mixing = phase.mixing
    for name, least in (("target_tokens", 0), ("passes", 1), ("short_tokens", 0)):
        if getattr(mixing, name) < least:
            raise RecipeError(f"{where}.mixing.{name}={getattr(mixing, name)} must be at least {least}")
    if not 0 <= mixing.min_short <= 1:
        raise RecipeError(f"{where}.mixing.min_short={mixing.min_short} must be a part of the tokens, from 0 to 1")
    if phase.kind is PhaseKind.MIDTRAIN and not mixing.short_tokens:
        raise RecipeError(
            f"{where}.mixing.short_tokens=0: mid-training keeps {mixing.min_short:.0%} short-context data; set it to "
            "the sequence_length of pre-training"
        )
    if problem := entries_problem(phase):
        raise RecipeError(problem)
    plan = plan_mixture(phase, known_sizes(recipe))
    if problem := mixture_problem(plan, recipe.validation.max_epochs):
        raise RecipeError(problem)
    aimed = {source.name: source.context for source in recipe.corpus.sources}
    long = sum(p.share or 0.0 for p in plan.portions if aimed[p.entry.source] > mixing.short_tokens)
    if mixing.short_tokens and 1 - long < mixing.min_short:
        raise RecipeError(short_problem(phase, 1 - long, "at most "))


def _check_cadence(phase: PhaseConfig, where: str) -> None:
    cadence, spikes = phase.cadence, phase.spikes
    for name, least in (("save_every", 0), ("keep_last", 1), ("keep_every", 0), ("norms_every", 0)):
        if getattr(cadence, name) < least:
            raise RecipeError(f"{where}.cadence.{name}={getattr(cadence, name)} must be at least {least}")
    if cadence.keep_every and (not cadence.save_every or cadence.keep_every % cadence.save_every):
        raise RecipeError(
            f"{where}.cadence.keep_every={cadence.keep_every} must be a multiple of save_every={cadence.save_every}: "
            "only what is saved can be kept"
        )
    for name, least in (("window", 8), ("narrow", 0), ("margin", 0), ("max_rollbacks", 0)):
        if getattr(spikes, name) < least:
            raise RecipeError(f"{where}.spikes.{name}={getattr(spikes, name)} must be at least {least}")
    if not (spikes.threshold > 0 and math.isfinite(spikes.threshold)):
        raise RecipeError(f"{where}.spikes.threshold={spikes.threshold} must be positive and finite")
    if not (phase.z_loss >= 0 and math.isfinite(phase.z_loss)):
        raise RecipeError(f"{where}.z_loss={phase.z_loss} must be a number, 0 or above")
