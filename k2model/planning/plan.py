"""A recipe with its overrides, resolved for one run on one store.

The orchestrator hands the pieces of a `LifecyclePlan` to the steps, so that each step's cache key holds
only what that step depends on. What lies at the places that a recipe names is in no such piece, so all of them are
told of no place but `data`, and a task that is given `data` is cached by the identity of its step or not at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from k2model.artifacts import Store, fingerprint
from k2model.recipe import PhaseConfig, Recipe, load_recipe
from k2model.recipe.fields import without_places
from k2model.recipe.schema import CorpusConfig, MixtureEntry, TokenizerConfig, ValidationConfig


@dataclass(frozen=True)
class StoreRef:
    """A store as steps receive it.

    `generation` stands in an orchestrator's cache keys for what the store holds: it changes with the store at this
    place, and when an artifact that was built has vanished.
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
    tokenizer: TokenizerConfig
    mixtures: dict[str, list[MixtureEntry]]
    phase_tokens: dict[str, int]  # tokens each phase trains on


@dataclass(frozen=True)
class LifecyclePlan:
    """Everything the tasks of one run need, by name; only `data` names places."""

    recipe: Recipe
    store: StoreRef
    tracking_uri: str
    phases: dict[str, PhaseConfig]
    data: DataPlan
    lengths: list[int]  # every sequence length of the recipe, ascending, in tokens


def resolve(recipe_name: str, overrides: Mapping[str, Any], store_uri: str, tracking_uri: str) -> LifecyclePlan:
    """Load and check the recipe, open the store. Raises K2Error for anything a user has to mend."""
    return lifecycle_plan(load_recipe(recipe_name, overrides), store_uri, tracking_uri)


def lifecycle_plan(recipe: Recipe, store_uri: str, tracking_uri: str) -> LifecyclePlan:
    """The plan of a recipe on a store, which is made when it is not there."""
    store = Store.open(store_uri)
    told = without_places(recipe)
    return LifecyclePlan(
        recipe=told,
        store=StoreRef(store.uri, _generation(store)),
        tracking_uri=tracking_uri,
        phases={phase.name: phase for phase in told.phases},
        data=data_plan(recipe),
        lengths=sorted({phase.sequence_length for phase in recipe.phases}),
    )


def data_plan(recipe: Recipe) -> DataPlan:
    return DataPlan(
        corpus=recipe.corpus,
        validation=recipe.validation,
        tokenizer=recipe.tokenizer,
        mixtures={phase.name: list(phase.mixture) for phase in recipe.phases},
        phase_tokens={phase.name: phase.tokens for phase in recipe.phases},
    )


def _generation(store: Store) -> str:
    return fingerprint({"store": store.generation, "lost": _lost(store)})[:16]


def _lost(store: Store) -> dict[str, str]:
    """When each artifact that is gone was made: stable until another goes, or one is made again and goes again."""
    made = {}
    for name in store.lost():
        step, key = name.split("/")
        ended = [str(r["provenance"]["ended"]) for r in store.records(step) if r["identity"].startswith(key)]
        made[name] = max(ended, default="")
    return made
