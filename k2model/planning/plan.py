"""A recipe with its overrides, resolved for one run on one store.

The orchestrator hands the pieces of a `LifecyclePlan` to the steps, so that each step's cache key holds
only what that step depends on.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from k2model.artifacts import Store
from k2model.recipe import PhaseConfig, Recipe, load_recipe
from k2model.recipe.schema import MixtureEntry


@dataclass(frozen=True)
class StoreRef:
    """A store as steps receive it.

    `generation` differs between two stores at the same place, and whenever an artifact that was built
    has vanished, so that an orchestrator never answers from its cache for data that is gone.
    """

    uri: str
    generation: str

    def open(self) -> Store:
        return Store.open(self.uri)


@dataclass(frozen=True)
class LifecyclePlan:
    """Everything the tasks of one run need, by name."""

    recipe: Recipe
    store: StoreRef
    tracking_uri: str
    phases: dict[str, PhaseConfig]
    mixtures: dict[str, list[MixtureEntry]]
    phase_tokens: dict[str, int]  # tokens each phase trains on
    lengths: list[int]  # every sequence length of the recipe, ascending, in tokens


def resolve(recipe_name: str, overrides: Mapping[str, Any], store_uri: str, tracking_uri: str) -> LifecyclePlan:
    """Load and check the recipe, open the store. Raises K2Error for anything a user has to mend."""
    recipe = load_recipe(recipe_name, overrides)
    store = Store.open(store_uri)
    lost = store.lost()
    return LifecyclePlan(
        recipe=recipe,
        store=StoreRef(store.uri, f"{store.generation}-{uuid.uuid4().hex[:8]}" if lost else store.generation),
        tracking_uri=tracking_uri,
        phases={phase.name: phase for phase in recipe.phases},
        mixtures={phase.name: list(phase.mixture) for phase in recipe.phases},
        phase_tokens={phase.name: phase.tokens for phase in recipe.phases},
        lengths=sorted({phase.sequence_length for phase in recipe.phases}),
    )
