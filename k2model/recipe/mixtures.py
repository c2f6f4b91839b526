"""Buckets of duplicate counts: K2 sets web text that was found once, twice or a thousand times apart.

A document stands for as many copies as deduplication found of it; K2's lists give each range of that
count its own number of epochs. Several buckets that follow each other can be named as one (`2+` is
K2's "others"). How copies are found and counted is curation.

What the entries of a mixture come to in tokens: K2's arithmetic, apart from any document.

A mixture is a *list* of portions that a phase goes through `passes` times. Copies and, beside weights,
epochs are *pinned*: taken whole, whatever else. The others share what room is left, in proportion. So a
list of weights fits its phase by construction; one of epochs has a size of its own, of which the phase
takes a part (K2's pre-training list holds 12.488T tokens, of which 98% were trained on). What is not
known (sizes of sources that are not at hand) stays None. What is wrong with a list is said by
`k2model.recipe.mixture_problems`, documents are drawn by `k2model.tokens.mixture`.

Sources of the arithmetic: `tools/calc_dataset_weights.py` (tokens x epochs) and the mixing script in
`sft/` (fractions of `target_tokens`, negative weights as whole copies) of LLM360/k2v2_train.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from k2model.errors import nearest
from k2model.recipe.schema import MixingConfig, MixtureEntry, PhaseConfig, Recipe, Weigh

#: K2's buckets, ascending; the last has no upper end.
BUCKETS = ("1-1", "2-5", "6-10", "11-100", "101-1000", "1001+")
UNBOUNDED = 2**31 - 1  # the largest count that the column `duplicates` (int32) can hold


def bucket_range(bucket: str) -> tuple[int, int]:
    """The smallest and the largest count in `bucket`; "" is all of them.

    Raises ValueError, with the nearest name, for what is no run of K2's buckets.
    """
    if not bucket:
        return 1, UNBOUNDED
    low, plus, rest = bucket.partition("+")
    first, _, last = low.partition("-")
    ends = first if plus else last
    if first.isdecimal() and ends.isdecimal() and not rest and not (plus and last):
        span = int(first), UNBOUNDED if plus else int(last)
        if span[0] in _LOWS and span[1] in _HIGHS and span[0] <= span[1]:
            return span
    raise ValueError(
        f"'{bucket}' is no bucket of duplicate counts; {nearest(bucket, BUCKETS)}; those that follow each other can be "
        "taken together, as in '2+' or '2-100'"
    )


def bucket(count: int) -> str:
    """The bucket of a duplicate count of at least 1."""
    return next(name for name in BUCKETS if count <= bucket_range(name)[1])


def overlap(one: str, other: str) -> bool:
    """Whether a document can be in both buckets."""
    (low, high), (other_low, other_high) = bucket_range(one), bucket_range(other)
    return low <= other_high and other_low <= high


_LOWS = {int(name.partition("-")[0].rstrip("+")) for name in BUCKETS}
_HIGHS = {int(name.partition("-")[2]) for name in BUCKETS if "-" in name} | {UNBOUNDED}


KINDS = ("weight", "epochs", "copies")  # of amounts; the first that a mixture has is the flexible one


@dataclass(frozen=True)
class Available:
    """What there is of a source or of one bucket of it: tokens, and how many of them are targets."""

    tokens: int
    targets: int = 0


@dataclass(frozen=True)
class Portion:
    """One entry's part in the list.

    `fraction`: of what the weights share out, as the recipe states it (None for epochs and copies). `tokens`: in
    one pass of the list. `share`: of all tokens that the phase trains on. None = cannot be known.
    """

    entry: MixtureEntry
    available: Available | None
    pinned: bool
    fraction: float | None
    tokens: float | None
    share: float | None

    @property
    def epochs(self) -> float | None:
        """How often one pass of the list repeats the source; epochs and copies are known by themselves."""
        if self.entry.epochs or self.entry.copies:
            return self.entry.epochs or float(self.entry.copies)
        return self.tokens / self.available.tokens if self.available and self.tokens is not None else None


@dataclass(frozen=True)
class MixturePlan:
    """The list of one phase. `room`: tokens that the phase trains on in one pass."""

    phase: PhaseConfig
    portions: tuple[Portion, ...]
    room: float

    @property
    def raw(self) -> int | None:
        """Tokens of all sources, each counted once."""
        known = [portion.available for portion in self.portions]
        return sum(a.tokens for a in known if a) if all(known) and known else None

    @property
    def weighted(self) -> float | None:
        """Tokens of the list: sources times their epochs."""
        return _sum(portion.tokens for portion in self.portions) if self.portions else None

    @property
    def consumed(self) -> float | None:
        """The part of the list that the phase trains on in one pass."""
        return self.room / self.weighted if self.weighted else None


def known_sizes(recipe: Recipe) -> dict[tuple[str, str], Available]:
    """What the recipe's facts say there is of each (source, bucket)."""
    return {(fact.source, fact.bucket): Available(fact.tokens) for fact in recipe.facts if fact.tokens}


def plan_mixture(phase: PhaseConfig, available: Mapping[tuple[str, str], Available]) -> MixturePlan:
    """The list of `phase`, given what there is of (source, bucket); a missing key is an unknown size.

    Raises nothing: what is wrong with a list is for `k2model.recipe.mixture_problems` to say.
    """
    room = phase.tokens / phase.mixing.passes
    return MixturePlan(phase, tuple(portions(phase.mixture, room, available, phase.mixing)), room)


def portions(
    mixture: Sequence[MixtureEntry],
    room: float,
    available: Mapping[tuple[str, str], Available],
    mixing: MixingConfig = MixingConfig(),
) -> list[Portion]:
    """The portion of each entry that takes anything, for a phase that trains on `room` tokens in one pass."""
    entries = [entry for entry in mixture if entry.weight or entry.epochs or entry.copies]
    stock = [available.get((entry.source, entry.bucket)) for entry in entries]
    amounts = [_amount(entry, a, mixing.weigh) for entry, a in zip(entries, stock, strict=True)]
    flexible = next((kind for kind in KINDS if any(getattr(entry, kind) for entry in entries)), "")
    pinned = [not getattr(entry, flexible) for entry in entries]
    pinned_tokens = _sum(amount for amount, pin in zip(amounts, pinned, strict=True) if pin)
    rest = None if pinned_tokens is None else room - pinned_tokens
    together = _sum(amount for amount, pin in zip(amounts, pinned, strict=True) if not pin)
    total = sum(entry.weight for entry in entries)
    found = []
    for entry, a, amount, pin in zip(entries, stock, amounts, pinned, strict=True):
        part = amount / together if amount is not None and together and not pin else None
        share = None if part is None or rest is None else part * (rest / room)
        if pin and amount is not None:
            share = amount / room
        tokens = amount
        if entry.weight:
            tokens = _product(amount, mixing.target_tokens) if mixing.target_tokens else _product(part, rest)
        found.append(Portion(entry, a, pin, entry.weight / total if entry.weight else None, tokens, share))
    return found


def _amount(entry: MixtureEntry, available: Available | None, weigh: Weigh) -> float | None:
    """Tokens of an entry in epochs or copies; a weight in units of all tokens, of which `weigh` counts a part."""
    if entry.weight and weigh is Weigh.TOKENS:
        return entry.weight
    if available is None:
        return None
    if entry.weight:
        return entry.weight * available.tokens / available.targets if available.targets else None
    return available.tokens * (entry.epochs or float(entry.copies))


def _product(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one * other


def _sum(amounts: Iterable[float | None]) -> float | None:
    """The sum, or None when one of them is not known."""
    total = 0.0
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total
