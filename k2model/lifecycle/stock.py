"""What there is to mix: the sizes of a recipe's sources, from the store where they have been made.

Three bases, the best that is there: token shards that can be mapped (all sizes, buckets, lengths of
documents), the counts of shards on an object store (sizes of whole sources), or the recipe's public
facts. Looking makes no store and fetches no shard.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2model.artifacts import ArtifactRef, Store
from k2model.artifacts.files import LocalFiles, files_at
from k2model.lifecycle.plan import PENDING, decide
from k2model.lifecycle.steps import DATA, row_called
from k2model.recipe import PhaseConfig, Recipe
from k2model.recipe.mixtures import Available, MixturePlan, known_sizes, plan_mixture

if TYPE_CHECKING:
    from k2model.tokens import TokenShard
    from k2model.tokens.mixture import Documents


@dataclass(frozen=True)
class Stock:
    """`basis` says where sizes come from; `families` maps a source to what it is grouped under.

    `documents`: by source, where shards can be mapped. `short`: the part of the tokens of each packed phase that
    came from short documents, as its rows have it.
    """

    basis: str
    sizes: Mapping[tuple[str, str], Available]
    families: Mapping[str, str]
    documents: "Mapping[str, TokenShard]" = field(default_factory=dict)
    short: Mapping[str, float] = field(default_factory=dict)

    def plan(self, phase: PhaseConfig) -> MixturePlan:
        """The list of `phase` over this stock."""
        if not self.documents:
            return plan_mixture(phase, self.sizes)
        from k2model.tokens.mixture import plan_over

        return plan_over(phase, self._drawable(phase))

    def short_share(self, plan: MixturePlan) -> tuple[float | None, str]:
        """The part of a phase's tokens from short documents, and where that is known from; None = not known."""
        name = plan.phase.name
        if name in self.short:
            return self.short[name], "of the packed rows"
        if not self.documents or any(p.share is None for p in plan.portions) or not plan.portions:
            return None, "lengths of documents are not at hand"
        from k2model.tokens.mixture import drawable_lengths, short_share

        own = self._drawable(plan.phase)
        lengths = [(p.share or 0.0, drawable_lengths(own[p.entry.source], p.entry)) for p in plan.portions]
        return short_share(lengths, plan.phase.mixing.short_tokens), "of the documents to draw from"

    def _drawable(self, phase: PhaseConfig) -> "Mapping[str, Documents]":
        """The documents of the sources of `phase`, without those it skips for their length."""
        from k2model.tokens.sequences import FittingDocuments

        names = {entry.source for entry in phase.mixture} & self.documents.keys()
        return {name: FittingDocuments(name, self.documents[name], phase) for name in names}


def stock_of(recipe: Recipe, store_uri: str) -> Stock:
    """The best that is known of the sources of `recipe`; `store_uri` need not exist."""
    families = {fact.source: fact.family for fact in recipe.facts if fact.family}
    if files_at(store_uri).exists("store.json"):
        packed = [(row_called("sequences"), phase) for phase in recipe.phases]
        store = Store.open(store_uri)
        decided = decide(store, recipe, [*((row, None) for row in DATA), *packed])
        there = {decision.name: ref for decision, ref in decided if not ref.digest.startswith(PENDING)}
        if "tokens" in there:
            return _in_store(store, recipe, there, families)
    if recipe.facts:
        return Stock("public token counts (the recipe's facts)", known_sizes(recipe), families)
    return Stock("the recipe alone: no tokens of it are in the store", {}, families)


def _in_store(store: Store, recipe: Recipe, there: Mapping[str, ArtifactRef], families: Mapping[str, str]) -> Stock:
    from k2model.tokens import open_shard, read_composition

    uri = there["tokens"].uri
    train = json.loads(store.read(there["tokens"], "counts.json"))["train"]
    sizes = {(name, ""): Available(entry["tokens"], entry["targets"]) for name, entry in train.items()}
    families = {name: entry["domain"] for name, entry in train.items()} | dict(families)
    local = isinstance(files_at(uri), LocalFiles)
    documents = {name: open_shard(Path(uri), "train", name) for name in train} if local else {}
    short = {}
    for phase in recipe.phases:
        sequences = there.get(f"{phase.name}/sequences")
        if sequences is not None:
            found: dict[str, Any] = read_composition(store, sequences)
            if found["short_context"]:
                short[phase.name] = float(found["short_context"]["real"])
    return Stock(f"real token counts ({'/'.join(uri.rsplit('/', 2)[1:])})", sizes, families, documents, short)
