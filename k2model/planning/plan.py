"""A recipe with its overrides, resolved for one run on one store.

The orchestrator hands the pieces of a `LifecyclePlan` to the steps, so that each step's cache key holds
only what that step depends on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from k2model.artifacts import Store, fingerprint
from k2model.recipe import PhaseConfig, Recipe, load_recipe
from k2model.recipe.schema import CorpusConfig, MixtureEntry, ValidationConfig
from k2model.versions import STEP_VERSIONS


@dataclass(frozen=True)
class StoreRef:
    """A store as steps receive it.

    `generation` stands in an orchestrator's cache keys for all that our own identities hold beside the
    inputs of a task: it changes with the store at this place, when an artifact that was built has
    vanished, with the version of a step and with what the corpus is built from.
    """

    uri: str
    generation: str

    def open(self) -> Store:
        return Store.open(self.uri)


@dataclass(frozen=True)
class DataPlan:
    """What the steps from sources to tokens read of a recipe, and no training setting."""

    corpus: CorpusConfig
    validation: ValidationConfig
    mixtures: dict[str, list[MixtureEntry]]
    phase_tokens: dict[str, int]  # tokens each phase trains on


@dataclass(frozen=True)
class LifecyclePlan:
    """Everything the tasks of one run need, by name."""

    recipe: Recipe
    store: StoreRef
    tracking_uri: str
    phases: dict[str, PhaseConfig]
    data: DataPlan
    lengths: list[int]  # every sequence length of the recipe, ascending, in tokens
    trained_lengths: dict[str, int]  # by phase the longest row that its weights were trained on, in tokens


def resolve(recipe_name: str, overrides: Mapping[str, Any], store_uri: str, tracking_uri: str) -> LifecyclePlan:
    """Load and check the recipe, open the store. Raises K2Error for anything a user has to mend."""
    recipe = load_recipe(recipe_name, overrides)
    store = Store.open(store_uri)
    return LifecyclePlan(
        recipe=recipe,
        store=StoreRef(store.uri, _generation(store)),
        tracking_uri=tracking_uri,
        phases={phase.name: phase for phase in recipe.phases},
        data=data_plan(recipe),
        lengths=sorted({phase.sequence_length for phase in recipe.phases}),
        trained_lengths={phase.name: recipe.trained_length(phase.name) for phase in recipe.phases},
    )


def data_plan(recipe: Recipe) -> DataPlan:
    return DataPlan(
        corpus=recipe.corpus,
        validation=recipe.validation,
        mixtures={phase.name: list(phase.mixture) for phase in recipe.phases},
        phase_tokens={phase.name: phase.tokens for phase in recipe.phases},
    )


def _generation(store: Store) -> str:
    from k2model.corpus import source_versions

    known = {"store": store.generation, "steps": STEP_VERSIONS, "sources": source_versions(), "lost": _lost(store)}
    return fingerprint(known)[:16]


def _lost(store: Store) -> dict[str, str]:
    """When each artifact that is gone was made: stable until another goes, or one is made again and goes again."""
    made = {}
    for name in store.lost():
        step, key = name.split("/")
        ended = [str(r["provenance"]["ended"]) for r in store.records(step) if r["identity"].startswith(key)]
        made[name] = max(ended, default="")
    return made
