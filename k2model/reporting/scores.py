"""Scores as a reader sees them: names in groups and their order, the overlap of their items, a table as CSV.

Names are those of `k2model.recipe.tasks` (`arithmetic/think`, `retrieval/256@new_theta`). A recipe's own benchmark is
shown under its own name in the group that its row says. Values are shown as measured; no score is averaged, weighted
or left out.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace

from k2model.evals.clean_scores import CleanScore
from k2model.evals.scores import ScoreRow
from k2model.recipe.repeats import repeated_of
from k2model.recipe.safety import SAFETY
from k2model.recipe.tasks import FAMILIES, LOSS

LOSSES = "Held-out loss"
GROUPS = ("Knowledge", "Mathematics", "Logic", "Language", "Code", "Long context", "Tools", LOSSES, "Safety", "Other")

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


@dataclass(frozen=True)
class ScoreName:
    """`variant` is what follows `@` ("" for a plain score): the weights or theta it was measured with. `repeated`:
    what of several answers it is (`pass@8`), which its `mode` ends with; "" of their mean."""

    raw: str
    group: str
    family: str
    mode: str
    variant: str = ""
    repeated: str = ""

    @property
    def family_title(self) -> str:
        return FAMILIES[self.family].title if self.family in FAMILIES else self.family

    @property
    def mode_title(self) -> str:
        if self.mode.isdigit():
            return f"{self.mode} tokens"
        if self.repeated and self.repeated != self.mode:
            return f"{replace(self, mode=self.asked, repeated='').mode_title}, {self.repeated}"
        return _MODE_TITLES.get(self.mode, self.mode.replace("_", " "))

    @property
    def asked(self) -> str:
        """The mode without what of several answers it is."""
        return self.mode.removesuffix(self.repeated).rstrip("/")

    @property
    def title(self) -> str:
        return f"{self.family_title}, {self.mode_title}" if self.mode else self.family_title


def parse(name: str, group: str | None = None) -> ScoreName:
    """`retrieval/256@new_theta` -> group Long context, family retrieval, mode 256, variant new_theta.

    `group`: what the row of the score says, for one that is not of the project's own families.
    """
    named = repeated_of(name)
    plain, _, variant = (named.of if named else name).partition("@")
    family, _, mode = plain.partition("/")
    repeated = named.label if named else ""
    if repeated:
        mode = f"{mode}/{repeated}" if mode else repeated
    known = FAMILIES[family].group if family in FAMILIES else {LOSS: LOSSES, SAFETY: "Safety"}.get(family, "Other")
    return ScoreName(name, group or known, family, mode, variant, repeated)


def order_key(name: str, group: str | None = None) -> tuple[float, str, str, int, int, int, str]:
    """Sorts scores by group (a recipe's own before the losses), family, then mode in the order a reader expects
    (lengths and repeats by number)."""
    parsed, named = parse(name, group), repeated_of(name)
    place = GROUPS.index(parsed.group) if parsed.group in GROUPS else GROUPS.index(LOSSES) - 0.5
    mode = _MODE_ORDER.index(parsed.asked) if parsed.asked in _MODE_ORDER else len(_MODE_ORDER)
    length = int(parsed.mode) if parsed.mode.isdigit() else 0
    return place, parsed.group, parsed.family, length, mode, named.k if named else 0, name


def score_order(rows: Iterable[ScoreRow]) -> dict[str, str | None]:
    """The scores of the rows in reading order, each with the group that its row says."""
    groups = {row.score: row.group for row in rows}
    return {score: groups[score] for score in sorted(groups, key=lambda score: order_key(score, groups[score]))}


def scores_csv(rows: Iterable[ScoreRow], clean: Mapping[tuple[str, str], CleanScore]) -> str:
    """The rows as CSV with a header, one line a measurement; empty cells for what does not apply. `clean_...` are of
    the items that a phase had not seen."""
    out, known = io.StringIO(), ("clean_n", "value", "low", "high")
    clean_names = [f"clean_{name.removeprefix('clean_')}" for name in known]
    names = [*(f.name for f in fields(ScoreRow)), *clean_names]
    writer = csv.DictWriter(out, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        own = clean.get((row.phase, row.score))
        told = asdict(row) | {to: getattr(own, name) for to, name in zip(clean_names, known, strict=True) if own}
        writer.writerow({name: "" if value is None else value for name, value in told.items()})
    return out.getvalue()
