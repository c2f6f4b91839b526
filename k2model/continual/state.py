"""What the ledger of a line says, as types: corpora, models, batches, and the state that its entries add up to.

Everything here can be written as JSON and read back (`to_json`, `from_json` of the ledger), and none of it holds the
time of a clock but the `kickoff` that a schedule gave: two runs of one month give equal bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

from k2model.artifacts import ArtifactRef
from k2model.errors import K2Error
from k2model.recipe.continual import BatchKind


def moment(kickoff: str | datetime) -> datetime:
    """A kickoff as a time in UTC, which one without a zone is taken to be in. Raises K2Error for any other text."""
    try:
        read = datetime.fromisoformat(kickoff) if isinstance(kickoff, str) else kickoff
    except ValueError:
        raise K2Error(f"the kickoff {kickoff!r} is no time, expected ISO 8601, such as 2026-12-01T02:00:00Z") from None
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


class Standing(str, Enum):
    """What became of a batch."""

    WAITING = "waiting"  # it was accepted, no turn has taken it
    TAKEN = "taken"  # the champion, or a model before it, was trained on it
    REFUSED = "refused"  # empty, broken, a duplicate, too little that is new
    QUARANTINED = "quarantined"  # poisoned or contaminated, as far as evidence goes
    SET_ASIDE = "set aside"  # its turns were refused, or rolled back; `k2 inbox retry` brings it back
    REVIEWED = "reviewed"  # a person accepts what the gate said against it; the next arrivals judge it again


class Outcome(str, Enum):
    """How a turn ended."""

    IDLE = "idle"  # the guard found no reason to train
    PROMOTED = "promoted"
    REFUSED = "refused"
    HELD = "held"  # for a person
    ANNEALED = "annealed"  # no turn, but an anneal of the champion that is released in its place


@dataclass(frozen=True)
class Corpus:
    """Documents that a model was trained on or may be: of the lifecycle (`LIFECYCLE`), or of an accepted batch.

    clean: their signatures (kind `corpus_clean`), None where they are lost. valid: kind `corpus_valid`. tokens: kind
    `tokens`, in the line's tokenizer.
    """

    name: str
    clean: ArtifactRef | None
    valid: ArtifactRef
    tokens: ArtifactRef


LIFECYCLE = "lifecycle"  # the name of the corpus a line begins with
BASE, TUNED = "base", "tuned"  # begin the names of a model's artifacts


@dataclass(frozen=True)
class Model:
    """A whole model of a line: its fine-tuned weights, and the base that these were trained from.

    turn: that made it; 0 and below = the lifecycle that was promoted first, second, ... made: by name,
    `base/checkpoint`, `base/export`, `tuned/checkpoint`,
    `tuned/export`, `tuned/scores`, `tuned/safety` (where tested), `corpus_valid` and `tokens` (of all it was trained
    on, joined), `tokenizer`; base artifacts only where the line has a base. corpora: names of what it was trained on;
    none of a lifecycle's model that no turn has gone on from.
    seen: by `base` and `tuned`, the tokens of each source that the weights were trained on, since random initialisation
    for the base, in fine-tuning for the tuned. version: in MLflow, 0 = not registered.
    """

    turn: int
    made: Mapping[str, ArtifactRef]
    corpora: tuple[str, ...]
    seen: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    version: int = 0

    @property
    def name(self) -> str:
        return model_name(self.turn)


def model_name(turn: int) -> str:
    """What the model of a turn is called."""
    return f"turn {turn}" if turn > 0 else f"lifecycle {1 - turn}'s" if turn else "the lifecycle's"


def corpus_name(turn: int) -> str:
    """What the corpus of a lifecycle is called."""
    return f"{LIFECYCLE} {1 - turn}" if turn else LIFECYCLE  # no batch can be called so


WAIVABLE = ("provenance",)  # gates that a person may let pass


@dataclass(frozen=True)
class Checked:
    """A gate that a model was held to. said: what was found and what was asked. value: where that is a number, with its
    bounds. measured: whether it was looked at, which one that was not has not passed. waived: whether a person lets it
    pass all the same."""

    gate: str
    passed: bool
    said: str
    value: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    measured: bool = True
    waived: bool = False

    @property
    def stands(self) -> bool:
        """Whether nothing of it is in the way of a promotion."""
        return self.passed or self.waived

    @property
    def waivable(self) -> bool:
        """Whether a person may let it pass: it says nothing of what the model does."""
        return self.gate in WAIVABLE

    @property
    def waits(self) -> bool:
        """Whether a person can do something about it that was not passed: let it pass, or have it measured."""
        return not self.stands and (self.waivable or not self.measured)


@dataclass(frozen=True)
class Judged:
    """What came of a lifecycle's model at its gates: promoted, refused, or held for a person.

    model: its `turn` is the one that it has as a champion. champion: whose model it was compared with, None = it is the
    first of its line. verdict: the comparison. asked: fingerprint of what it was held to, so that the same is not
    decided twice. who, why: of the person who asked for it, or approved.
    """

    model: Model
    phase: str
    outcome: Outcome
    reason: str
    gates: tuple[Checked, ...]
    champion: int | None = None
    verdict: ArtifactRef | None = None
    asked: str = ""
    who: str = ""
    why: str = ""

    @property
    def name(self) -> str:
        """As commands name it: `sft@3`."""
        return f"{self.phase}@{self.model.version}"

    @property
    def digest(self) -> str:
        """Of its checkpoint."""
        return self.model.made[f"{TUNED}/checkpoint"].digest


@dataclass(frozen=True)
class Batch:
    """A batch as the ledger knows it. digest: of its manifest. tokens: that are valid and new (train split). tries:
    turns that were trained on it and not promoted. arrival: the artifact with the gate's findings. improves: scores
    that it is meant to raise. accepted: names of the gate's checks whose failing a person has accepted, of just these
    data (`digest`). losses: the artifact with what the champion said of it, where it was measured."""

    name: str
    kind: BatchKind
    digest: str
    standing: Standing
    reason: str = ""
    turn: int = 0  # that took it, or tried it last
    tries: int = 0
    late: bool = False  # it covers days before the last turn's kickoff
    tokens: int = 0
    corpus: Corpus | None = None
    arrival: ArtifactRef | None = None
    improves: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    losses: ArtifactRef | None = None


@dataclass(frozen=True)
class Began:
    """A turn that has begun: all it depends on, so that whoever finishes it does the same. One without batches is an
    anneal for a release, whose `turn` is the champion's own."""

    turn: int
    kickoff: str  # ISO 8601, UTC
    kind: BatchKind
    batches: tuple[str, ...]
    champion: int  # its turn

    @property
    def challenger(self) -> str:
        """What the model is called that comes of it."""
        return f"turn {self.turn}" if self.batches else f"{model_name(self.champion)}, annealed"


@dataclass(frozen=True)
class Ended:
    """A turn that has ended; verdict: the artifact of the comparison, None where nothing was trained. champion: the
    turn of the one that it was measured against; the ledger sets it. gates: on the challenger's artifacts, of one that
    the verdict speaks for; none of turns that ended before there were any."""

    turn: int
    kickoff: str
    outcome: Outcome
    reason: str
    batches: tuple[str, ...] = ()
    challenger: Model | None = None
    verdict: ArtifactRef | None = None
    trained_tokens: int = 0
    champion: int | None = None
    gates: tuple[Checked, ...] = ()

    @property
    def released(self) -> str:
        """What an anneal came to, in words."""
        if self.outcome is Outcome.ANNEALED:
            return "released in its champion's place"
        if any(not one.passed for one in self.gates):
            return "refused for its artifacts, and its champion is released as it stands"
        return "worse than its champion, which is released as it stands"


@dataclass(frozen=True)
class Annealed:
    """What came of the anneal of a champion: it is released in the champion's place, or was worse (`ended.outcome`).
    asked: fingerprint of what it was trained by and held to, so that other settings anneal anew."""

    began: Began
    ended: Ended
    asked: str


@dataclass(frozen=True)
class State:
    """What all entries of a line's ledger add up to.

    models: promoted ones by the turn that made them, rolled back ones too. champion: the turn of the one that stands.
    before: the turns of the champions before it, oldest first, that a rollback can go to. open: a turn that has begun
    and not ended. held: turns that wait for a person. turns: all that have ended, in order.
    """

    line: str
    entries: int = 0
    head: str = ""  # sha256 of the last entry
    models: Mapping[int, Model] = field(default_factory=dict)
    champion: int | None = None
    before: tuple[int, ...] = ()
    corpora: Mapping[str, Corpus] = field(default_factory=dict)
    batches: Mapping[str, Batch] = field(default_factory=dict)
    open: Began | None = None
    held: tuple[int, ...] = ()
    turns: tuple[Ended, ...] = ()
    canaries: Mapping[int, str] = field(default_factory=dict)  # by a model's turn, what its canary said
    anneals: Mapping[int, Annealed] = field(default_factory=dict)  # by a model's turn, the last one of it
    judged: Mapping[str, Judged] = field(default_factory=dict)  # lifecycles' models, by checkpoint; the last of each

    @property
    def model(self) -> Model | None:
        """The champion."""
        return None if self.champion is None else self.models[self.champion]

    @property
    def begun(self) -> bool:
        """Whether turns can go on from the champion: what it was trained on is known."""
        return self.model is not None and bool(self.model.corpora)

    @property
    def next_lifecycle(self) -> int:
        """The `turn` of a lifecycle's model that is promoted next."""
        return min([1, *self.models]) - 1

    @property
    def descent(self) -> tuple[int, ...]:
        """The turns of the models that the champion comes from, the lifecycle's first, and its own: each began from the
        champion of its time, which a rollback has made the champion again."""
        chain = (*self.before, self.champion) if self.champion is not None else ()
        return chain[max(place for place, turn in enumerate(chain) if turn <= 0) :] if chain else ()

    @property
    def root(self) -> Model:
        """The lifecycle's model that the champion comes from."""
        return self.models[self.descent[0]]

    def called(self, model: Model) -> str:
        """How people name a model of the line: `sft@3`, or `turn 3's`."""
        judged = self.judged.get(ref.digest) if (ref := model.made.get(f"{TUNED}/checkpoint")) else None
        if judged is not None and model.turn <= 0:
            return judged.name
        return f"{model.name} model" if model.turn <= 0 else f"{model.name}'s model"

    def waiting(self, kind: BatchKind | None = None) -> tuple[Batch, ...]:
        """Accepted batches that no turn has taken, in the order of their arrival."""
        return tuple(
            batch
            for batch in self.batches.values()
            if batch.standing is Standing.WAITING and (kind is None or batch.kind is kind)
        )

    @property
    def next_turn(self) -> int:
        """The number of the turn that begins next, or ends without having begun."""
        return 1 + max([turn.turn for turn in self.turns[-1:]], default=0)

    def handled(self, kickoff: str | datetime) -> Began | Ended | None:
        """The turn that a schedule's run of just this kickoff ended or began: it is not run a second time."""
        at = moment(kickoff)
        if self.open is not None and moment(self.open.kickoff) == at:
            return self.open
        return next((turn for turn in reversed(self.turns) if moment(turn.kickoff) == at), None)
