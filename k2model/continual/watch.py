"""What follows from a ledger's entries outside of it, and the canary: brought about again by every run until it is so.

A promoted model is watched. When the next turn looks, its champion and the model before it are asked what no decision
was made on; a loss beyond doubt rolls back.
"""

import contextlib
from datetime import datetime

from k2model.artifacts import Identity, Store
from k2model.continual.entries import CANARY, Canary, Rollback
from k2model.continual.ledger import Ledger, LedgerMoved
from k2model.continual.notify import tell
from k2model.continual.promotion import apply
from k2model.continual.state import Ended, State
from k2model.continual.turn_gates import approved
from k2model.continual.verdict.canary import canary_cells, canary_result, damage
from k2model.errors import K2Error, LeaseHeld
from k2model.evals.cells import Cell
from k2model.evals.step import measure_together
from k2model.lifecycle import LifecyclePlan
from k2model.recipe import Recipe

TELLING_SECONDS = 60.0  # that a run waits for another one that is telling MLflow and people


class ChampionDamaged(K2Error):
    """The champion of a line cannot be loaded, and there is no model before it."""


def told(line: LifecyclePlan, tracking_uri: str, said: str) -> str:
    """Brings MLflow and people to what the ledger says, as far as they can be reached; gives `said`, with what could
    not be told. What was told is not told again, and of two runs at once one tells after the other."""
    store = Store.open(line.store)
    ledger = Ledger.open(store, line.recipe.name)
    try:
        with store.lease(Identity("told", "1", {"line": ledger.line}), TELLING_SECONDS):
            try:
                said = ". ".join([said, *apply(tracking_uri, store, line.recipe, ledger).by_hand])
            except K2Error as error:  # MLflow is down, or an artifact that it would show is damaged: the turn stands
                said = f"{said}. MLflow was not told, the next run tells it: {error}"
            tell(store, line.recipe, ledger)
    except LeaseHeld:
        said = f"{said}. MLflow and people were not told, another run is at it; the next one tells what it leaves"
    return said


def promote(line: LifecyclePlan, turn: int, reason: str, tracking_uri: str) -> str:
    """Makes the challenger of a held turn the champion. Raises Contradiction for a turn that is not held, or does not
    pass a gate on its artifacts: nobody is named here who could let it pass (`k2 promote`)."""
    store = Store.open(line.store)
    ledger = Ledger.open(store, line.recipe.name)
    while turn not in (state := ledger.state()).models:
        with contextlib.suppress(LedgerMoved):  # arrivals were entered: look again
            ledger.append("promote", approved(store, line.recipe, state, turn, reason), after=state)
    standing = "is" if state.champion == turn else "was"
    return told(line, tracking_uri, f"the model of turn {turn} {standing} the champion")


def wants_canary(line: LifecyclePlan, kickoff: datetime) -> bool:
    """Whether the champion has not been looked at since it was promoted: then a node has to be asked for. Not for a
    kickoff that was handled: the next turn looks."""
    store = Store.open(line.store)
    state = Ledger.open(store, line.recipe.name).state()
    if isinstance(state.handled(kickoff), Ended):
        return False
    cells = _cells(store, line.recipe, state)
    return any(store.find(cell.identity) is None for cell in cells) and not _damage(store, state)


def _cells(store: Store, recipe: Recipe, state: State) -> list[Cell]:
    if not state.before or state.champion in state.canaries or state.open or not recipe.continual.canary.items:
        return []
    return canary_cells(store, recipe, state)


def measure_canary(line: LifecyclePlan) -> str:
    """Asks champion and predecessor; every worker of a job calls it."""
    store = Store.open(line.store)
    cells = _cells(store, line.recipe, Ledger.open(store, line.recipe.name).state())
    measure_together(store, cells, line.recipe.evaluation.tensor)
    return f"{len(cells)} cells"


def _damage(store: Store, state: State) -> str:
    """What is wrong with the champion's weights, where there is a model that could stand instead."""
    return damage(store, state.model) if state.model and state.before else ""


def check_champion(store: Store, state: State) -> None:
    """Raises ChampionDamaged, before anything is trained or asked, where the champion could not be compared with."""
    if state.model is not None and not state.before and (broken := damage(store, state.model)):
        raise ChampionDamaged(
            f"the weights of {state.model.name} model are damaged, and line '{state.line}' has none before it that "
            f"could stand instead. Bring them back from a copy of the store: {broken}"
        )


def watched(recipe: Recipe, ledger: Ledger, kickoff: str) -> State:
    """The state after the canary of the champion, where it was measured, and after the rollback where it failed.
    Damaged weights are looked for every time, since they may be damaged at any; an open turn is given up with them."""
    state, store = ledger.state(), ledger.store
    if broken := _damage(store, state):
        undone = Rollback(state.before[-1], f"the weights of the champion are damaged: {broken}", CANARY, kickoff)
        ledger.append("rollback", undone, after=state)
        return watched(recipe, ledger, kickoff)  # the one before it may be damaged, too
    cells = _cells(store, recipe, state)
    if not cells or any(store.find(cell.identity) is None for cell in cells):
        return state
    found, champion = canary_result(store, recipe, state), state.champion
    assert champion is not None
    if found.passed:
        return ledger.append("canary", Canary(champion, kickoff, found.reason, evidence=found.evidence), after=state)
    undone = Rollback(state.before[-1], found.reason, CANARY, kickoff, found.evidence)
    return ledger.append("rollback", undone, after=state)
