"""The anneal before a release: a champion on the constant of an infinite schedule comes down from it, on replay alone.

A line whose turns all end at one learning rate goes on from the champion as it is, and what is given to others has the
rate brought down first (Ibrahim et al., arXiv:2403.08763). So a release candidate is the champion annealed: trained,
exported, scored and tested by the steps of a turn (`k2model.continual.turn`) without batches, and held to the champion
by the same verdict, of which nothing is asked but to be no worse, and by the gates on artifacts. It never becomes the
champion. One entry of the ledger says what came of it; where it is worse, the champion is released as it stands.

What has the constant is annealed: the base where it has, behind which fine-tuning is run again, so that what is
released is always a whole model; else what is tuned.
"""

import contextlib
from dataclasses import replace
from datetime import datetime

from k2model.artifacts import Store, fingerprint
from k2model.continual.continuation import ContinuationError, ends_on_constant
from k2model.continual.guard import over_budget
from k2model.continual.ledger import Ledger, LedgerMoved
from k2model.continual.start import NoChampion
from k2model.continual.state import BASE, TUNED, Annealed, Began, Ended, Model, Outcome, State, moment
from k2model.continual.turn import Made, Turn, being_made, challenger_of, opened, resumed
from k2model.continual.turn_gates import held_to_gates
from k2model.continual.verdict.comparison import read_verdict
from k2model.continual.watch import check_champion, told
from k2model.errors import LeaseHeld
from k2model.lifecycle import LifecyclePlan
from k2model.plain import from_plain
from k2model.recipe import Recipe
from k2model.recipe.continual import BatchKind
from k2model.recipe.fields import without_places
from k2model.recipe.schema import ScheduleConfig


def begin(line: LifecyclePlan, kickoff: datetime) -> tuple[Turn, Made]:
    """The anneal of the champion, and what it starts from; its `go` is "" where there is none to make, for `reason`.
    Its `number` is the champion's turn, either way: what is promoted meanwhile is the next candidate's.

    Raises NoChampion, ChampionDamaged, and LeaseHeld where another run is at the same anneal.
    """
    ledger = opened(line)
    state, store, config = ledger.state(), ledger.store, line.recipe.continual
    if state.champion is None:
        raise NoChampion(f"line '{state.line}' has no champion to release")
    idle = Turn(state.champion, kickoff.isoformat(), "", "", line, line)
    check_champion(store, state)
    model = state.models[state.champion]
    kind = on_constant(store, model)
    if kind is None or (kind is BatchKind.BASE and not config.base):
        return replace(idle, reason=f"{model.name} model is on no constant rate, and released as it stands"), {}
    if not config.anneal:
        return replace(idle, reason=f"{model.name} model is released as it stands (continual.anneal=0)"), {}
    try:
        found, made = resumed(line, state, Began(model.turn, idle.kickoff, kind, (), model.turn))
    except ContinuationError as error:
        return replace(idle, reason=f"{model.name} model is released as it stands: {error}"), {}
    before = state.anneals.get(model.turn)
    if before is not None and before.asked == _asked(found):
        said = f"it was annealed already: {before.ended.released}: {before.ended.reason}"
        return replace(idle, reason=f"{model.name} model: {said}"), {}
    wanted = sum(phase.tokens for phase in found.plan.recipe.phases)
    if problem := over_budget(line.recipe, state, kind, wanted, moment(kickoff), f"to anneal {model.name} model"):
        return replace(idle, reason=f"{model.name} model is released as it stands: {problem}"), {}
    if other := being_made(found, made):
        raise LeaseHeld(f"{model.name} model is being annealed by another run, which releases it: {other}")
    return found, made


def on_constant(store: Store, model: Model) -> BatchKind | None:
    """What of a model ended at the constant of an infinite schedule, by the records of its checkpoints: its base, else
    what is tuned, or None."""
    for kind, part in ((BatchKind.BASE, BASE), (BatchKind.TUNED, TUNED)):
        if checkpoint := model.made.get(f"{part}/checkpoint"):
            trained = store.record(checkpoint)["config"]["phase"]["schedule"]
            if ends_on_constant(from_plain(ScheduleConfig, trained)):
                return kind
    return None


def _asked(turn: Turn) -> str:
    """Fingerprint of what an anneal is trained by and held to."""
    recipe, config = turn.plan.recipe, turn.line.recipe.continual
    promotion = turn.line.recipe.promotion
    bounds = [config.allowed_loss, config.default_loss, config.confidence, promotion.parity, promotion.provenance]
    asked = [without_places(recipe.evaluation), without_places(recipe.safety), turn.line.recipe.gates, bounds]
    return fingerprint([recipe.phases, *asked])


def enter(turn: Turn, made: Made, tracking_uri: str) -> str:
    """Enters into the ledger what came of an anneal, brings MLflow and people up to date, and says it."""
    assert turn.began is not None, "there was nothing to anneal"
    ledger, found = turn.ledger(), read_verdict(turn.store, made["verdict"])
    tokens = sum(phase.tokens for phase in turn.plan.recipe.phases)
    ended = Ended(
        turn.number, turn.kickoff, found.outcome, found.reason, (), challenger_of(turn, made), made["verdict"], tokens,
        turn.number,
    )  # fmt: skip
    ended = held_to_gates(turn.store, turn.line.recipe, ended, turn.champion())
    content = Annealed(turn.began, ended, _asked(turn))
    while _entered(ledger.state(), content) is None:
        with contextlib.suppress(LedgerMoved):  # a turn has ended, or arrivals were entered: look again
            ledger.append("annealed", content, after=ledger.state())
    return told(turn.line, tracking_uri, f"{found.challenger}: {ended.released}: {ended.reason}")


def _entered(state: State, content: Annealed) -> Annealed | None:
    before = state.anneals.get(content.began.champion)
    return before if before is not None and before.asked == content.asked else None


def annealed(recipe: Recipe, ledger: Ledger, champion: int) -> Annealed | None:
    """What a release of a champion goes by; None where it was not annealed, or the recipe does not ask for it."""
    return ledger.state().anneals.get(champion) if recipe.continual.anneal else None


def stands_for(found: Annealed | None) -> bool:
    """Whether the annealed model is released in its champion's place."""
    return found is not None and found.ended.outcome is Outcome.ANNEALED
