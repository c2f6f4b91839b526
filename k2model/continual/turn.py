"""A turn of a line: look, decide, train a challenger, compare it with the champion, promote it or not.

    begin       looks at the ledger; the guard says no (the turn has ended), or what is trained is frozen in an entry
    prepare     packs the rows of one of the challenger's phases
    finish      exports its weights
    examine     champion and challenger on the same items, by all workers of one job
    decide      the verdict, an artifact; where it speaks for the challenger, whether its export says what it says
    commit      one entry in the ledger; MLflow and people are told what it says

Between any two of them a turn may be killed. What it has made is in the store by its identity, what it is about stands
in the ledger from its beginning, so the next run finishes it and gives the same bytes. Only the one entry that ends it
moves batches and champion; what follows from that entry elsewhere is brought about again by every later run.
"""

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from k2model.artifacts import ArtifactRef, Identity, JobStep, Store, make
from k2model.artifacts.lease import Lease
from k2model.continual.continuation import CHAMPION, ContinuationError, continuation, seen_after
from k2model.continual.entries import TurnBegan, ending
from k2model.continual.guard import guard
from k2model.continual.joined import joined_corpus_step, joined_tokens_step
from k2model.continual.ledger import Ledger, LedgerMoved
from k2model.continual.seen import timescales
from k2model.continual.start import NoChampion, start
from k2model.continual.state import BASE, TUNED, Began, Ended, Model, Outcome, State
from k2model.continual.turn_gates import held_to_gates, measure_parity
from k2model.continual.verdict.comparison import measures_both, read_verdict, verdict_step
from k2model.continual.watch import check_champion, told, watched
from k2model.errors import LeaseHeld
from k2model.evals.cells import Cell
from k2model.evals.references import exported
from k2model.evals.step import ScoresStep, measure_together, scores_step
from k2model.lifecycle import LifecyclePlan
from k2model.lifecycle.steps import Work, full_name, inputs_of, row_called
from k2model.recipe import PhaseConfig
from k2model.recipe.continual import BatchKind
from k2model.safety import answers_step, safety_step

Made = dict[str, ArtifactRef]
_log = logging.getLogger(__name__)
_held: dict[tuple[str, str], Lease] = {}  # of this process, by store and line: it is at the line's turn
ENDING_SECONDS = 5.0  # that a worker may take to end when the process that started it was killed


@dataclass(frozen=True)
class Turn:
    """What the tasks of a turn are about; go: `base`, `tuned`, or "" where nothing is to be trained, for `reason`.

    line: the line's own recipe and store. plan: the challenger's, of a turn that trains. began: what is frozen then.
    """

    number: int
    kickoff: str
    go: str
    reason: str
    line: LifecyclePlan
    plan: LifecyclePlan
    began: Began | None = None

    @property
    def store(self) -> Store:
        return Store.open(self.line.store)

    def ledger(self) -> Ledger:
        return Ledger.open(self.store, self.line.recipe.name)

    def phase(self, part: str) -> PhaseConfig:
        """The challenger's row of `base` or `tuned`."""
        config = self.line.recipe.continual
        return self.plan.recipe.phase(config.base if part == BASE else config.tuned)

    def champion(self) -> Model:
        """The model that the challenger comes from."""
        assert self.began is not None, "an idle turn has no challenger"
        return self.ledger().state().models[self.began.champion]


def opened(line: LifecyclePlan) -> Ledger:
    """The ledger of a line, in which turns can go on from the champion: where that is a lifecycle's that none has gone
    on from, it is said what it was trained on. Raises NoChampion."""
    store = Store.open(line.store)
    ledger = Ledger.open(store, line.recipe.name)
    while not (state := ledger.state()).begun:
        found = start(store, line.recipe, state)
        with contextlib.suppress(LedgerMoved):  # another process has begun it with the same, or something was promoted
            ledger.append("start", found, after=state)
    return ledger


def begin(line: LifecyclePlan, kickoff: datetime) -> tuple[Turn, Made]:
    """The turn of a kickoff, and what its challenger starts from; its `go` is "" where nothing is to be trained.

    A turn that has begun and not ended is gone on with, whoever began it, unless a live process is at it. A kickoff
    that was handled is not handled again. Everything else that stands against a turn is a reason in the ledger.
    """
    idle = Turn(0, kickoff.isoformat(), "", "", line, line)
    try:
        ledger = opened(line)
    except NoChampion as missing:
        return replace(idle, reason=f"no champion: {missing}"), {}
    while True:
        try:
            found, made = _begin(ledger, idle, kickoff)
        except LedgerMoved:  # arrivals were entered, or a person decided something: look again
            continue
        except LeaseHeld as held:
            leave(ledger)
            return replace(idle, reason=f"a turn is running: {held}"), {}
        except BaseException:
            leave(ledger)
            raise
        if not found.go:
            leave(ledger)
        return found, made


def _begin(ledger: Ledger, idle: Turn, kickoff: datetime) -> tuple[Turn, Made]:
    """Raises LedgerMoved when another process has written meanwhile, LeaseHeld when it is at a turn of the line."""
    line, moment = idle.line, idle.kickoff
    if isinstance(done := ledger.state().handled(moment), Ended):
        return replace(idle, number=done.turn, reason=f"turn {done.turn} was this kickoff's: {done.outcome.value}"), {}
    _take(ledger)
    state = watched(line.recipe, ledger, moment)
    if state.open is not None:
        check_champion(ledger.store, state)
        found, made = resumed(line, state, state.open)
        if other := being_made(found, made):
            reason = f"turn {found.number} is running: {other} is being made by another process"
            return replace(idle, number=found.number, reason=reason), {}
        return found, made
    decided = guard(line.recipe, state, kickoff)
    if decided.go is not None:
        began = Began(state.next_turn, moment, decided.go, tuple(decided.batches), state.champion or 0)
        try:
            own = continuation(ledger.store, line.recipe, state, began)
        except ContinuationError as error:  # before it begins: a turn that has begun is gone on with until it ends
            decided = replace(decided, go=None, reason=f"there is no recipe for it: {error}")
        else:
            check_champion(ledger.store, state)
            state = ledger.append("turn_began", TurnBegan(began), after=state)
            for said in (decided.reason, *timescales(own, state, began)):
                _log.info("turn %d begins: %s", began.turn, said)
            return resumed(line, state, began)
    ended = Ended(state.next_turn, moment, Outcome.IDLE, decided.reason)
    ledger.append("turn_ended", ending(state, ended, 0), after=state)
    return replace(idle, number=ended.turn, reason=decided.reason), {}


def resumed(line: LifecyclePlan, state: State, began: Began) -> tuple[Turn, Made]:
    """What a turn that has begun is about: a function of the ledger alone."""
    store, model = Store.open(line.store), state.models[began.champion]
    recipe = continuation(store, line.recipe, state, began)
    corpora = [state.corpora[name] for name in corpora_of(model, began)]
    parent = BASE if began.kind is BatchKind.BASE else TUNED
    made = {
        "corpus_valid": make(store, joined_corpus_step(store, [one.valid for one in corpora])),
        "tokens": make(store, joined_tokens_step(store, [one.tokens for one in corpora])),
        "tokenizer": model.made["tokenizer"],
        f"{CHAMPION}/checkpoint": model.made[f"{parent}/checkpoint"],
        f"{CHAMPION}/export": model.made[f"{parent}/export"],
    }
    plan = LifecyclePlan(recipe, line.store)
    return Turn(began.turn, began.kickoff, began.kind.value, "", line, plan, began), made


def corpora_of(champion: Model, began: Began) -> tuple[str, ...]:
    """The names of what a challenger is trained on: the champion's corpora, and the turn's batches."""
    return (*champion.corpora, *began.batches)


def prepare(turn: Turn, part: str, made: Made) -> tuple[Made, Made]:
    """Packs the rows of `base` or `tuned` and checks them; gives what is made by then, and what the training reads."""
    done = with_row(turn, part, "sequences_checks", with_row(turn, part, "sequences", made))
    return done, inputs_of(row_called("checkpoint"), turn.phase(part), done)


def is_trained(turn: Turn, part: str, made: Made) -> bool:
    """Whether the store has the challenger's checkpoint."""
    store, row, phase = turn.store, row_called("checkpoint"), turn.phase(part)
    step = row.build(Work(store, turn.plan.recipe, phase, inputs_of(row, phase, made)))
    return store.find(step.identity) is not None


def finish(turn: Turn, part: str, made: Made, checkpoint: ArtifactRef) -> Made:
    """Exports what was trained."""
    return with_row(turn, part, "export", {**made, f"{turn.phase(part).name}/checkpoint": checkpoint})


def with_row(turn: Turn, part: str, name: str, made: Made) -> Made:
    """What is made when a row of the table of steps is, for `base` or `tuned`."""
    store, row, phase = turn.store, row_called(name), turn.phase(part)
    reference = make(store, row.build(Work(store, turn.plan.recipe, phase, inputs_of(row, phase, made))))
    return made if row.guards else {**made, full_name(row, phase): reference}


def being_made(turn: Turn, made: Made) -> str:
    """The name of what a live process is making of a turn, "" where none is at it.

    On a cluster each task is a process of its own, so the lease of the line is free while a training runs; what is
    being made has a lease of its own. One that was killed with its parent may take a moment to end.
    """
    store, done = turn.store, dict(made)
    for phase in turn.plan.recipe.phases:
        for name in ("sequences", "checkpoint", "export"):
            row = row_called(name)
            identity = row.build(Work(store, turn.plan.recipe, phase, inputs_of(row, phase, done))).identity
            if (reference := store.find(identity)) is None:
                return identity.name if _is_held(store, identity) else ""
            done[full_name(row, phase)] = reference
    missing = [step for step in _asked(turn, done) if store.find(step.identity) is None]
    return next((step.identity.name for step in missing if _is_held(store, step.identity)), "")


def _is_held(store: Store, identity: Identity) -> bool:
    if not store.is_being_made(identity.name):
        return False
    try:
        with store.lease(identity, ENDING_SECONDS):
            return False
    except LeaseHeld:
        return True


def examination(turn: Turn, made: Made) -> dict[str, JobStep]:
    """What all workers of a node measure together, by name: scores of champion and challenger on the same items, which
    are those of all corpora, and the challenger's answers to safety tests."""
    store, recipe, tuned = turn.store, turn.line.recipe, turn.phase(TUNED)
    row = recipe.phase(tuned.name)
    exports = {"champion": turn.champion().made["tuned/export"], "challenger": made[f"{tuned.name}/export"]}
    steps: dict[str, JobStep] = {
        f"{name}/scores": scores_step(
            store, recipe.evaluation, row, made["corpus_valid"], made["tokens"], made["tokenizer"], export,
            lengths=recipe.lengths,
        )
        for name, export in exports.items()
    }  # fmt: skip
    if row.name in recipe.safety_tested:
        subject = exported(exports["challenger"], made["tokenizer"], store, row.name, row.sequence_length)
        steps["challenger/safety_answers"] = answers_step(store, recipe.safety, subject)
    return steps


def is_examined(turn: Turn, made: Made) -> bool:
    """Whether nothing of it is missing, so that no node has to be asked for."""
    return all(turn.store.find(one.identity) for one in _asked(turn, made))


def _asked(turn: Turn, made: Made) -> list[Cell | JobStep]:
    """Every cell and every table of them."""
    steps = examination(turn, made).values()
    cells = [cell for step in steps if isinstance(step, ScoresStep) for cell in step.cells()]
    return [*cells, *_losses(turn, made), *steps]


def examine(turn: Turn, made: Made) -> Made:
    """What is made when champion and challenger are measured; every worker of a job calls it, or one process alone."""
    measure_together(turn.store, _losses(turn, made), turn.line.recipe.evaluation.tensor)
    return {**made, **{name: make(turn.store, step) for name, step in examination(turn, made).items()}}


def _losses(turn: Turn, made: Made) -> list[Cell]:
    """Cells of both models that the comparison needs beside their scores."""
    assert turn.began is not None
    return measures_both(turn.store, turn.line.recipe, turn.ledger().state(), turn.began, made)


def decide(turn: Turn, made: Made) -> Made:
    """With the challenger's safety scores, where it was tested, and the `verdict` on it."""
    store, recipe, began = turn.store, turn.line.recipe, turn.began
    assert began is not None
    if answers := made.get("challenger/safety_answers"):
        step = safety_step(store, recipe.safety.judge, answers, recipe.safety.data)
        made = {**made, "challenger/safety": make(store, step)}
    state = turn.ledger().state()
    step = verdict_step(store, recipe, state, began, made, timescales(turn.plan.recipe, state, began))
    verdict = make(store, step)
    if read_verdict(store, verdict).outcome is not Outcome.REFUSED:
        phase = turn.phase(TUNED).name
        measure_parity(store, recipe, made[f"{phase}/checkpoint"], made[f"{phase}/export"])
    return {**made, "verdict": verdict}


def commit(turn: Turn, made: Made, tracking_uri: str) -> tuple[str, str]:
    """Ends the turn by one entry, with the gates on its artifacts where its verdict is for it, then brings MLflow and
    people up to date; gives its outcome and a sentence on it.

    A turn that has ended meanwhile, since another run of it was faster, is left as it is.
    """
    ledger, guarded = turn.ledger(), turn.line.recipe.continual.guard
    while (state := ledger.state()).open is not None and state.open.turn == turn.number:
        found = read_verdict(turn.store, made["verdict"])
        tokens = sum(phase.tokens for phase in turn.plan.recipe.phases)
        ended = Ended(
            turn.number, turn.kickoff, found.outcome, found.reason, state.open.batches, challenger_of(turn, made),
            made["verdict"], tokens,
        )  # fmt: skip
        ended = held_to_gates(turn.store, turn.line.recipe, ended, turn.champion())
        with contextlib.suppress(LedgerMoved):  # arrivals were entered, or a person rolled back: look again
            ledger.append("turn_ended", ending(state, ended, guarded.max_tries), after=state)
    leave(ledger)
    ended = next(one for one in state.turns if one.turn == turn.number)
    said = f"turn {ended.turn} {ended.outcome.value}: {ended.reason}"
    return ended.outcome.value, told(turn.line, tracking_uri, said)


def challenger_of(turn: Turn, made: Mapping[str, ArtifactRef]) -> Model:
    """The model that a turn has trained, as the ledger has it."""
    began, champion = turn.began, turn.champion()
    assert began is not None
    parts = (BASE, TUNED) if began.kind is BatchKind.BASE else (TUNED,)
    kept = {name: ref for name, ref in champion.made.items() if name.startswith(f"{BASE}/")}
    for part in parts:
        phase = turn.phase(part).name
        kept |= {f"{part}/{kind}": made[f"{phase}/{kind}"] for kind in ("sequences", "checkpoint", "export")}
    kept |= {name: made[name] for name in ("corpus_valid", "tokens", "tokenizer")}
    judged = {"scores": "challenger/scores", "safety": "challenger/safety"}
    kept |= {f"{TUNED}/{kind}": made[name] for kind, name in judged.items() if name in made}
    seen = seen_after(turn.store, turn.plan.recipe, champion, began, made)
    return Model(began.turn, kept, corpora_of(champion, began), seen)


def _take(ledger: Ledger) -> None:
    """This process is at the line's turn until it leaves it or ends. Raises LeaseHeld where another is."""
    if (own := (ledger.store.uri, ledger.line)) not in _held:
        lease = ledger.lease()
        lease.__enter__()
        _held[own] = lease


def leave(ledger: Ledger) -> None:
    """This process is not at the line's turn any more."""
    if lease := _held.pop((ledger.store.uri, ledger.line), None):
        lease.__exit__(None, None, None)
