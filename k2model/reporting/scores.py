"""Scores as a reader sees them: names in groups and their order, the overlap of their items, a table as CSV.

Names are those of `k2model.evals` (`arithmetic/think`, `retrieval/256@new_theta`). A name of an unknown family is
shown under its own name in the group "Other", never left out. Values are shown as measured; no score is averaged,
weighted or left out.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from k2model.evals.scores import ScoreRow

GROUPS = ("Knowledge", "Mathematics", "Logic", "Language", "Code", "Long context", "Tools", "Held-out loss", "Other")

_GROUP_OF_FAMILY = {
    "facts": "Knowledge",
    "arithmetic": "Mathematics",
    "countdown": "Mathematics",
    "knights": "Logic",
    "spelling": "Language",
    "code": "Code",
    "retrieval": "Long context",
    "tools": "Tools",
    "loss": "Held-out loss",
}

_FAMILY_TITLES = {"arithmetic": "Arithmetic", "countdown": "Countdown", "knights": "Knights & Knaves"}

_MODE_TITLES = {
    "think": "with trace",
    "direct": "answer only",
    "low": "low effort",
    "medium": "medium effort",
    "high": "high effort",
    "seen_wording": "trained wording",
    "heldout_wording": "unseen wording",
    "chat_seen": "chat, trained wording",
    "chat_heldout": "chat, unseen wording",
    "next_line": "next line, 1 of 4",
    "well_formed": "JSON well formed",
    "exact": "call exactly right",
    "result": "result right",
}

EFFORTS = ("low", "medium", "high")

# What a chat score continues: a model asked for high effort is asked for a trace, at low effort for none.
CONTINUES = {"high": "think", "low": "direct"}
_MODE_ORDER = list(_MODE_TITLES)

#: Where a score's items are not of the family that its name begins with.
_FAMILY_OF_SCORE = {
    "facts/seen_wording": "facts_seen",
    "facts/heldout_wording": "facts_heldout",
    "facts/chat_seen": "facts_chat_seen",
    "facts/chat_heldout": "facts_chat_heldout",
}


@dataclass(frozen=True)
class ScoreName:
    """`variant` is what follows `@` ("" for a plain score): the weights or theta it was measured with."""

    raw: str
    group: str
    family: str
    mode: str
    variant: str = ""

    @property
    def family_title(self) -> str:
        return _FAMILY_TITLES.get(self.family, self.family.replace("_", " ").capitalize())

    @property
    def mode_title(self) -> str:
        if self.family == "retrieval":
            return f"{self.mode} tokens"
        return _MODE_TITLES.get(self.mode, self.mode.replace("_", " "))

    @property
    def title(self) -> str:
        return f"{self.family_title}, {self.mode_title}" if self.mode else self.family_title


def parse(name: str) -> ScoreName:
    """`retrieval/256@new_theta` -> group Long context, family retrieval, mode 256, variant new_theta."""
    plain, _, variant = name.partition("@")
    family, _, mode = plain.partition("/")
    return ScoreName(name, _GROUP_OF_FAMILY.get(family, "Other"), family, mode, variant)


def order_key(name: str) -> tuple[int, str, int, int, str]:
    """Sorts scores by group, family, then mode in the order a reader expects (lengths by number)."""
    parsed = parse(name)
    mode = _MODE_ORDER.index(parsed.mode) if parsed.mode in _MODE_ORDER else len(_MODE_ORDER)
    length = int(parsed.mode) if parsed.mode.isdigit() else 0
    return GROUPS.index(parsed.group), parsed.family, length, mode, name


def score_order(names: Iterable[str]) -> list[str]:
    """The distinct score names in reading order."""
    return sorted(set(names), key=order_key)


def scores_csv(rows: Iterable[ScoreRow]) -> str:
    """The rows as CSV with a header, one line a measurement; empty cells for what does not apply."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=[f.name for f in fields(ScoreRow)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if value is None else value for name, value in asdict(row).items()})
    return out.getvalue()


def with_overlap(rows: Iterable[ScoreRow], curation: Mapping[str, Any]) -> list[ScoreRow]:
    """The rows with their overlap; losses, and families that the corpus has no items of, have none."""
    families = curation["decontamination"]["families"]
    return [replace(row, overlap=_overlap(row.score, families)) for row in rows]


def _overlap(score: str, families: Mapping[str, Mapping[str, Any]]) -> float | None:
    plain = score.partition("@")[0]
    entry = families.get(_FAMILY_OF_SCORE.get(plain, plain.partition("/")[0]))
    return round(entry["overlapping"] / entry["items"], 4) if entry else None
