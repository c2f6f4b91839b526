"""The kinds of entries of a ledger, and what they add up to.

A ledger's state is a fold over its entries, so the rules of a line stand here and nowhere else: who may become the
champion, what becomes of a batch, what can be rolled back. An entry that contradicts what is before it is refused when
it is appended (`Contradiction`), and so never stands in a ledger. An entry holds all that follows from it: folding
reads neither a recipe nor an artifact.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from k2model.artifacts import ArtifactRef
from k2model.continual.plain import from_plain
from k2model.continual.state import Batch, Began, Corpus, Ended, Model, Outcome, Standing, State
from k2model.errors import K2Error, nearest


class Contradiction(K2Error):
    """An entry does not fit what the ledger says so far."""


@dataclass(frozen=True)
class Start:
    """A line begins with the model that a lifecycle promoted and what that was trained on."""

    model: Model
    corpus: Corpus


@dataclass(frozen=True)
class Arrival:
    """What the gate decided of a batch: its `standing` is waiting, refused or quarantined. One that was turned away may
    arrive again, when it was mended; what waits or was taken may not."""

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
    """A person says yes to a held turn."""

    turn: int
    reason: str = ""
    who: str = ""


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


Content = Start | Arrival | TurnBegan | TurnEnded | Canary | Promote | Rollback | Retry
KINDS: dict[str, type[Content]] = {
    "start": Start,
    "arrival": Arrival,
    "turn_began": TurnBegan,
    "turn_ended": TurnEnded,
    CANARY: Canary,
    "promote": Promote,
    "rollback": Rollback,
    "retry": Retry,
}
ARRIVED = (Standing.WAITING, Standing.REFUSED, Standing.QUARANTINED)


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


def fold(state: State, contents: Iterable[Content]) -> State:
    """`state` after what entries say, in order; number and hash of the last are the ledger's to set.

    Raises Contradiction, which says what was found and what was expected.
    """
    folding = _Folding(state)
    for content in contents:
        folding.add(content)
    return folding.state(state)


class _Folding:
    """A state that changes in place: a year of entries is folded in one pass."""

    def __init__(self, state: State) -> None:
        self.models, self.corpora, self.batches = dict(state.models), dict(state.corpora), dict(state.batches)
        self.canaries, self.turns = dict(state.canaries), list(state.turns)
        self.champion, self.before = state.champion, list(state.before)
        self.open, self.held = state.open, list(state.held)

    def state(self, first: State) -> State:
        return replace(
            first, models=self.models, champion=self.champion, before=tuple(self.before), corpora=self.corpora,
            batches=self.batches, open=self.open, held=tuple(self.held), turns=tuple(self.turns),
            canaries=self.canaries,
        )  # fmt: skip

    def add(self, content: Content) -> None:
        _ADD[type(content)](self, content)

    def start(self, content: Start) -> None:
        _check(self.champion is None, f"the line has begun: its champion is turn {self.champion}'s")
        _check(
            content.model.turn == 0, f"a line begins with the lifecycle's model, got one of turn {content.model.turn}"
        )
        self.corpora[content.corpus.name] = content.corpus
        self._promoted(content.model)

    def arrival(self, content: Arrival) -> None:
        batch = content.batch
        known = self.batches.get(batch.name)
        if known is not None:
            mended = known.standing not in (Standing.WAITING, Standing.TAKEN) and known.digest != batch.digest
            _check(mended, f"batch '{batch.name}' has arrived ({known.standing.value}); add the data by another name")
        _check(batch.standing in ARRIVED, f"batch '{batch.name}' arrives as {batch.standing.value}")
        _check(not batch.tries and not batch.turn, f"batch '{batch.name}' arrives as one that a turn has tried")
        if batch.standing is Standing.WAITING:
            _check(batch.corpus is not None, f"batch '{batch.name}' is accepted, and has no corpus")
        if batch.corpus is not None and batch.standing is Standing.WAITING:
            taken = batch.corpus.name in self.corpora and known is None
            _check(not taken, f"batch '{batch.name}' has a corpus named '{batch.corpus.name}', as there is one already")
            self.corpora[batch.corpus.name] = batch.corpus
        self.batches.pop(batch.name, None)  # its place is that of its last arrival
        self.batches[batch.name] = batch

    def turn_began(self, content: TurnBegan) -> None:
        began = content.began
        self._check_next(began.turn)
        _check(not self.held, f"turn {self.held and self.held[0]} waits for a person; promote it or decline it first")
        _check(began.champion == self.champion, f"the champion is turn {self.champion}'s, not {began.champion}'s")
        _check(bool(began.batches), f"turn {began.turn} has no batches")
        _check(len({*began.batches}) == len(began.batches), f"turn {began.turn} has a batch twice")
        for name in began.batches:
            batch = self.batches.get(name)
            _check(
                batch is not None and batch.standing is Standing.WAITING,
                f"batch '{name}' does not wait: it is {batch.standing.value if batch else 'not known'}",
            )
        self.open = began

    def turn_ended(self, content: TurnEnded) -> None:
        ended = content.ended
        if ended.outcome is Outcome.IDLE:
            self._check_next(ended.turn)
            _check(not ended.batches and ended.challenger is None, f"turn {ended.turn} is idle, and has batches")
        else:
            began = self.open
            _check(
                began is not None and (began.turn, began.batches) == (ended.turn, ended.batches),
                f"turn {ended.turn} ends, and the one that has begun is {began.turn if began else 'none'}: it was "
                "ended by another process, or given up when the champion was rolled back",
            )
        _check(
            {*content.becomes} == {*ended.batches}, f"turn {ended.turn} ends without saying what becomes of each batch"
        )
        if ended.outcome in (Outcome.PROMOTED, Outcome.HELD):
            challenger = ended.challenger
            _check(
                challenger is not None and challenger.turn == ended.turn,
                f"turn {ended.turn} is {ended.outcome.value}, and its challenger is missing or another turn's",
            )
            missing = {*challenger.corpora} - {*self.corpora} if challenger else set()
            _check(not missing, f"turn {ended.turn} was trained on corpora that are not known: {sorted(missing)}")
        for name, becomes in content.becomes.items():
            allowed = {
                Outcome.PROMOTED: (Standing.TAKEN,),
                Outcome.HELD: (Standing.WAITING,),
            }.get(ended.outcome, (Standing.WAITING, Standing.SET_ASIDE))
            _check(
                becomes.standing in allowed,
                f"batch '{name}' of a {ended.outcome.value} turn is {becomes.standing.value}",
            )
            self._set(name, becomes.standing, becomes.reason, turn=ended.turn, tries=becomes.tries)
        self.open = None
        self.turns.append(replace(ended, champion=self.champion))
        if ended.outcome is Outcome.HELD:
            self.held.append(ended.turn)
        if ended.outcome is Outcome.PROMOTED and ended.challenger is not None:
            self._promoted(ended.challenger)

    def canary(self, content: Canary) -> None:
        _check(content.turn in self.models, f"turn {content.turn} has no promoted model that a canary could watch")
        _check(content.passed, f"the canary of turn {content.turn} failed, which is a rollback by '{CANARY}'")
        self.canaries[content.turn] = content.reason

    def promote(self, content: Promote) -> None:
        waiting = ", ".join(map(str, self.held)) or "none does"
        _check(
            content.turn in self.held, f"turn {content.turn} does not wait for a person; of turns that do: {waiting}"
        )
        _check(self.open is None, f"turn {self.open and self.open.turn} is open; promote when it has ended")
        ended = self._turn(content.turn)
        self._amend(replace(ended, outcome=Outcome.PROMOTED, reason=_told("promoted by a person", content.reason)))
        for name in ended.batches:
            self._set(name, Standing.TAKEN, f"turn {content.turn} was promoted by a person")
        self.held.remove(content.turn)
        assert ended.challenger is not None
        self._promoted(ended.challenger)

    def rollback(self, content: Rollback) -> None:
        chain = [*self.before, *([] if self.champion is None else [self.champion])]
        known = ", ".join(map(str, chain)) or "none"
        _check(content.to in chain, f"turn {content.to} made no champion that can stand again; these can: {known}")
        undone = chain[chain.index(content.to) + 1 :]
        _check(
            bool(undone or self.held or self.open),
            f"turn {content.to} made the champion that stands, and no turn is held or open: nothing is to be undone",
        )
        for name, batch in [*self.batches.items()]:
            if batch.standing is Standing.TAKEN and batch.turn in undone:
                self._set(name, Standing.SET_ASIDE, f"turn {batch.turn} was rolled back: {content.reason}")
        for turn in self.held:
            ended = self._turn(turn)
            self._amend(replace(ended, outcome=Outcome.REFUSED, reason=_told("declined", content.reason)))
            for name in ended.batches:
                self._set(name, Standing.SET_ASIDE, f"turn {turn} was declined: {content.reason}")
        if (began := self.open) is not None:
            said = f"given up, since the champion was rolled back to turn {content.to}: {content.reason}"
            self.turns.append(
                Ended(began.turn, began.kickoff, Outcome.REFUSED, said, began.batches, champion=began.champion)
            )
        if content.who == CANARY:
            self.canaries.update({turn: content.reason for turn in undone[-1:]})
        self.held, self.open = [], None
        self.champion, self.before = content.to, chain[: chain.index(content.to)]

    def retry(self, content: Retry) -> None:
        batch = self.batches.get(content.batch)
        aside = [name for name, one in self.batches.items() if one.standing is Standing.SET_ASIDE]
        if batch is None or batch.standing is not Standing.SET_ASIDE:
            found = "not known" if batch is None else batch.standing.value
            raise Contradiction(f"batch '{content.batch}' is {found}, not set aside; {nearest(content.batch, aside)}")
        self._set(content.batch, Standing.WAITING, _told("brought back", content.reason), turn=0, tries=0)

    def _promoted(self, model: Model) -> None:
        if self.champion is not None:
            self.before.append(self.champion)
        self.models[model.turn] = model
        self.champion = model.turn

    def _check_next(self, turn: int) -> None:
        _check(self.open is None, f"turn {self.open and self.open.turn} is open; it is ended first")
        wanted = 1 + (self.turns[-1].turn if self.turns else 0)
        _check(turn == wanted, f"turn {turn} is not the next one, which is turn {wanted}")

    def _turn(self, number: int) -> Ended:
        return next(one for one in self.turns if one.turn == number)

    def _amend(self, ended: Ended) -> None:
        self.turns = [ended if one.turn == ended.turn else one for one in self.turns]

    def _set(self, name: str, standing: Standing, reason: str, **more: int) -> None:
        self.batches[name] = replace(self.batches[name], standing=standing, reason=reason, **more)  # type: ignore[arg-type]


_ADD: dict[type, Any] = {content: getattr(_Folding, kind) for kind, content in KINDS.items()}


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Contradiction(f"the entry does not fit what the ledger says: {otherwise}")


def _told(what: str, reason: str) -> str:
    return f"{what}: {reason}" if reason else what
