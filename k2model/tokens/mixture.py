"""Drawing documents: which documents of each source a phase trains on, and how often.

Counts come straight from the shares: a source gives documents until its own share of the phase's tokens
is met, whatever the others give, so that a small family is never starved by a large one. A source is
walked in a seeded order and, when it is too small, again in another order: every document is seen
either n or n + 1 times. Where the documents land in rows is `k2model.tokens.packing`.
"""

import difflib
import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from k2model.recipe.schema import MixtureEntry
from k2model.tokens.errors import MixtureError

#: Sources of these domains are natural text: cutting one of their documents loses context, not an answer.
NATURAL_DOMAINS = ("prose", "code")


@dataclass(frozen=True)
class Source:
    """One source of a mixture: its wanted share of the tokens, and the length of each of its documents."""

    name: str
    share: float
    lengths: NDArray[np.int64]
    natural: bool

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())


def shares(mixture: tuple[MixtureEntry, ...], known: Collection[str], phase: str) -> dict[str, float]:
    """The share of tokens of each source with a positive weight; they sum to 1.

    Raises MixtureError for a source not in `known` (with the nearest name), one named twice, a negative
    weight, or a mixture without any weight. `phase` is named in the message.
    """
    weights: dict[str, float] = {}
    for entry in mixture:
        where = f"phases.{phase}.mixture.{entry.source}"
        if entry.source not in known:
            near = difflib.get_close_matches(entry.source, known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(sorted(known))}"
            raise MixtureError(f"{where}: the tokens hold no training source '{entry.source}'; {hint}")
        if entry.source in weights:
            raise MixtureError(f"{where}: named twice; give it one weight")
        if not entry.weight >= 0:
            raise MixtureError(f"{where}.weight={entry.weight} must not be negative")
        weights[entry.source] = entry.weight
    total = sum(weights.values())
    if not total > 0:
        raise MixtureError(f"phases.{phase}.mixture: no source has a positive weight")
    return {name: weight / total for name, weight in weights.items() if weight > 0}


def check_epochs(source: Source, tokens: int, max_epochs: float, phase: str) -> None:
    """Raise MixtureError when a phase of `tokens` tokens would repeat `source` more than `max_epochs` times."""
    where, want = f"phases.{phase}.mixture.{source.name}", source.share * tokens
    if not source.tokens:
        raise MixtureError(f"{where}: the source holds no tokens; raise corpus.sources.{source.name}.documents")
    epochs = want / source.tokens
    if epochs > max_epochs:
        raise MixtureError(
            f"{where}: {source.share:.2%} of the phase is {want:,.0f} tokens, {epochs:.1f} epochs of the "
            f"{source.tokens:,} there are and {epochs / max_epochs:.2f} times the {max_epochs:g} allowed; lower its "
            f"weight to at most {max_epochs * source.tokens / tokens:.2%} of the mixture, add documents or raise "
            "max_epochs"
        )


def draw(source: Source, tokens: float, seed: int) -> NDArray[np.int64]:
    """Documents of `source`, in order, whose lengths come nearest to `tokens` in all (at least one)."""
    drawn: list[NDArray[np.int64]] = []
    left = tokens
    for order in _epochs(source, seed):
        sums = np.cumsum(source.lengths[order])
        if sums[-1] < left:
            drawn.append(order)
            left -= float(sums[-1])
            continue
        last = int(np.searchsorted(sums, left))
        overshoots = sums[last] - left > left - (sums[last - 1] if last else 0)
        drawn.append(order[: last + (0 if overshoots else 1)])
        break
    documents = np.concatenate(drawn)
    return documents if len(documents) else order[:1]


def generator(seed: int, *parts: str | int) -> np.random.Generator:
    """A random generator that is a function of `seed` and `parts` alone, on any machine."""
    text = "\0".join(str(part) for part in (seed, *parts))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:16], "little"))


def _epochs(source: Source, seed: int) -> Iterator[NDArray[np.int64]]:
    epoch = 0
    while True:
        yield generator(seed, "epoch", source.name, epoch).permutation(len(source.lengths))
        epoch += 1
