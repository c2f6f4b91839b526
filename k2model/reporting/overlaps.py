"""Scores beside their overlap: which share of the items asked some training document overlaps with.

The overlap is the corpus's, counted by its curation (`curation.json`) for every family of items; it does not depend on
the model, so it is put beside the scores when they are read and is no part of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from k2model.reporting.scores import ScoreRow

#: Where a score's items are not of the family that its name begins with.
_FAMILY_OF_SCORE = {
    "facts/seen_wording": "facts_seen",
    "facts/heldout_wording": "facts_heldout",
    "facts/chat_seen": "facts_chat_seen",
    "facts/chat_heldout": "facts_chat_heldout",
}


def with_overlap(rows: Iterable[ScoreRow], curation: Mapping[str, Any]) -> list[ScoreRow]:
    """The rows with their overlap; losses, and families that the corpus has no items of, have none."""
    families = curation["decontamination"]["families"]
    return [replace(row, overlap=_overlap(row.score, families)) for row in rows]


def _overlap(score: str, families: Mapping[str, Mapping[str, Any]]) -> float | None:
    plain = score.partition("@")[0]
    entry = families.get(_FAMILY_OF_SCORE.get(plain, plain.partition("/")[0]))
    return round(entry["overlapping"] / entry["items"], 4) if entry else None
