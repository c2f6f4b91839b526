"""Turns and anneals held to the gates on artifacts that lifecycles are held to, and what a person's yes does to them.

A verdict is on what a model can do. One that speaks for a challenger is followed where its artifacts are what they are
taken for, too: what is not whole, or says something else than what was trained, is refused; what only a person can
settle (code of no clean commit, or a parity that nobody has measured) waits for one. Killed in between, a turn finds
the same: what is measured is an artifact, and all else is read anew.

Contamination is not asked of a turn. Its rows are drawn from batches, which the gate of arrivals has taken evaluation
items out of, and from corpora that curation has; to look the items up would read every old text again in each turn. A
release does it.
"""

from dataclasses import replace

from k2model.artifacts import ArtifactRef, Store, make
from k2model.continual.entries import Promote
from k2model.continual.state import Checked, Ended, Model, Outcome, State
from k2model.continual.verdict.artifact_gates import Asked, artifact_gates, measured_in_place
from k2model.continual.verdict.canary import damaged
from k2model.continual.verdict.parity import parity_step
from k2model.recipe import Recipe


def measure_parity(store: Store, recipe: Recipe, checkpoint: ArtifactRef, export: ArtifactRef) -> None:
    """Measures what the gate `parity` reads, of a small model whose files are whole, where what runs it is
    installed."""
    wanted = recipe.promotion.parity and measured_in_place(recipe)
    if wanted and not any(damaged(store, ref) for ref in (checkpoint, export)):
        make(store, parity_step(store, recipe.model, checkpoint, export))


def gates_of(
    store: Store, recipe: Recipe, turn: int, challenger: Model, champion: Model, measure: bool = False
) -> tuple[Checked, ...]:
    """The gates on the artifacts of a turn's challenger. measure: whatever it takes; a small model's always are."""
    command = f"k2 promote {turn}"
    remedy = f"{command} --measure does it, on a machine that holds the model"
    return tuple(artifact_gates(Asked(store, recipe, challenger, command, remedy, measure, champion)))


def held_to_gates(store: Store, recipe: Recipe, ended: Ended, champion: Model) -> Ended:
    """A turn, or an anneal, with what is found of its artifacts. One that its verdict is against stays as it is; an
    anneal that does not pass is refused, since nobody waits for it: its champion is released."""
    if ended.outcome is Outcome.REFUSED or ended.challenger is None:
        return ended
    gates = gates_of(store, recipe, ended.turn, ended.challenger, champion)
    against = [one for one in gates if not one.passed]
    if not against:
        return replace(ended, gates=gates)
    said = "; ".join(f"{one.gate}: {one.said}" for one in against)
    if ended.outcome is not Outcome.ANNEALED and all(one.waits for one in against):
        return replace(ended, outcome=Outcome.HELD, reason=f"{said}. By its verdict {ended.reason}", gates=gates)
    return replace(ended, outcome=Outcome.REFUSED, reason=said, gates=gates)


def approved(
    store: Store, recipe: Recipe, state: State, turn: int, reason: str, who: str = "", measure: bool = False
) -> Promote:
    """A person's yes to a held turn, whose artifacts are asked once more. One who says who it is and why lets gates
    pass that can be; whether it is enough is the ledger's to say (`fold`)."""
    ended = next((one for one in state.turns if one.turn == turn and turn in state.held), None)
    if ended is None or ended.challenger is None or ended.champion is None:
        return Promote(turn, reason, who)  # which no ledger takes
    gates = gates_of(store, recipe, turn, ended.challenger, state.models[ended.champion], measure)
    named = bool(who.strip() and reason.strip())
    waived = (replace(one, waived=named and not one.passed and one.waivable) for one in gates)
    return Promote(turn, reason, who, tuple(waived))
