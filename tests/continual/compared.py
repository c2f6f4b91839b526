"""Scores of two models with known differences, as artifacts of a real store."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from k2model.artifacts import ArtifactRef, Identity, Store
from k2model.continual.verdict.comparison import Side
from k2model.evals.items import ITEMS, Grade, ItemResult, write_items
from k2model.evals.scores import NATS, SCORES, by_score, row_of, write_scores

PHASE = "sft"


def answers(score: str, right: Sequence[int], clusters: Sequence[str] | None = None) -> list[ItemResult]:
    """An item for each of `right`, 1 where it is."""
    return [
        ItemResult(
            score, f"{score}-{i}", clusters[i] if clusters else f"{score}-{i}", f"{score} {i}?", "", str(one), "1",
            Grade.RIGHT if one else Grade.WRONG, float(one), tokens=3,
        )
        for i, one in enumerate(right)
    ]  # fmt: skip


def losses(score: str, nats: Sequence[float], tokens: int = 100) -> list[ItemResult]:
    """A document for each, of `tokens` targets; `nats` are those of a token."""
    return [
        ItemResult(score, f"d{i}", f"d{i}", "…", "", None, "", Grade.MEASURED, one * tokens, tokens=tokens)
        for i, one in enumerate(nats)
    ]


def scored(store: Store, model: str, results: Sequence[ItemResult], kind: str = "scores") -> ArtifactRef:
    """An artifact of these results, as the evaluation writes them."""
    rows = [
        row_of(PHASE, name, own, "Group", *([NATS] if name.startswith("loss/") else []))
        for name, own in by_score(results).items()
    ]  # fmt: skip

    def produce(folder: Path) -> dict[str, float]:
        write_scores(folder / SCORES, rows)
        write_items(folder / ITEMS, results)
        return {row.score: row.value for row in rows}

    return store.build(Identity(kind, "1", {"model": model, "scores": sorted(by_score(results))}, {}), produce)


def side(
    store: Store,
    name: str,
    right: dict[str, Sequence[int]],
    known: dict[str, Sequence[float]] | None = None,
    new: dict[str, Sequence[float]] | None = None,
    safety: ArtifactRef | None = None,
) -> Side:
    """right: by score. known, new: nats a token of each document, by domain, of old and of new documents."""
    results = [one for score, those in right.items() for one in answers(score, those)]
    cells = {
        (f"loss/{domain}", ""): scored(store, name, losses(f"loss/{domain}", those), "score")
        for domain, those in (known or {}).items()
    }
    cells |= {
        (f"loss/{domain}@new", "monday"): scored(store, f"{name} new", losses(f"loss/{domain}", those), "score")
        for domain, those in (new or {}).items()
    }
    return Side(name, scored(store, name, results), cells, safety)


def flips(n: int, right: int, gained: int, lost: int) -> tuple[list[int], list[int]]:
    """Champion and challenger: `right` of `n` are the champion's; the challenger loses and gains so many."""
    first = [1] * right + [0] * (n - right)
    second = [0] * lost + [1] * (right - lost) + [1] * gained + [0] * (n - right - gained)
    return first, second


def nats(mean: float, n: int, seed: int, shift: float = 0.0) -> list[float]:
    """The same documents for the same seed; the challenger's are shifted, and a little noisy."""
    hard = np.random.default_rng(seed).normal(mean, 0.3, n)
    noise = np.random.default_rng(seed + 1).normal(0, 0.02, n) if shift else 0.0
    return [float(one) for one in hard + shift + noise]
