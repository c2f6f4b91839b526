"""A recipe's mixtures as a tree one can account for: phase, family, source, bucket, with tokens and shares.

Sizes of sources have three bases, the best that is there: token shards that can be mapped (all sizes, buckets, lengths
of documents), the counts of shards on an object store (sizes of whole sources), or the recipe's public facts. Looking
makes no store and fetches no shard. The arithmetic is `k2model.recipe.mixtures`'s; drawing is the command line's.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2model.artifacts import ArtifactRef, Store
from k2model.artifacts.files import LocalFiles, files_at
from k2model.lifecycle.plan import PENDING, decide
from k2model.lifecycle.steps import Owner, StepRow, data_rows, row_called
from k2model.recipe import PhaseConfig, Recipe
from k2model.recipe.mixture_problems import mixture_problem, short_problem
from k2model.recipe.mixtures import Available, MixturePlan, Portion, bucket_range, known_sizes, plan_mixture
from k2model.recipe.schema import Weigh
from k2model.tokens.shards import counts_of

if TYPE_CHECKING:
    from k2model.tokens import TokenShard
    from k2model.tokens.mixture import Documents


@dataclass(frozen=True)
class SourceSizes:
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
        """The list of `phase` over this sources."""
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


def source_sizes(recipe: Recipe, store_uri: str) -> SourceSizes:
    """The best that is known of the sources of `recipe`; `store_uri` need not exist."""
    families = {fact.source: fact.family for fact in recipe.facts if fact.family}
    if files_at(store_uri).exists("store.json"):
        packed: list[tuple[StepRow, Owner]] = [(row_called("sequences"), phase) for phase in recipe.phases]
        store = Store.open(store_uri)
        decided = decide(store, recipe, [*data_rows(recipe), *packed])
        there = {decision.name: ref for decision, ref in decided if not ref.digest.startswith(PENDING)}
        if "tokens" in there:
            return _in_store(store, recipe, there, families)
    if recipe.facts:
        return SourceSizes("public token counts (the recipe's facts)", known_sizes(recipe), families)
    return SourceSizes("the recipe alone: no tokens of it are in the store", {}, families)


def _in_store(
    store: Store, recipe: Recipe, there: Mapping[str, ArtifactRef], families: Mapping[str, str]
) -> SourceSizes:
    from k2model.tokens import open_shard, read_composition

    uri = there["tokens"].uri
    train = counts_of(store, there["tokens"])["train"]
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
    return SourceSizes(f"real token counts ({'/'.join(uri.rsplit('/', 2)[1:])})", sizes, families, documents, short)


@dataclass(frozen=True)
class Node:
    """A family, source or bucket. `declared`: its amount in the recipe. `tokens` counts each document once,
    `weighted` with its epochs, for one pass. `share`: of what the phase's `share_of` names. None = not known."""

    name: str
    declared: str = ""
    listed_as: str = ""
    tokens: int | None = None
    epochs: float | None = None
    weighted: float | None = None
    share: float | None = None
    children: tuple["Node", ...] = ()


@dataclass(frozen=True)
class PhaseMixture:
    """One phase. `trained`: tokens it trains on in `passes`; `consumed`: the part of the list one pass takes.

    `short`: the part of the tokens from documents of at most `short_tokens`, of which `least_short` is asked.
    """

    phase: str
    basis: str
    entries: int
    share_of: str
    families: tuple[Node, ...]
    raw: int | None
    weighted: float | None
    trained: int
    passes: int
    consumed: float | None
    short: float | None
    short_basis: str
    short_tokens: int
    least_short: float
    notes: tuple[str, ...]
    problem: str

    def record(self) -> dict[str, Any]:
        return asdict(self)


def describe(recipe: Recipe, sources: SourceSizes, phases: Iterable[str] = ()) -> list[PhaseMixture]:
    """The mixtures of the phases called `phases` (none = all), in the order of the recipe."""
    wanted = set(phases) or {phase.name for phase in recipe.phases}
    return [_describe(recipe, sources, phase) for phase in recipe.phases if phase.name in wanted]


def _describe(recipe: Recipe, sources: SourceSizes, phase: PhaseConfig) -> PhaseMixture:
    plan, mixing = sources.plan(phase), phase.mixing
    short, short_basis = sources.short_share(plan) if mixing.short_tokens else (None, "")
    problem = mixture_problem(plan, recipe.validation.max_epochs) or ""
    if not problem and short is not None and short < mixing.min_short:
        problem = short_problem(phase, short)
    of_tokens = bool(plan.portions) and all(portion.share is not None for portion in plan.portions)
    return PhaseMixture(
        phase=phase.name,
        basis=_basis(plan, sources),
        entries=len(plan.portions),
        share_of="tokens trained on" if of_tokens else _fraction_of(mixing.weigh),
        families=tuple(_families(plan, sources, of_tokens)),
        raw=plan.raw,
        weighted=plan.weighted,
        trained=phase.tokens,
        passes=mixing.passes,
        consumed=plan.consumed,
        short=short,
        short_basis=short_basis,
        short_tokens=mixing.short_tokens,
        least_short=mixing.min_short if mixing.short_tokens else 0.0,
        notes=tuple(_notes(recipe, phase)),
        problem=problem,
    )


def _basis(plan: MixturePlan, sources: SourceSizes) -> str:
    if not plan.portions:
        return "the recipe gives no mixture"
    return sources.basis if any(p.available for p in plan.portions) else "shares alone: sizes of sources are not known"


def _fraction_of(weigh: Weigh) -> str:
    return "the weights' target tokens" if weigh is Weigh.TARGETS else "what the weights share out"


def _families(plan: MixturePlan, sources: SourceSizes, of_tokens: bool) -> list[Node]:
    grouped: dict[str, dict[str, list[Portion]]] = {}
    for portion in plan.portions:
        source = portion.entry.source
        family = sources.families.get(source) or source.partition("/")[0]
        grouped.setdefault(family, {}).setdefault(source, []).append(portion)
    return [
        _collapsed(family, [_source(name, portions, of_tokens) for name, portions in sources.items()])
        for family, sources in grouped.items()
    ]


def _source(name: str, portions: list[Portion], of_tokens: bool) -> Node:
    leaves = [_leaf(p, of_tokens) for p in sorted(portions, key=lambda p: bucket_range(p.entry.bucket))]
    return leaves[0] if len(leaves) == 1 else _sum(name, leaves)


def _leaf(portion: Portion, of_tokens: bool) -> Node:
    entry = portion.entry
    declared = f"weight {entry.weight:g}"
    if entry.epochs:
        declared = f"{entry.epochs:g} epoch{'s' if entry.epochs != 1 else ''}"
    elif entry.copies:
        declared = f"{entry.copies} {'copies' if entry.copies != 1 else 'copy'}"
    return Node(
        name=f"{entry.source} {entry.bucket}".rstrip(),
        declared=declared,
        listed_as=entry.listed_as,
        tokens=portion.available.tokens if portion.available else None,
        epochs=portion.epochs,
        weighted=portion.tokens,
        share=portion.share if of_tokens else portion.fraction,
    )


def _collapsed(family: str, sources: list[Node]) -> Node:
    """A family of one source is that source, unless it says more than the source's name."""
    alone = len(sources) == 1 and sources[0].name.startswith(family)
    return sources[0] if alone else _sum(family, sources)


def _sum(name: str, children: list[Node]) -> Node:
    tokens = [child.tokens for child in children]
    weighted = [child.weighted for child in children]
    shares = [child.share for child in children if child.share is not None]
    all_tokens = sum(t for t in tokens if t is not None) if None not in tokens else None
    all_weighted = sum(w for w in weighted if w is not None) if None not in weighted else None
    return Node(
        name=name,
        tokens=all_tokens,
        epochs=all_weighted / all_tokens if all_weighted is not None and all_tokens else None,
        weighted=all_weighted,
        share=sum(shares) if shares else None,
        children=tuple(children),
    )


def _notes(recipe: Recipe, phase: PhaseConfig) -> list[str]:
    """What the recipe lists as unknown of this phase's mixture."""
    about = re.compile(rf"\bphases\.{re.escape(phase.name)}\.(mixture|mixing)\b")
    return [f"not public: {fact}" for fact in recipe.unknown if about.search(fact)]
