"""Scores as a reader sees them: names in groups and their order, the overlap of their items, a table as CSV.

Names are those of `k2model.recipe.tasks` (`arithmetic/think`, `retrieval/256@new_theta`). A recipe's own benchmark is
shown under its own name in the group that its row says. Values are shown as measured; no score is averaged, weighted
or left out.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from k2model.evals.scores import ScoreRow
from k2model.recipe.tasks import FAMILIES, LOSS, TASKS

LOSSES = "Held-out loss"
GROUPS = ("Knowledge", "Mathematics", "Logic", "Language", "Code", "Long context", "Tools", LOSSES, "Other")

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

#: The items that a score is measured on, as the tally of decontamination names them.
_ITEMS = {score: task.items for task in TASKS for score in task.scores}


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
        return FAMILIES[self.family].title if self.family in FAMILIES else self.family

    @property
    def mode_title(self) -> str:
        if self.mode.isdigit():
            return f"{self.mode} tokens"
        return _MODE_TITLES.get(self.mode, self.mode.replace("_", " "))

    @property
    def title(self) -> str:
        return f"{self.family_title}, {self.mode_title}" if self.mode else self.family_title


def parse(name: str, group: str | None = None) -> ScoreName:
    """`retrieval/256@new_theta` -> group Long context, family retrieval, mode 256, variant new_theta.

    `group`: what the row of the score says, for one that is not of the project's own families.
    """
    plain, _, variant = name.partition("@")
    family, _, mode = plain.partition("/")
    known = FAMILIES[family].group if family in FAMILIES else LOSSES if family == LOSS else "Other"
    return ScoreName(name, group or known, family, mode, variant)


def order_key(name: str, group: str | None = None) -> tuple[float, str, str, int, int, str]:
    """Sorts scores by group (a recipe's own before the losses), family, then mode in the order a reader expects
    (lengths by number)."""
    parsed = parse(name, group)
    place = GROUPS.index(parsed.group) if parsed.group in GROUPS else GROUPS.index(LOSSES) - 0.5
    mode = _MODE_ORDER.index(parsed.mode) if parsed.mode in _MODE_ORDER else len(_MODE_ORDER)
    length = int(parsed.mode) if parsed.mode.isdigit() else 0
    return place, parsed.group, parsed.family, length, mode, name


def score_order(rows: Iterable[ScoreRow]) -> dict[str, str | None]:
    """The scores of the rows in reading order, each with the group that its row says."""
    groups = {row.score: row.group for row in rows}
    return {score: groups[score] for score in sorted(groups, key=lambda score: order_key(score, groups[score]))}


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
    family = plain.partition("/")[0]
    entry = families.get(_ITEMS.get(plain, family if family in FAMILIES else plain))
    return round(entry["overlapping"] / entry["items"], 4) if entry else None
