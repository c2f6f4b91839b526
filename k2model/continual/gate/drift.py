"""How far a batch is from what the champion was trained on: population stability indices of lengths, scripts and words.

The index is that of `k2model.validation.documents.tables` (its source is named there): over the bins of a feature with
shares p in the batch and q in what is known, sum (p - q) ln(p / q). The bins:

    lengths      of documents, powers of two of characters
    characters   by script, and digits, spaces, signs
    words        those known from the most to the least frequent, cut into ten bins of equal mass as a scorecard's bands
                 are (Siddiqi, "Credit Risk Scorecards", 2006, chapter 9); and the rare ones, which are known once or
                 not at all: among the next words of what is known their share is Good's estimate (Biometrika 40, 1953),
                 (n1 + 2 n2) / N of n1 words known once, n2 known twice and N in all

Small samples are apart by chance: two draws of n and m documents from one population are expected at (bins - 1)(1/n +
1/m) of each other (Yurdakul, "Statistical properties of population stability index", 2018). What is drawn are documents
and not words, so that is measured: halves of the batch are compared with each other, and what they are apart, in the
batch's size, is taken off.

A batch is compared with its domain as a whole and with each of the domain's sources, and the nearest counts: more of
one source is no drift of the domain. Of a domain that the line does not have there is nothing to compare with.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from k2model.continual.gate.profile import Profile, profile
from k2model.continual.gate.reading import Read
from k2model.validation.documents.tables import population_stability

FEATURES = ("lengths", "characters", "words")
BANDS = 10  # of known words
SPLITS = 8  # seeded, of the batch into halves
RARE = "rare words"


@dataclass(frozen=True)
class Moved:
    """A domain of the batch against the nearest of what is known of it. feature: that is furthest, `psi` less what
    `chance` explains; bin: that contributes most, with its shares before and after. nearest: a source, or the domain;
    "" where the line has nothing of it."""

    domain: str
    documents: int
    nearest: str = ""
    feature: str = ""
    psi: float = 0.0
    chance: float = 0.0
    bin: str = ""
    before: float = 0.0
    after: float = 0.0

    @property
    def told(self) -> str:
        if not self.nearest:
            return f"{self.domain or 'no'} domain is one that the line does not have"
        return (
            f"{self.feature} of {self.domain} are {self.psi:.2f} from {self.nearest}'s, most in '{self.bin}': "
            f"{self.before:.1%} there, {self.after:.1%} here"
        )


def moved(documents: Sequence[Read], known: Mapping[str, Profile]) -> list[Moved]:
    """A row for each domain of the documents, in order; `known` by source."""
    by_domain: dict[str, list[Read]] = {}
    for one in documents:
        by_domain.setdefault(one.domain, []).append(one)
    return [_nearest(domain, own, _references(domain, known)) for domain, own in sorted(by_domain.items())]


def _references(domain: str, known: Mapping[str, Profile]) -> dict[str, Profile]:
    own = {name: one for name, one in sorted(known.items()) if one.domain == domain and one.documents}
    if len(own) < 2:
        return own
    whole = Profile(domain)
    for one in own.values():
        whole.add(one)
    return {f"all of {domain}": whole, **own}


def _nearest(domain: str, documents: list[Read], references: Mapping[str, Profile]) -> Moved:
    if not references:
        return Moved(domain, len(documents))
    halves = [_halves(documents, split) for split in range(SPLITS)] if len(documents) > 1 else []
    own = profile(documents)
    found = [_from(domain, own, halves, name, reference) for name, reference in references.items()]
    return min(found, key=lambda one: one.psi)


def _halves(documents: list[Read], seed: int) -> tuple[Profile, Profile]:
    order = np.random.default_rng(seed).permutation(len(documents))
    first, second = ([documents[index] for index in order[start::2]] for start in range(2))
    return profile(first), profile(second)


def _from(domain: str, own: Profile, halves: Sequence[tuple[Profile, Profile]], name: str, reference: Profile) -> Moved:
    rows = []
    for feature in FEATURES:
        known = _Words(reference) if feature == "words" else None

        def binned(one: Profile, feature: str = feature, known: "_Words | None" = known) -> Counter[str]:
            return known.binned(one) if known else getattr(one, feature)

        before = known.expected if known else binned(reference)
        bins = {*before, *binned(own)}
        found = population_stability(
            feature, _smoothed(binned(own), bins, own.documents), _smoothed(before, bins, reference.documents)
        )
        pairs = [[_smoothed(binned(one), bins, one.documents) for one in two] for two in halves]
        apart = [population_stability(feature, *two).psi for two in pairs]
        # Halves have n/2 documents each, so they are 4/n apart by chance where the batch and what is known are
        # 1/n + 1/m.
        chance = float(np.mean(apart)) / 4 * (1 + own.documents / reference.documents) if apart else 0.0
        psi = round(max(0.0, found.psi - chance), 6)
        rows.append(
            Moved(domain, own.documents, name, feature, psi, round(chance, 6), found.bin, found.before, found.after)
        )
    return max(rows, key=lambda one: one.psi)


def _smoothed(amounts: Mapping[str, float], bins: Iterable[str], documents: int) -> dict[str, float]:
    """With half a document's amount more in every bin: a bin that a few documents lack is not infinitely rare."""
    more = sum(amounts.values()) / (2 * documents)
    return {name: amounts.get(name, 0) + more for name in bins}


class _Words:
    """The bands of the words of a profile."""

    def __init__(self, reference: Profile):
        self._band: dict[int, str] = {}
        self.expected: dict[str, float] = {}
        counts = Counter(reference.words.values())
        rare = min(1.0, (counts[1] + 2 * counts[2]) / max(1, reference.mass))
        often = sorted((one for one in reference.words.items() if one[1] > 1), key=lambda one: (-one[1], one[0]))
        total, before = sum(count for _, count in often), 0
        for word, count in often:
            band = f"words {min(BANDS, 1 + BANDS * before // total)}"
            self._band[word] = band
            self.expected[band] = self.expected.get(band, 0.0) + count / total * (1 - rare)
            before += count
        self.expected[RARE] = rare

    def binned(self, one: Profile) -> Counter[str]:
        found: Counter[str] = Counter()
        for word, count in one.words.items():
            found[self._band.get(word, RARE)] += count
        return found
