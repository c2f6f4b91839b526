"""A turn of a line: look, decide, train a challenger, compare it with the champion, promote it or not.

    begin       looks at the ledger; the guard says no (the turn has ended), or what is trained is frozen in an entry
    prepare     packs the rows of one of the challenger's phases
    finish      exports its weights
    examine     champion and challenger on the same items, by all workers of one job
    decide      the verdict, an artifact
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

from k2model.artifacts import ArtifactRef, JobStep, Store, make
from k2model.artifacts.lease import Lease
from k2model.continual.canary import canary_cells, canary_result
from k2model.continual.comparison import read_verdict, verdict_step
from k2model.continual.continuation import CHAMPION, continuation, seen_after
from k2model.continual.guard import guard
from k2model.continual.joined import joined_corpus_step, joined_tokens_step
from k2model.continual.ledger import Ledger
from k2model.continual.start import NoChampion, start
from k2model.continual.state import BASE, TUNED, Began, Ended, Model, Outcome, State
from k2model.errors import LeaseHeld
from k2model.evals.cells import Cell
from k2model.evals.references import exported
from k2model.evals.step import scores_step
from k2model.lifecycle import LifecyclePlan
from k2model.lifecycle.steps import PHASE, Work
from k2model.recipe import PhaseConfig, Recipe
from k2model.recipe.continual import BatchKind
from k2model.safety import answers_step, safety_step

Made = dict[str, ArtifactRef]
_log = logging.getLogger(__name__)
_held: dict[str, Lease] = {}  # of this process: the turns that it is at


@dataclass(frozen=True)
class Turn:
    """What the tasks of a turn are about; go: `base`, `tuned`, or "" where nothing is to be trained, for `reason`.

    line: the line's own recipe and store. plan: the challenger's, of a turn that trains.
    """

    number: int
    kickoff: str
    go: str
    reason: str
    line: LifecyclePlan
    plan: LifecyclePlan

    @property
    def store(self) -> Store:
        return Store.open(self.line.store)

    def ledger(self) -> Ledger:
        return Ledger.open(self.store, self.line.recipe.name)

    def phase(self, part: str) -> PhaseConfig:
        """The challenger's row of `base` or `tuned`."""
        config = self.line.recipe.continual
        return self.plan.recipe.phase(config.base if part == BASE else config.tuned)


def opened(line: LifecyclePlan) -> Ledger:
    """The ledger of a line, begun with the lifecycle's champion where it is empty. Raises NoChampion."""
    store = Store.open(line.store)
    ledger = Ledger.open(store, line.recipe.name)
    if not ledger.state().entries:
        found = start(store, line.recipe)
        ledger.append("start", {"model": found.model, "corpus": found.corpus}, after=0)
    return ledger


def begin(line: LifecyclePlan, kickoff: datetime, price_per_token: float = 0.0) -> tuple[Turn, Made]:
    """The turn of a kickoff, and what its challenger starts from; its `go` is "" where nothing is to be trained.

    A turn that has begun and not ended is gone on with, whoever began it, unless a live process is at it. A kickoff
    that was handled is not handled again. Everything else that stands against a turn is a reason in the ledger.
    """
    moment = kickoff.isoformat()
    idle = Turn(0, moment, "", "", line, line)
    try:
        ledger = opened(line)
    except NoChampion as missing:
        return replace(idle, reason=f"no champion: {missing}"), {}
    state = ledger.state()
    if (done := ledger.handled(moment)) and done is not (state.open and state.open.turn):
        return replace(idle, number=done, reason=f"turn {done} was this schedule's already"), {}
    try:
        _take(ledger)
    except LeaseHeld as held:
        return replace(idle, reason=f"a turn is running: {held}"), {}
    state = watched(line.recipe, ledger, moment)
    began = state.open
    if began is None:
        number = len(state.turns) + 1
        decided = guard(line.recipe, state, kickoff, price_per_token)
        if decided.go is None:
            ended = Ended(number, moment, Outcome.IDLE, decided.reason)
            ledger.append("turn_ended", {"ended": ended}, after=state.entries)
            _leave(ledger)
            return replace(idle, number=number, reason=decided.reason), {}
        began = Began(number, moment, decided.go, tuple(decided.batches), state.champion or 0)
        state = ledger.append("turn_began", {"began": began}, after=state.entries)
        _log.info("turn %d: %s", number, decided.reason)
    return _turn(line, state, began)


def _turn(line: LifecyclePlan, state: State, began: Began) -> tuple[Turn, Made]:
    """What a turn that has begun is about: a function of the ledger alone."""
    store = Store.open(line.store)
    recipe = continuation(store, line.recipe, state, began)
    model = state.models[began.champion]
    corpora = [state.corpora[name] for name in names_of(state, began)]
    parent = BASE if began.kind is BatchKind.BASE else TUNED
    made = {
        "corpus_valid": make(store, joined_corpus_step(store, [one.valid for one in corpora])),
        "tokens": make(store, joined_tokens_step(store, [one.tokens for one in corpora])),
        "tokenizer": model.made["tokenizer"],
        f"{CHAMPION}/checkpoint": model.made[f"{parent}/checkpoint"],
        f"{CHAMPION}/export": model.made[f"{parent}/export"],
    }
    plan = LifecyclePlan(recipe, line.store)
    return Turn(began.turn, began.kickoff, began.kind.value, "", line, plan), made


def names_of(state: State, began: Began) -> tuple[str, ...]:
    """The corpora that a challenger is trained on: the champion's, and those of the turn's batches."""
    return (*state.models[began.champion].corpora, *began.batches)


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


def examination(turn: Turn, made: Made) -> dict[str, JobStep]:
    """What all workers of a node measure together, by name: scores of champion and challenger on the same items, which
    are those of all corpora, and the challenger's answers to safety tests."""
    store, recipe, tuned = turn.store, turn.line.recipe, turn.phase(TUNED)
    row = recipe.phase(tuned.name)
    lengths = sorted({phase.sequence_length for phase in recipe.phases})
    model = turn.ledger().state().models[_began(turn).champion]
    exports = {"champion": model.made["tuned/export"], "challenger": made[f"{tuned.name}/export"]}
    steps = {
        f"{name}/scores": scores_step(
            store, recipe.evaluation, row, made["corpus_valid"], made["tokens"], made["tokenizer"], export,
            lengths=lengths,
        )
        for name, export in exports.items()
    }  # fmt: skip
    if row.name in recipe.safety_tested:
        subject = exported(exports["challenger"], made["tokenizer"], store, row.name, row.sequence_length)
        steps["challenger/safety_answers"] = answers_step(store, recipe.safety, subject)
    return steps


def is_examined(turn: Turn, made: Made) -> bool:
    """Whether nothing of it is missing, so that no node has to be asked for."""
    return all(turn.store.find(step.identity) for step in examination(turn, made).values())


def examine(turn: Turn, made: Made) -> Made:
    """What is made when champion and challenger are measured; every worker of a job calls it, or one process alone."""
    return {**made, **{name: make(turn.store, step) for name, step in examination(turn, made).items()}}


def decide(turn: Turn, made: Made) -> ArtifactRef:
    """The verdict on the challenger, kind `verdict`."""
    ledger, store, recipe = turn.ledger(), turn.store, turn.line.recipe
    state = ledger.state()
    began = _began(turn)
    model, safety = state.models[began.champion], _safety(turn, made)
    return make(store, verdict_step(store, recipe, state, began, made, model.made.get("tuned/safety"), safety))


def _safety(turn: Turn, made: Made) -> ArtifactRef | None:
    answers, config = made.get("challenger/safety_answers"), turn.line.recipe.safety
    return make(turn.store, safety_step(turn.store, config.judge, answers, config.data)) if answers else None


def commit(turn: Turn, made: Made, verdict: ArtifactRef, tracking_uri: str) -> tuple[str, str]:
    """Ends the turn by one entry, then brings MLflow and people up to date; gives its outcome and a sentence on it.

    A turn that has ended meanwhile, since another run of it was faster, is left as it is.
    """
    ledger, store, recipe = turn.ledger(), turn.store, turn.line.recipe
    state = ledger.state()
    if state.open is not None and state.open.turn == turn.number:
        found = read_verdict(store, verdict)
        challenger = _challenger(turn, state, made, tracking_uri)
        tokens = sum(phase.tokens for phase in turn.plan.recipe.phases)
        ended = Ended(
            turn.number, turn.kickoff, found.outcome, found.reason, state.open.batches, challenger, verdict, tokens
        )
        state = ledger.append("turn_ended", {"ended": ended}, after=state.entries)
    _leave(ledger)
    ended = next(one for one in state.turns if one.turn == turn.number)
    return ended.outcome.value, told(turn.line, tracking_uri, f"turn {ended.turn}: {ended.reason}")


def _challenger(turn: Turn, state: State, made: Made, tracking_uri: str) -> Model:
    """The model of a turn, as the ledger has it; a version of 0 is found later, where MLflow cannot be reached."""
    began, config = _began(turn), turn.line.recipe.continual
    champion = state.models[began.champion]
    parts = (BASE, TUNED) if began.kind is BatchKind.BASE else (TUNED,)
    kept = {name: ref for name, ref in champion.made.items() if name.startswith(f"{BASE}/")}
    for part in parts:
        phase = turn.phase(part).name
        kept |= {f"{part}/{kind}": made[f"{phase}/{kind}"] for kind in ("sequences", "checkpoint", "export")}
    kept |= {name: made[name] for name in ("corpus_valid", "tokens", "tokenizer")}
    kept[f"{TUNED}/scores"] = made["challenger/scores"]
    if safety := _safety(turn, made):
        kept[f"{TUNED}/safety"] = safety
    seen = seen_after(turn.store, turn.plan.recipe, champion, began, made)
    return Model(began.turn, kept, names_of(state, began), seen)


def told(line: LifecyclePlan, tracking_uri: str, said: str) -> str:
    """Brings MLflow and people to what the ledger says, as far as they can be reached; gives `said`, with what could
    not be told. What was told is not told again."""
    from k2model.continual.notify import tell
    from k2model.continual.promotion import apply
    from k2model.registry import RegistryError

    store = Store.open(line.store)
    ledger = Ledger.open(store, line.recipe.name)
    try:
        apply(tracking_uri, store, line.recipe, ledger)
    except RegistryError as error:
        said = f"{said}. MLflow was not told, the next run tells it: {error}"
    tell(store, line.recipe, ledger)
    return said


def promote(line: LifecyclePlan, turn: int, who: str, tracking_uri: str) -> str:
    """Makes the challenger of a held turn the champion."""
    ledger = opened(line)
    state = ledger.state()
    if turn in state.held:
        ledger.append("promote", {"turn": turn, "who": who}, after=state.entries)
    return told(
        line,
        tracking_uri,
        f"turn {turn} is the champion" if ledger.state().champion == turn else f"turn {turn} was not held",
    )


def wants_canary(line: LifecyclePlan) -> bool:
    """Whether the champion has not been looked at, on items that no decision was made on, since it was promoted."""
    try:
        state = opened(line).state()
    except NoChampion:
        return False
    store = Store.open(line.store)
    return any(store.find(cell.identity) is None for cell in _canary(store, line.recipe, state))


def _canary(store: Store, recipe: Recipe, state: State) -> list[Cell]:
    if not state.before or state.champion in state.canaries or state.open or not recipe.continual.canary.items:
        return []
    return canary_cells(store, recipe, state)


def measure_canary(line: LifecyclePlan) -> str:
    """Asks champion and predecessor; every worker of a job calls it."""
    store = Store.open(line.store)
    cells = _canary(store, line.recipe, opened(line).state())
    measure_together(store, cells, line.recipe.evaluation.tensor)
    return f"{len(cells)} cells"


def watched(recipe: Recipe, ledger: Ledger, moment: str) -> State:
    """Enters what the canary of the champion found, and rolls back where it failed."""
    state = ledger.state()
    cells = _canary(ledger.store, recipe, state)
    if not cells or any(ledger.store.find(cell.identity) is None for cell in cells):
        return state
    found = canary_result(ledger.store, recipe, state)
    state = ledger.append(
        "canary", {"turn": state.champion, "passed": found.passed, "reason": found.reason, "kickoff": moment},
        after=state.entries,
    )  # fmt: skip
    if found.passed:
        return state
    back = {"to": state.before[-1], "reason": found.reason, "who": "canary", "kickoff": moment}
    return ledger.append("rollback", back, after=state.entries)


def _began(turn: Turn) -> Began:
    """What the ledger says of a turn that has begun."""
    return turn.ledger().began(turn.number)


def _take(ledger: Ledger) -> None:
    """This process is at the line's turn until it ends or leaves it. Raises LeaseHeld where another is."""
    if ledger.line not in _held:
        lease = ledger.lease()
        lease.__enter__()
        _held[ledger.line] = lease


def _leave(ledger: Ledger) -> None:
    if lease := _held.pop(ledger.line, None):
        with contextlib.suppress(LeaseHeld):
            lease.__exit__(None, None, None)
