"""What the entries of a ledger add up to: the rules of a line, and nowhere else.

Who may become the champion, what becomes of a batch, what can be rolled back. An entry that contradicts what is before
it is refused when it is appended (`Contradiction`), and so never stands in a ledger. Folding reads neither a recipe nor
an artifact.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from k2model.continual.entries import (
    ARRIVED,
    BINDING,
    CANARY,
    KINDS,
    TURNED_AWAY,
    Accept,
    Arrival,
    Canary,
    Content,
    Contradiction,
    Promote,
    Retry,
    Rollback,
    Start,
    TurnBegan,
    TurnEnded,
)
from k2model.continual.state import Annealed, Checked, Ended, Judged, Model, Outcome, Standing, State, model_name
from k2model.errors import nearest


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
        self.anneals, self.verdicts = dict(state.anneals), dict(state.judged)
        self.champion, self.before = state.champion, list(state.before)
        self.open, self.held = state.open, list(state.held)

    def state(self, first: State) -> State:
        return replace(
            first, models=self.models, champion=self.champion, before=tuple(self.before), corpora=self.corpora,
            batches=self.batches, open=self.open, held=tuple(self.held), turns=tuple(self.turns),
            canaries=self.canaries, anneals=self.anneals, judged=self.verdicts,
        )  # fmt: skip

    def add(self, content: Content) -> None:
        _ADD[type(content)](self, content)

    def start(self, content: Start) -> None:
        model = content.model
        standing = self.models[self.champion] if self.champion is not None else None
        _check(
            standing is None or not standing.corpora,
            f"the line has begun: its champion is {standing and standing.name} model",
        )
        wanted = standing.turn if standing is not None else 0
        _check(model.turn == wanted, f"turns go on from {model_name(wanted)} model, got one of turn {model.turn}")
        _check(bool(model.corpora), f"nothing is said of what {model.name} model was trained on")
        _check(content.corpus.name not in self.corpora, f"there is a corpus '{content.corpus.name}' already")
        self.corpora[content.corpus.name] = content.corpus
        if standing is None:
            self._promoted(model)
        else:
            _check(_checkpoint(model) == _checkpoint(standing), f"the model is not {standing.name}: other weights")
            self.models[wanted] = model

    def arrival(self, content: Arrival) -> None:
        batch = content.batch
        known = self.batches.get(batch.name)
        if known is not None:
            mended = known.standing not in (Standing.WAITING, Standing.TAKEN) and known.digest != batch.digest
            again = mended or known.standing is Standing.REVIEWED
            _check(again, f"batch '{batch.name}' has arrived ({known.standing.value}); add the data by another name")
        accepted = known.accepted if known is not None and known.digest == batch.digest else ()
        _check(
            {*batch.accepted} <= {*accepted},
            f"batch '{batch.name}' arrives as one of which a person accepted {_names(batch.accepted)}, and of these "
            f"data it was {_names(accepted)}",
        )
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
        _check(ended.outcome is not Outcome.ANNEALED, f"turn {ended.turn} ends as an anneal, which is no turn")
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
        held = ended.outcome is Outcome.HELD
        if held or ended.outcome is Outcome.PROMOTED:
            challenger = ended.challenger
            _check(
                challenger is not None and challenger.turn == ended.turn,
                f"turn {ended.turn} is {ended.outcome.value}, and its challenger is missing or another turn's",
            )
            self._check_gates(f"turn {ended.turn} is {ended.outcome.value}", ended.gates)
            against = [one.gate for one in ended.gates if not (one.passed or (held and one.waits))]
            _check(not against, f"turn {ended.turn} is {ended.outcome.value}, and did not pass {_names(against)}")
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
        if held:
            self.held.append(ended.turn)
        if ended.outcome is Outcome.PROMOTED and ended.challenger is not None:
            self._promoted(ended.challenger)

    def judged(self, content: Judged) -> None:
        model = content.model
        outcomes = (Outcome.PROMOTED, Outcome.REFUSED, Outcome.HELD)
        _check(content.outcome in outcomes, f"{content.name} is judged as {content.outcome.value}")
        _check(
            content.champion == self.champion,
            f"{content.name} was compared with turn {content.champion}'s model, the champion is turn {self.champion}'s",
        )
        self.verdicts.pop(content.digest, None)  # the last of them stands last
        self.verdicts[content.digest] = content
        if content.outcome is not Outcome.PROMOTED:
            return
        _check(bool(content.gates), f"{content.name} was held to no gate, and without one nothing is promoted")
        failing = [one.gate for one in content.gates if not one.stands]
        _check(not failing, f"{content.name} is promoted, and did not pass {_names(failing)}")
        _check_waived(content.name, content.gates, content.who, content.why)
        _check(self.open is None and not self.held, "a turn is open or waits for a person, which is ended first")
        wanted = min([1, *self.models]) - 1
        _check(model.turn == wanted, f"{content.name} is promoted as {model.turn}, expected {wanted}")
        _check(not model.corpora, f"what {content.name} was trained on is said when turns go on from it")
        self._promoted(model)

    def canary(self, content: Canary) -> None:
        _check(content.turn in self.models, f"turn {content.turn} has no promoted model that a canary could watch")
        _check(content.passed, f"the canary of turn {content.turn} failed, which is a rollback by '{CANARY}'")
        self.canaries[content.turn] = content.reason

    def annealed(self, content: Annealed) -> None:
        began, ended = content.began, content.ended
        model = ended.challenger
        _check(began.champion in self.models, f"turn {began.champion} has no promoted model that could be annealed")
        _check(not began.batches, f"an anneal is on no new data, got batches {_names(began.batches)}")
        _check(
            ended.outcome in (Outcome.ANNEALED, Outcome.REFUSED) and ended.verdict is not None,
            f"an anneal ends with a verdict as annealed or refused, got {ended.outcome.value}",
        )
        _check(
            model is not None and (model.turn, ended.turn, ended.champion) == (began.champion,) * 3,
            f"the anneal of turn {began.champion}'s model gives a model of that turn",
        )
        against = [one.gate for one in ended.gates if not one.passed]
        _check(
            not against or ended.outcome is Outcome.REFUSED,
            f"the anneal of turn {began.champion}'s model is released, and did not pass {_names(against)}",
        )
        self.anneals[began.champion] = content

    def promote(self, content: Promote) -> None:
        waiting = ", ".join(map(str, self.held)) or "none does"
        _check(
            content.turn in self.held, f"turn {content.turn} does not wait for a person; of turns that do: {waiting}"
        )
        _check(self.open is None, f"turn {self.open and self.open.turn} is open; promote when it has ended")
        ended = self._turn(content.turn)
        said = f"turn {content.turn} is promoted"
        gates = (*{one.gate: one for one in (*ended.gates, *content.gates)}.values(),)
        self._check_gates(said, gates)
        _check_waived(f"turn {content.turn}", gates, content.who, content.reason)
        failing = [f"{one.gate}: {one.said}" for one in gates if not one.stands]
        _check(not failing, f"{said}, and did not pass {'; '.join(failing)}")
        told = _told("promoted by a person", content.reason)
        self._amend(replace(ended, outcome=Outcome.PROMOTED, reason=told, gates=gates))
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

    def accept(self, content: Accept) -> None:
        batch = self.batches.get(content.batch)
        away = [name for name, one in self.batches.items() if one.standing in TURNED_AWAY]
        if batch is None or batch.standing not in TURNED_AWAY:
            found = "not known" if batch is None else batch.standing.value
            raise Contradiction(
                f"batch '{content.batch}' is {found}, not refused or quarantined; {nearest(content.batch, away)}"
            )
        _check(batch.arrival is not None, f"batch '{batch.name}' cannot be read, so nobody knows what it holds")
        _check(bool(content.checks), f"no check of batch '{batch.name}' is named that is accepted")
        _check(bool(content.reason.strip()), f"no reason is given why batch '{batch.name}' is accepted")
        for name in content.checks:
            _check(
                name not in BINDING, f"'{name}' of batch '{batch.name}' cannot be accepted: there is no training on it"
            )
        accepted = tuple(sorted({*batch.accepted, *content.checks}))
        said = f"{_told('accepted by ' + (content.who or 'a person'), content.reason)} ({_names(content.checks)})"
        self.batches[batch.name] = replace(batch, standing=Standing.REVIEWED, reason=said, accepted=accepted)

    def _promoted(self, model: Model) -> None:
        if self.champion is not None:
            self.before.append(self.champion)
        self.models[model.turn] = model
        self.champion = model.turn

    def _check_next(self, turn: int) -> None:
        _check(self.open is None, f"turn {self.open and self.open.turn} is open; it is ended first")
        wanted = 1 + (self.turns[-1].turn if self.turns else 0)
        _check(turn == wanted, f"turn {turn} is not the next one, which is turn {wanted}")

    def _check_gates(self, said: str, gates: tuple[Checked, ...]) -> None:
        """Turns of old were held to no gates on artifacts; behind one that was, none is promoted without."""
        without = not gates and any(one.gates for one in self.turns)
        _check(not without, f"{said} without a gate on its artifacts, to which turns before it were held")

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


def _check_waived(name: str, gates: Iterable[Checked], who: str, why: str) -> None:
    """A person lets a gate pass by name, and says why; not one on what a model is."""
    for one in gates:
        _check(one.waivable or not one.waived, f"{name} is let pass without {one.gate}, which nobody can do")
        named = bool(who.strip() and why.strip())
        _check(named or not one.waived, f"{name} is let pass without {one.gate}, and nobody says who does so and why")


def _checkpoint(model: Model) -> str:
    ref = model.made.get("tuned/checkpoint")
    return ref.digest if ref else ""


def _names(checks: Iterable[str]) -> str:
    return ", ".join(checks) or "nothing"


def _told(what: str, reason: str) -> str:
    return f"{what}: {reason}" if reason else what
