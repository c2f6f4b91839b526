"""The licence that a recipe gives its weights, and how a model card states it.

A recipe says it itself: what may be granted follows from the data and the parties, which no default knows. An SPDX id
is wanted; a card on the Hugging Face Hub has ids of its own, lower case, and `other` with a name for all the rest.

Checks on a recipe as a whole, made before anything runs: what single fields cannot tell.
"""

import math
import re

from k2model.errors import K2Error, nearest
from k2model.recipe.adopted_problems import adopted_problem, start_problem
from k2model.recipe.cluster import GPUS, cluster_problem
from k2model.recipe.continual_problems import continual_problem
from k2model.recipe.evaluation_problems import evaluation_problem, gate_problem
from k2model.recipe.fields import places
from k2model.recipe.layouts import fit_problem
from k2model.recipe.mixture_problems import entries_problem, mixture_problem, short_problem
from k2model.recipe.mixtures import known_sizes, plan_mixture
from k2model.recipe.parallelism import layout_problem
from k2model.recipe.promotion import promotion_problem
from k2model.recipe.safety import safety_problem
from k2model.recipe.schedules import schedule_problem
from k2model.recipe.schema import PhaseConfig, PhaseKind, Precision, Recipe
from k2model.recipe.source_problems import names_problem, secret_problem, source_problem

_FORM = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.+-]{0,62}[A-Za-z0-9+])?")
#: What the Hub takes as `license` of a card (https://huggingface.co/docs/hub/repositories-licenses).
HUB_LICENCES = (
    "apache-2.0", "mit", "openrail", "openrail++", "bigscience-openrail-m", "creativeml-openrail-m",
    "bigscience-bloom-rail-1.0", "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause",
    "bsd-3-clause", "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0",
    "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0",
    "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0",
    "etalab-2.0", "eupl-1.1", "eupl-1.2", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1",
    "lgpl-3.0", "isc", "h-research", "intel-research", "lppl-1.3c", "ms-pl", "apple-ascl", "apple-amlr", "mpl-2.0",
    "odc-by", "odbl", "openmdw-1.0", "osl-3.0", "postgresql", "ofl-1.1", "ncsa", "unlicense", "zlib", "pddl",
    "lgpl-lr", "deepfloyd-if-license", "fair-noncommercial-research-license", "llama2", "llama3", "llama3.1",
    "llama3.2", "llama3.3", "llama4", "grok2-community", "gemma", "unknown", "other",
)  # fmt: skip
#: SPDX ids that the Hub spells in another way.
_ON_THE_HUB = {"odc-by-1.0": "odc-by", "odbl-1.0": "odbl", "pddl-1.0": "pddl", "c-uda-1.0": "c-uda"}


def licence_problem(licence: str) -> str | None:
    """What is wrong with `Recipe.licence`, with the remedy; None when nothing is."""
    if _FORM.fullmatch(licence):
        return None
    said = f"licence={licence!r} is no licence id" if licence else "licence is empty"
    return (
        f"{said}; give the weights one SPDX id that their data allow, such as apache-2.0, cc-by-4.0 or mit; or 'other' "
        "or 'unknown'"
    )


def hub_licence(licence: str) -> tuple[str, str]:
    """(`license`, `license_name`) of a card, the second "" where the Hub knows the first."""
    spelled = licence.lower()
    spelled = _ON_THE_HUB.get(spelled, spelled)
    if re.match(r"(?:a|l)?gpl-", spelled):
        spelled = re.sub(r"-only$", "", spelled)
    return (spelled, "") if spelled in HUB_LICENCES else ("other", licence.lower())


PHASE_NAME = re.compile(r"[a-z][a-z0-9_]*")
RECIPE_NAME = re.compile(r"\w[\w .-]{0,99}")
SMALLEST_VOCABULARY = 280  # 256 bytes, the special tokens, and a few merges


class RecipeError(K2Error):
    """The recipe contradicts itself; the message names the row and the field to change."""


def validate_recipe(recipe: Recipe) -> None:
    """Raise RecipeError for the first contradiction found in `recipe`."""
    names = [phase.name for phase in recipe.phases]
    if not RECIPE_NAME.fullmatch(recipe.name):
        raise RecipeError(
            f"the recipe is named {recipe.name!r}; expected up to 100 letters, digits, spaces, `_`, `.` and `-`, the "
            "first a letter, digit or `_`: it names a line of models in MLflow, which takes no others"
        )
    if not names:
        raise RecipeError(f"recipe '{recipe.name}': phases has no rows, so nothing would be trained; give it one")
    adopted = [model.name for model in recipe.adopted]
    if len({*names, *adopted}) != len([*names, *adopted]):
        also = f", and of adopted models {adopted}: a phase's parent names one of them" if adopted else ""
        raise RecipeError(f"recipe '{recipe.name}': phase names must be unique, got {names}{also}")
    for kind, name in (*(("a phase", name) for name in names), *(("an adopted model", name) for name in adopted)):
        if not PHASE_NAME.fullmatch(name):
            raise RecipeError(
                f"recipe '{recipe.name}': {kind} is named {name!r}; expected lower-case letters, digits and _, "
                "beginning with a letter: it names a task, a folder of the release and an alias"
            )
    if problem := licence_problem(recipe.licence):
        raise RecipeError(f"recipe '{recipe.name}': {problem}")
    _check_model(recipe)
    if recipe.export.shard_bytes < 1:
        raise RecipeError(
            f"export.shard_bytes={recipe.export.shard_bytes} must be at least 1: what a file of an export may hold, "
            "e.g. 5000000000"
        )
    if problem := cluster_problem(recipe.cluster):
        raise RecipeError(problem)
    if problem := evaluation_problem(recipe) or safety_problem(recipe.safety, [kind.value for kind in PhaseKind]):
        raise RecipeError(problem)
    sources = [(f"adopted.{model.name}.source", model.source) for model in recipe.adopted]
    for field, address in (*places(recipe), *sources):
        if problem := secret_problem(field, address):
            raise RecipeError(problem)
    if problem := names_problem(recipe.corpus.sources):
        raise RecipeError(problem)
    for source in recipe.corpus.sources:
        if problem := source_problem(source):
            raise RecipeError(problem)
    for model in recipe.adopted:
        problem = adopted_problem(recipe, model)
        if not problem and not _FORM.fullmatch(model.licence):
            problem = (
                f"adopted.{model.name}.licence={model.licence!r} is no licence id; name the one under which its "
                "weights were published, such as apache-2.0 or llama3.1, or 'other' or 'unknown'"
            )
        if problem:
            raise RecipeError(problem)
    for position, phase in enumerate(recipe.phases):
        if problem := _parent_problem(phase, names[:position], names[position:], adopted):
            raise RecipeError(problem)
        _check_phase(recipe, phase)
    for gate in recipe.gates:
        if problem := gate_problem(recipe, gate):
            raise RecipeError(problem)
    if absent := set(recipe.safety.kinds) - {phase.kind.value for phase in recipe.phases}:
        raise RecipeError(
            f"safety.kinds names '{min(absent)}', but no phase is of that kind, so that nothing would be tested; add "
            "such a phase, or take the kind out (safety.kinds=[] tests none)"
        )
    if problem := continual_problem(recipe) or promotion_problem(recipe.promotion):
        raise RecipeError(problem)


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


def _parent_problem(phase: PhaseConfig, earlier: list[str], later: list[str], adopted: list[str]) -> str | None:
    """A phase starts from an adopted model or from a phase that stands above it, so that there are no circles."""
    if not phase.parent or phase.parent in (*earlier, *adopted):
        return None
    also = f" or an adopted model ({', '.join(adopted)})" if adopted else ""
    said = f"phases.{phase.name}.parent='{phase.parent}' must be an earlier phase{also}; "
    if phase.parent == phase.name:
        return f'{said}a phase cannot start from itself: name another one, or "" to start from random weights'
    if phase.parent in later:
        return (
            f"{said}that one stands below: move its row up, or name one of those above ({', '.join(earlier) or 'none'})"
        )
    known = [*earlier, *adopted]
    return f"{said}{nearest(phase.parent, known) if known else 'there is none above it: make it empty'}"


def _check_phase(recipe: Recipe, phase: PhaseConfig) -> None:
    where = f"phases.{phase.name}"
    adopted = {model.name: model for model in recipe.adopted}
    if phase.parent in adopted and (problem := start_problem(phase, adopted[phase.parent])):
        raise RecipeError(problem)
    for name in ("sequence_length", "global_batch", "steps"):
        if getattr(phase, name) < 1:
            raise RecipeError(f"{where}.{name}={getattr(phase, name)} must be at least 1")
    for name, value in (("optimizer.lr", phase.optimizer.lr), ("rope_theta", phase.rope_theta)):
        if not (value > 0 and math.isfinite(value)):
            raise RecipeError(f"{where}.{name}={value} must be positive and finite")
    for name in ("weight_decay", "grad_clip", "beta1", "beta2", "eps"):
        if not (getattr(phase.optimizer, name) >= 0 and math.isfinite(getattr(phase.optimizer, name))):
            raise RecipeError(f"{where}.optimizer.{name}={getattr(phase.optimizer, name)} must be a number, 0 or above")
    if problem := schedule_problem(phase):
        raise RecipeError(problem)
    sources = {source.name for source in recipe.corpus.sources}
    for entry in phase.mixture:
        if entry.source not in sources:
            raise RecipeError(
                f"{where}.mixture.{entry.source}: the corpus has no such source; it has {sorted(sources)}"
            )
    _check_mixing(recipe, phase, where)
    _check_checkpoints(phase, where)
    if problem := layout_problem(recipe.model, phase):
        raise RecipeError(problem)
    gpus, workers = recipe.cluster.gpus_per_node, phase.parallelism.workers_per_node
    if gpus and workers != gpus:
        raise RecipeError(
            f"{where}.parallelism.workers_per_node={workers}, and a node has cluster.gpus_per_node={gpus}: each worker "
            "has a GPU of its own, and a pod is given all of a node's. Set one to the other, or gpus_per_node to 0 to "
            "train on CPUs"
        )
    gpu = GPUS.get(recipe.cluster.gpu)
    if gpu and (problem := fit_problem(recipe.model, phase, gpu)):
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


def _check_checkpoints(phase: PhaseConfig, where: str) -> None:
    checkpoints, spikes = phase.checkpoints, phase.spikes
    for name, least in (
        ("save_every", 0), ("keep_last", 1), ("keep_every", 0), ("attempts_without_progress", 0),
    ):  # fmt: skip
        if getattr(checkpoints, name) < least:
            raise RecipeError(f"{where}.checkpoints.{name}={getattr(checkpoints, name)} must be at least {least}")
    if checkpoints.keep_every and (not checkpoints.save_every or checkpoints.keep_every % checkpoints.save_every):
        raise RecipeError(
            f"{where}.checkpoints.keep_every={checkpoints.keep_every} must be a multiple of "
            f"save_every={checkpoints.save_every}: only what is saved can be kept"
        )
    if phase.norms_every < 0:
        raise RecipeError(f"{where}.norms_every={phase.norms_every} must be at least 0")
    for name, least in (("window", 8), ("tolerated", 0), ("margin", 0), ("max_rollbacks", 0)):
        if getattr(spikes, name) < least:
            raise RecipeError(f"{where}.spikes.{name}={getattr(spikes, name)} must be at least {least}")
    if not (spikes.threshold > 0 and math.isfinite(spikes.threshold)):
        raise RecipeError(f"{where}.spikes.threshold={spikes.threshold} must be positive and finite")
    if phase.bf16_residual and phase.precision is not Precision.BF16:
        raise RecipeError(
            f"{where}.bf16_residual=true rounds the stream between blocks, and precision={phase.precision.value} "
            "rounds nothing: set precision to bf16, or bf16_residual to false"
        )
    if not (phase.z_loss >= 0 and math.isfinite(phase.z_loss)):
        raise RecipeError(f"{where}.z_loss={phase.z_loss} must be a number, 0 or above")
