"""Who is the champion of a line: one entry of its ledger says so, and MLflow is brought to it.

A lifecycle that ends is judged by every gate, beside the champion, and what came of it is an entry: promoted, refused,
or held for a person. The same is not decided twice: a model that was judged by these gates beside this champion, or
was the champion before, stays as it is until a person asks (`k2 promote`). Whoever is killed behind the entry leaves
MLflow to the next run, which brings it to the ledger. Of two at once one is first; the other looks again, and is
judged beside the new champion.
"""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

from k2model.artifacts import ArtifactRef, Identity, Store
from k2model.continual.ledger import Ledger, LedgerMoved
from k2model.continual.promotion import NotRegistered, apply, promotion_of
from k2model.continual.state import TUNED, WAIVABLE, Checked, Judged, Model, Outcome, State
from k2model.promotion.comparison import Contest
from k2model.promotion.gates import (
    NotPromotable,
    asked_of,
    before_in,
    before_of,
    checked,
    failing,
    model_of,
    own_gates,
)
from k2model.recipe import Recipe
from k2model.recipe.schema import PhaseConfig, PhaseKind
from k2model.registry import Registration
from k2model.registry.phase_record import CHAMPION

TELLING_SECONDS = 60.0  # that a run waits for another one that brings MLflow to the ledger
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Person:
    """Who asks for a promotion, and why; waive: gates that may fail all the same."""

    who: str
    why: str
    waive: frozenset[str] = frozenset()


def judge_phase(
    tracking_uri: str, store: Store, recipe: Recipe, registration: Registration, parent: Registration | None,
    sequences: ArtifactRef, corpus: ArtifactRef, checkpoint: ArtifactRef, export: ArtifactRef, scores: ArtifactRef,
    safety: ArtifactRef | None = None,
) -> Registration:  # fmt: skip
    """Holds a registered phase of fine-tuning to its gates; gives the registration with what came of it. Phases of
    other kinds are never promoted. Raises RegistryError, LedgerDamaged, and the store's errors."""
    phase = recipe.phase(registration.phase)
    if phase.kind is not PhaseKind.SFT:
        return registration
    model = model_of(store, registration, sequences, corpus, checkpoint, export, scores, safety)
    origin = recipe.origin(phase.name)
    before = before_of(phase, parent, origin is not None and phase.parent == origin.name)
    ledger = Ledger.open(store, recipe.name)
    state = enter(store, recipe, phase, model, before, ledger)
    try:
        bring(tracking_uri, store, recipe, ledger)
    except NotRegistered as other:  # of another lifecycle: what was decided of this one stands
        _log.warning("%s", other)
    said = promotion_of(state, model)
    _log.info("%s, version %d of %s: promotion: %s", phase.name, model.version, registration.model_name, said)
    aliases = (*registration.aliases, CHAMPION) if said == CHAMPION else registration.aliases
    return replace(registration, promotion=said, aliases=aliases)


def enter(
    store: Store, recipe: Recipe, phase: PhaseConfig, model: Model, before: Checked, ledger: Ledger
) -> State:  # fmt: skip
    """The ledger's state with what is decided of a model, which is an entry unless nothing has changed."""
    while True:
        state = ledger.state()
        if stood(state, model):
            _tell_lapsed(Contest(store, recipe, phase, state.called(model), model, state))
            return state
        asked = asked_of(recipe, phase, model, _champion(state), before)
        last = state.judged.get(_digest(model))
        stands = last is not None and (last.outcome is not Outcome.HELD or bool(_wait(recipe, state, None)))
        if last is not None and stands and last.asked == asked and all(one.measured for one in last.gates):
            return state
        decided = judged(store, recipe, phase, model, before, state)
        if last is not None and (last.asked, last.gates, last.outcome) == (asked, decided.gates, decided.outcome):
            return state
        with contextlib.suppress(LedgerMoved):  # something else was decided meanwhile: look again
            return ledger.append("judged", decided, after=state)


def _tell_lapsed(contest: Contest) -> None:
    """Of the champion, which gates of the recipe it does not pass any more: they were changed since."""
    champion = contest.state.model
    lapsed = [one for one in own_gates(contest) if not one.passed]
    if lapsed and champion is not None and _digest(champion) == _digest(contest.model):
        _log.warning(
            "%s is the champion and does not pass %s as the recipe has it now; it stays, since somebody may serve it: "
            "k2 rollback takes it back", contest.name, "; ".join(f"{one.gate} ({one.said})" for one in lapsed),
        )  # fmt: skip


def judged(
    store: Store, recipe: Recipe, phase: PhaseConfig, model: Model, before: Checked, state: State,
    person: Person | None = None, measure: bool = False,
) -> Judged:  # fmt: skip
    """What comes of a model at its gates beside the champion of `state`; nothing is entered."""
    if person is not None and (unknown := person.waive - {*WAIVABLE}):
        raise NotPromotable(f"gate {min(unknown)} cannot be waived, expected {' or '.join(WAIVABLE)}: it says what the "
                            "model is, and not where it came from")  # fmt: skip
    name = f"{phase.name}@{model.version}"
    contest = Contest(store, recipe, phase, name, model, state, measure)
    gates, verdict = checked(contest, before, person.waive if person else frozenset())
    asked = asked_of(recipe, phase, model, _champion(state), before)
    found = Judged(model, phase.name, Outcome.REFUSED, "", gates, state.champion, verdict, asked)
    if person is not None:
        found = replace(found, who=person.who, why=person.why)
    if against := failing(gates):
        return replace(found, reason="; ".join(f"{one.gate}: {one.said}" for one in against))
    if waits := _wait(recipe, state, person):
        return replace(found, outcome=Outcome.HELD, reason=waits)
    beside = f"no worse than {state.called(state.model)}" if state.model else "the first of its line"
    waived = [one.gate for one in gates if one.waived]
    passed = f"{len(gates) - len(waived)} gates passed" + (f", {', '.join(waived)} waived" if waived else "")
    promoted = replace(model, turn=state.next_lifecycle)
    return replace(found, model=promoted, outcome=Outcome.PROMOTED, reason=f"{passed}; {beside}")


def _wait(recipe: Recipe, state: State, person: Person | None) -> str:
    """What a promotion waits for; "" where for nothing."""
    if state.open is not None:
        return f"turn {state.open.turn} of the line is under way; promote it when that has ended"
    if state.held:
        return f"turn {state.held[0]} of the line waits for a person; promote or decline that first"
    if recipe.promotion.approve and person is None:
        return "it waits for a person: the recipe asks for approval (promotion.approve)"
    return ""


def promote(
    store: Store, recipe: Recipe, ledger: Ledger, known: Judged, person: Person, measure: bool = False
) -> tuple[State, Judged]:
    """Judges a model anew, whatever was decided of it, and enters what came of it. Raises LedgerMoved where somebody
    else decided something meanwhile, NotPromotable for the champion itself."""
    state = ledger.state()
    if is_champion(state, known):
        raise NotPromotable(f"{known.name} is the champion of line '{state.line}' already")
    phase = recipe.phase(known.phase)
    found = judged(store, recipe, phase, replace(known.model, turn=0), before_in(known), state, person, measure)
    return ledger.append("judged", found, after=state), found


def decline(ledger: Ledger, known: Judged, person: Person) -> State:
    """Refuses a model that waits for a person."""
    state = ledger.state()
    if known.outcome is not Outcome.HELD:
        raise NotPromotable(f"{known.name} does not wait for a person: it is {known.outcome.value}")
    said = f"declined: {person.why}"
    refused = replace(known, outcome=Outcome.REFUSED, reason=said, champion=state.champion, who=person.who,
                      why=person.why)  # fmt: skip
    return ledger.append("judged", refused, after=state)


def bring(tracking_uri: str, store: Store, recipe: Recipe, ledger: Ledger) -> tuple[str, ...]:
    """Brings MLflow to what the ledger says; gives a sentence on each alias that somebody had moved by hand."""
    with store.lease(Identity("told", "1", {"line": ledger.line}), TELLING_SECONDS):
        return apply(tracking_uri, store, recipe, ledger).by_hand


def is_champion(state: State, known: Judged) -> bool:
    return state.model is not None and _digest(state.model) == known.digest


def stood(state: State, model: Model) -> bool:
    """Whether a lifecycle's model is the champion, or was."""
    return _digest(model) in {*_digests(state)}


def _digests(state: State) -> Iterator[str]:
    yield from (_digest(one) for turn, one in state.models.items() if turn <= 0)


def _champion(state: State) -> str:
    return _digest(state.model) if state.model is not None else ""


def _digest(model: Model) -> str:
    return model.made[f"{TUNED}/checkpoint"].digest
