"""The kinds of entries of a ledger. What they add up to is `k2model.continual.fold`.

An entry holds all that follows from it, so that a state can be told without a recipe or an artifact.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from k2model.artifacts import ArtifactRef
from k2model.continual.state import (
    Annealed,
    Batch,
    Began,
    Checked,
    Corpus,
    Ended,
    Judged,
    Model,
    Outcome,
    Standing,
    State,
)
from k2model.errors import K2Error, nearest
from k2model.plain import from_plain


class Contradiction(K2Error):
    """An entry does not fit what the ledger says so far."""


@dataclass(frozen=True)
class Start:
    """Turns go on from the model of a lifecycle that is the champion, and what that was trained on."""

    model: Model
    corpus: Corpus


@dataclass(frozen=True)
class Arrival:
    """What the gate decided of a batch: its `standing` is waiting, refused or quarantined. One that was turned away may
    arrive again, when it was mended or accepted by a person; what waits or was taken may not."""

    kickoff: str
    batch: Batch


@dataclass(frozen=True)
class TurnBegan:
    began: Began


@dataclass(frozen=True)
class Becomes:
    """What becomes of a batch when its turn ends."""

    standing: Standing
    reason: str
    tries: int


@dataclass(frozen=True)
class TurnEnded:
    """becomes: of each of the turn's batches (`ending`)."""

    ended: Ended
    becomes: Mapping[str, Becomes] = field(default_factory=dict)


@dataclass(frozen=True)
class Canary:
    """A promoted model was looked at on items that no decision was made on, and stays. One that fails is no such entry,
    but a rollback: one entry, so that nobody can be killed between the two."""

    turn: int  # that made the model
    kickoff: str
    reason: str
    passed: bool = True
    evidence: ArtifactRef | None = None


CANARY = "canary"  # who rolls a champion back that its canary found wanting


@dataclass(frozen=True)
class Promote:
    """A person says yes to a held turn. gates: on the challenger's artifacts, as they are then; one that is `waived` is
    let pass by this person, for this reason."""

    turn: int
    reason: str = ""
    who: str = ""
    gates: tuple[Checked, ...] = ()


@dataclass(frozen=True)
class Rollback:
    """The champion of turn `to` stands again, and what came after it is undone: its batches are set aside, held turns
    are refused, an open one is given up and its batches wait on. To the champion that stands: only the latter two.
    who: `CANARY`, or the person. evidence: what a canary measured."""

    to: int
    reason: str
    who: str = ""
    kickoff: str = ""
    evidence: ArtifactRef | None = None


@dataclass(frozen=True)
class Retry:
    """A person brings a batch back that was set aside."""

    batch: str
    reason: str = ""
    who: str = ""


@dataclass(frozen=True)
class Accept:
    """A person has looked at a batch that the gate turned away, and accepts that it fails these `checks`: they are
    measured again and no longer decide. What is found beside them does. It holds for the data as they are: a batch
    that is written again is judged as a new one."""

    batch: str
    checks: tuple[str, ...]
    reason: str
    who: str = ""


Content = Start | Arrival | TurnBegan | TurnEnded | Canary | Promote | Rollback | Retry | Accept | Annealed | Judged
KINDS: dict[str, type[Content]] = {
    "start": Start,
    "arrival": Arrival,
    "turn_began": TurnBegan,
    "turn_ended": TurnEnded,
    CANARY: Canary,
    "promote": Promote,
    "rollback": Rollback,
    "retry": Retry,
    "accept": Accept,
    "annealed": Annealed,
    "judged": Judged,
}
#: Checks of the gate that nobody can accept: there would be nothing to train on, or nobody knows what it is.
BINDING = ("unchanged", "not empty", "data of its own", "documents left", "account", "corpus")
ARRIVED = (Standing.WAITING, Standing.REFUSED, Standing.QUARANTINED)
TURNED_AWAY = (Standing.REFUSED, Standing.QUARANTINED)


def content_of(kind: str, plain: Mapping[str, Any], store: str) -> Content:
    """What an entry of `kind` says. Raises NotPlain, Contradiction for a kind that is not known."""
    if kind not in KINDS:
        raise Contradiction(
            f"'{kind}' is no kind of entry that this version of the project knows; {nearest(kind, [*KINDS])}. A later "
            "one may have written it: go on with that"
        )
    return from_plain(KINDS[kind], plain, store)


def ending(state: State, ended: Ended, max_tries: int) -> TurnEnded:
    """The content of a `turn_ended` entry. Batches of a promoted turn are taken; of a refused one they wait on, or are
    set aside after `max_tries` turns; of a held one they stay with it."""
    becomes = {}
    for name in ended.batches:
        tries = state.batches[name].tries + (ended.outcome is Outcome.REFUSED)
        if ended.outcome is Outcome.PROMOTED:
            becomes[name] = Becomes(Standing.TAKEN, f"turn {ended.turn} was promoted", tries)
        elif ended.outcome is Outcome.HELD:
            becomes[name] = Becomes(Standing.WAITING, f"turn {ended.turn} waits for a person", tries)
        elif tries >= max_tries:
            said = f"turn {ended.turn} was refused, try {tries} of {max_tries}: {ended.reason}"
            becomes[name] = Becomes(Standing.SET_ASIDE, said, tries)
        else:
            said = f"turn {ended.turn} was refused, try {tries} of {max_tries}"
            becomes[name] = Becomes(Standing.WAITING, said, tries)
    return TurnEnded(ended, becomes)
