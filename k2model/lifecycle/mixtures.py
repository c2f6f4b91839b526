"""A recipe's mixtures as a tree one can account for: phase, family, source, bucket, with tokens and shares.

All numbers come from `k2model.recipe.mixtures`; here they are grouped, and what is not known is said.
Drawing on a terminal is the command line's.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from k2model.lifecycle.stock import Stock
from k2model.recipe import Recipe
from k2model.recipe.mixture_problems import mixture_problem, short_problem
from k2model.recipe.mixtures import MixturePlan, Portion, bucket_range
from k2model.recipe.schema import PhaseConfig, Weigh


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


def describe(recipe: Recipe, stock: Stock, phases: Iterable[str] = ()) -> list[PhaseMixture]:
    """The mixtures of the phases called `phases` (none = all), in the order of the recipe."""
    wanted = set(phases) or {phase.name for phase in recipe.phases}
    return [_describe(recipe, stock, phase) for phase in recipe.phases if phase.name in wanted]


def _describe(recipe: Recipe, stock: Stock, phase: PhaseConfig) -> PhaseMixture:
    plan, mixing = stock.plan(phase), phase.mixing
    short, short_basis = stock.short_share(plan) if mixing.short_tokens else (None, "")
    problem = mixture_problem(plan, recipe.validation.max_epochs) or ""
    if not problem and short is not None and short < mixing.min_short:
        problem = short_problem(phase, short)
    of_tokens = bool(plan.portions) and all(portion.share is not None for portion in plan.portions)
    return PhaseMixture(
        phase=phase.name,
        basis=_basis(plan, stock),
        entries=len(plan.portions),
        share_of="tokens trained on" if of_tokens else _fraction_of(mixing.weigh),
        families=tuple(_families(plan, stock, of_tokens)),
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


def _basis(plan: MixturePlan, stock: Stock) -> str:
    if not plan.portions:
        return "the recipe gives no mixture"
    return stock.basis if any(p.available for p in plan.portions) else "shares alone: sizes of sources are not known"


def _fraction_of(weigh: Weigh) -> str:
    return "the weights' target tokens" if weigh is Weigh.TARGETS else "what the weights share out"


def _families(plan: MixturePlan, stock: Stock, of_tokens: bool) -> list[Node]:
    grouped: dict[str, dict[str, list[Portion]]] = {}
    for portion in plan.portions:
        source = portion.entry.source
        family = stock.families.get(source) or source.partition("/")[0]
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
