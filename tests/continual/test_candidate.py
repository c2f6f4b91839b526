"""What a release of a line is made of. The whole of one takes a lifecycle and a turn that promotes, which no test here
has."""

from dataclasses import replace
from pathlib import Path

import pytest

from k2model.artifacts import Identity, Step, Store, make
from k2model.continual.candidate import NotReleasable, candidate, state_after
from k2model.continual.entries import Arrival, Start, TurnBegan, ending
from k2model.continual.ledger import Ledger
from k2model.continual.start import NoChampion
from k2model.continual.state import Outcome, State
from k2model.lifecycle import LifecyclePlan
from k2model.recipe import load_recipe
from tests.continual.samples import batch, began, corpus, ended, kickoff, model


@pytest.fixture
def line(tmp_path: Path) -> LifecyclePlan:
    return LifecyclePlan(load_recipe("smoke"), Store.open(tmp_path / "store").uri)


def begun(line: LifecyclePlan) -> Ledger:
    store = Store.open(line.store)
    ledger = Ledger.open(store, line.recipe.name)
    ledger.append("start", Start(model(store), corpus(store)), after=0)
    return ledger


def test_what_a_ledger_said_earlier_is_what_it_said_then(line: LifecyclePlan) -> None:
    ledger = begun(line)
    store, said = ledger.store, [State(line.recipe.name), ledger.state()]
    arrival = Arrival(kickoff(1), replace(batch(store, "one"), corpus=corpus(store, "one")))
    said.append(ledger.append("arrival", arrival, after=1))
    said.append(ledger.append("turn_began", TurnBegan(began(1, "one")), after=2))
    done = replace(ended(store, 1, Outcome.PROMOTED, "one"), challenger=model(store, 1, ("lifecycle", "one")))
    said.append(ledger.append("turn_ended", ending(said[-1], done, 2), after=3))
    again = Ledger.open(store, line.recipe.name)
    assert [state_after(again, entries) for entries in range(5)] == said
    assert (said[3].champion, said[4].champion, said[4].before) == (0, 1, (0,))


def test_without_a_champion_nothing_is_released(line: LifecyclePlan) -> None:
    with pytest.raises(NoChampion):
        candidate(line)


def test_a_lifecycle_that_was_never_released_has_to_be_first(line: LifecyclePlan) -> None:
    begun(line)
    with pytest.raises(NotReleasable, match=r"has no release of the lifecycle that line 'smoke' began with; run that"):
        candidate(line)


def test_a_recipe_whose_phases_have_changed_since_is_told_by_the_phase(line: LifecyclePlan) -> None:
    """A release is there, of other checkpoints than this recipe's phases would train."""
    store = Store.open(line.store)

    def made(step: str, **inputs: object) -> object:
        return make(store, Step(Identity(step, "1", {}, inputs), lambda folder: {}))  # type: ignore[arg-type]

    sequences = made("sequences")
    checkpoint = made("checkpoint", sequences=sequences)
    names = [phase.name for phase in line.recipe.phases]
    inputs = {f"{name}.checkpoint": checkpoint for name in names} | {f"{name}.sequences": sequences for name in names}
    made("release", report=made("report"), **inputs)
    first = model(store)
    ledger = Ledger.open(store, line.recipe.name)
    start = Start(replace(first, made={**first.made, "tuned/checkpoint": checkpoint}), corpus(store))  # type: ignore[dict-item]
    ledger.append("start", start, after=0)
    with pytest.raises(NotReleasable, match=r"phase 'pretrain' of recipe 'smoke' is not what the lifecycle trained"):
        candidate(line)
