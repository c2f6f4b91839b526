"""How far a corpus has moved from its previous version, from the statistics of both.

The measure is the population stability index: over the bins of a distribution with shares p (this
version) and q (the previous one), PSI = sum (p - q) ln(p / q), the symmetrised Kullback-Leibler
divergence (Jeffreys 1946). Below 0.1 nothing has changed, 0.1 to 0.25 is a change to look at, above it
the population is another one: the rule of thumb of Siddiqi, "Credit Risk Scorecards", 2006, chapter 9,
after Lewis, 1994. Meaning is not compared, only lengths, origins and characters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any

FLOOR = 1e-4  # least share of a bin: a bin that one version lacks would be infinitely far

#: Feature -> where its amounts are in the statistics of a side, and which amount is shared out.
FEATURES = {
    "length": ("lengths", "histogram"),
    "source": ("by_source", "bytes"),
    "domain": ("by_domain", "bytes"),
    "licence": ("by_licence", "bytes"),
    "duplicates": ("by_duplicates", "text_bytes"),
    "characters": ("character_classes", ""),
}


@dataclass(frozen=True)
class Drift:
    """One feature: its index and the bin that contributes most, with its shares then and now."""

    feature: str
    psi: float
    bin: str
    before: float
    after: float


def drift(statistics: Mapping[str, Any], previous: Mapping[str, Any]) -> list[Drift]:
    """Of the training documents of two `statistics.json`, a row for each of `FEATURES`."""
    return [
        population_stability(feature, _amounts(statistics["train"], feature), _amounts(previous["train"], feature))
        for feature in FEATURES
    ]


def population_stability(feature: str, now: Mapping[str, float], before: Mapping[str, float]) -> Drift:
    """PSI over the bins of both; shares below `FLOOR` count as it. Nothing on a side has drifted nowhere."""
    names = sorted(now.keys() | before.keys())
    total_now, total_before = sum(now.values()), sum(before.values())
    if not total_now or not total_before:
        return Drift(feature, 0.0, "", 0.0, 0.0)
    parts = {}
    for name in names:
        p, q = now.get(name, 0) / total_now, before.get(name, 0) / total_before
        parts[name] = (max(p, FLOOR) - max(q, FLOOR)) * log(max(p, FLOOR) / max(q, FLOOR))
    most = max(names, key=lambda name: parts[name])
    psi = round(sum(parts.values()), 12)
    return Drift(feature, psi, most, before.get(most, 0) / total_before, now.get(most, 0) / total_now)


def _amounts(side: Mapping[str, Any], feature: str) -> dict[str, float]:
    table, amount = FEATURES[feature]
    if table == "lengths":
        return dict(side[table][amount])
    return {name: one[amount] if amount else one for name, one in side[table].items()}
