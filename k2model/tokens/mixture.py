"""Drawing documents: which documents of each source a phase trains on, and how often.

Counts come straight from the shares: a source gives documents until its own share of the phase's tokens
is met, whatever the others give, so that a small family is never starved by a large one. A source is
walked in a seeded order and, when it is too small, again in another order: every document is seen
either n or n + 1 times. What the shares are is `k2model.recipe.mixtures`; where the documents land in
rows is `k2model.tokens.packing`.
"""

import hashlib
import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from k2model.errors import MixtureError, nearest
from k2model.recipe.mixture_problems import entries_problem, mixture_problem, short_problem
from k2model.recipe.mixtures import Available, MixturePlan, Portion, bucket_range, plan_mixture
from k2model.recipe.schema import MixtureEntry, PhaseConfig, Weigh

#: Sources of these domains are natural text: cutting one of their documents loses context, not an answer.
NATURAL_DOMAINS = ("prose", "code")


class Documents(Protocol):
    """What drawing asks of a source, each [documents]: tokens, copies found, and targets (asked only if they count)."""

    @property
    def lengths(self) -> NDArray[np.int64]: ...
    @property
    def duplicates(self) -> NDArray[np.int32]: ...
    @property
    def targets(self) -> NDArray[np.int64]: ...


@dataclass(frozen=True)
class Source:
    """One entry of a mixture over its documents.

    `share`: of the phase's tokens. `lengths` [documents]: tokens of every document of `source`. `members`: the
    documents that may be drawn (None = all). `counted` [documents]: what shares are measured in where that is not
    tokens. `least` and `most`: bounds on the tokens of one pass, equal where a portion is pinned. `passes`: how
    often what one pass takes is repeated.
    """

    name: str
    share: float
    lengths: NDArray[np.int64]
    natural: bool
    source: str = ""  # its name in the tokens artifact, where `name` says the bucket, too
    domain: str = ""
    members: NDArray[np.int64] | None = None
    counted: NDArray[np.int64] | None = None
    least: float = 0.0
    most: float = math.inf
    passes: int = 1

    @property
    def tokens(self) -> int:
        return int(self.drawable(self.lengths).sum())

    def drawable(self, values: NDArray[Any]) -> NDArray[Any]:
        """`values` [documents] of those that may be drawn."""
        return values if self.members is None else values[self.members]


def drawn_sources(phase: PhaseConfig, known: Collection[str]) -> list[str]:
    """The sources that `phase` draws from, each once, in the order of its mixture.

    Raises MixtureError for entries that contradict each other or that are not in `known` (with the nearest name).
    """
    if problem := entries_problem(phase):
        raise MixtureError(problem)
    for entry in phase.mixture:
        if entry.source not in known:
            raise MixtureError(
                f"phases.{phase.name}.mixture.{entry.name}: the tokens hold no training source '{entry.source}'; "
                f"{nearest(entry.source, sorted(known))}"
            )
    names = dict.fromkeys(e.source for e in phase.mixture if e.weight or e.epochs or e.copies)
    if not names:
        raise MixtureError(f"phases.{phase.name}.mixture: it is empty, so there is nothing to train on")
    return list(names)


def sources_for(
    phase: PhaseConfig, counts: Mapping[str, Any], documents: Mapping[str, Documents], max_epochs: float
) -> list[Source]:
    """The mixture of `phase` over the documents of each source that `drawn_sources` names.

    `counts` is `counts.json`. Raises MixtureError, saying by how much, when a source would be repeated more than
    `max_epochs` times, the list does not fit the phase, or too little of it is short-context data.
    """
    plan = plan_over(phase, documents)
    if problem := mixture_problem(plan, max_epochs):
        raise MixtureError(problem)
    sources = [_source(portion, plan, documents[portion.entry.source], counts) for portion in plan.portions]
    check_short(phase, _short_wanted(phase, sources))
    return sources


def plan_over(phase: PhaseConfig, documents: Mapping[str, Documents]) -> MixturePlan:
    """The list of `phase` with the sizes that its documents really have."""
    available = {}
    for entry in phase.mixture:
        if entry.source in documents:
            own = documents[entry.source]
            members = in_bucket(own.duplicates, entry.bucket)
            targets = own.targets if phase.mixing.weigh is Weigh.TARGETS else own.lengths
            sizes = (values if members is None else values[members] for values in (own.lengths, targets))
            available[entry.source, entry.bucket] = Available(*(int(size.sum()) for size in sizes))
    return plan_mixture(phase, available)


def in_bucket(duplicates: NDArray[np.int32], bucket: str) -> NDArray[np.int64] | None:
    """The documents whose count of copies lies in `bucket`; None = all of them."""
    if not bucket:
        return None
    low, high = bucket_range(bucket)
    return np.flatnonzero((duplicates >= low) & (duplicates <= high))


def _source(portion: Portion, plan: MixturePlan, own: Documents, counts: Mapping[str, Any]) -> Source:
    entry, mixing, domain = portion.entry, plan.phase.mixing, counts["train"][portion.entry.source]["domain"]
    assert portion.share is not None and portion.tokens is not None, "sizes are known"
    return Source(
        name=entry.name,
        share=portion.share,
        lengths=own.lengths,
        natural=domain in NATURAL_DOMAINS,
        source=entry.source,
        domain=domain,
        members=in_bucket(own.duplicates, entry.bucket),
        counted=own.targets if entry.weight and mixing.weigh is Weigh.TARGETS else None,
        least=portion.tokens if portion.pinned else 0.0,
        most=math.inf if entry.weight else portion.tokens,
        passes=mixing.passes,
    )


def draw(source: Source, tokens: float, seed: int) -> NDArray[np.int64]:
    """Documents of `source`, in order, whose lengths come nearest to `tokens` in all (at least one).

    What one pass takes stays within `least` and `most` and is repeated for each pass.
    """
    lengths = source.drawable(source.lengths)
    counted = lengths if source.counted is None else source.drawable(source.counted)
    left = min(max(tokens / source.passes, source.least), source.most) * (float(counted.sum()) / float(lengths.sum()))
    drawn: list[NDArray[np.int64]] = []
    for epoch in itertools.count():
        order = generator(seed, "epoch", source.name, epoch).permutation(len(lengths))
        sums = np.cumsum(counted[order])
        if sums[-1] < left:
            drawn.append(order)
            left -= float(sums[-1])
            continue
        last = int(np.searchsorted(sums, left))
        overshoots = sums[last] - left > left - (sums[last - 1] if last else 0)
        drawn.append(order[: last + (0 if overshoots else 1)])
        break
    documents = np.concatenate(drawn)
    documents = documents if len(documents) else order[:1]
    return np.tile(documents if source.members is None else source.members[documents], source.passes)


def drawable_lengths(own: Documents, entry: MixtureEntry) -> NDArray[np.int64]:
    """The lengths of the documents that `entry` may draw."""
    members = in_bucket(own.duplicates, entry.bucket)
    return own.lengths if members is None else own.lengths[members]


def short_share(portions: Iterable[tuple[float, NDArray[np.int64]]], short_tokens: int) -> float:
    """The part of the tokens that comes from documents of at most `short_tokens` tokens.

    `portions`: the share of each entry, and the lengths of the documents it draws from.
    """
    return sum(
        share * float(lengths[lengths <= short_tokens].sum()) / float(lengths.sum()) for share, lengths in portions
    )


def check_short(phase: PhaseConfig, share: float) -> None:
    """Raise MixtureError, saying by how much, when `share` misses the rule of the phase on short documents."""
    if phase.mixing.short_tokens and share < phase.mixing.min_short:
        raise MixtureError(short_problem(phase, share))


def short_context(phase: PhaseConfig, sources: Sequence[Source], real: float) -> dict[str, float] | None:
    """What `composition.json` says of short documents; `real` is measured in the rows. None without a rule.

    Raises MixtureError when the rows themselves miss the rule.
    """
    mixing = phase.mixing
    if not mixing.short_tokens:
        return None
    check_short(phase, real)
    wanted = _short_wanted(phase, sources)
    return {"tokens": mixing.short_tokens, "least": mixing.min_short, "wanted": wanted, "real": real}


def _short_wanted(phase: PhaseConfig, sources: Sequence[Source]) -> float:
    return short_share(((s.share, s.drawable(s.lengths)) for s in sources), phase.mixing.short_tokens)


def generator(seed: int, *parts: str | int) -> np.random.Generator:
    """A random generator that is a function of `seed` and `parts` alone, on any machine."""
    text = "\0".join(str(part) for part in (seed, *parts))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:16], "little"))
