"""How a score's name reads to a person: its group, its family and the mode it was asked in.

The names are those of `k2model.evals` (`arithmetic/think`, `retrieval/256@new_theta`). A name of an
unknown family is shown under its own name in the group "Other", never left out.
"""

from dataclasses import dataclass

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
