"""A line at work with others: writers between a look and its entry, two at once, and what is at a turn already."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from k2model.artifacts import Store
from k2model.continual import turn as turns
from k2model.continual import watch
from k2model.continual.continuation import ContinuationError
from k2model.continual.entries import Arrival, Start, TurnBegan, ending
from k2model.continual.guard import guard
from k2model.continual.ledger import Ledger
from k2model.continual.state import Ended, Model, Outcome, State
from k2model.continual.turn import begin, opened
from k2model.lifecycle import LifecyclePlan
from k2model.recipe.continual import ContinualConfig, GuardConfig
from k2model.recipe.laptop import smoke
from tests.continual import small_line
from tests.continual.samples import batch, began, corpus, model, standings

NIGHT = datetime(2026, 11, 3, 2, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def line(store: Store) -> LifecyclePlan:
    return LifecyclePlan(replace(smoke(), continual=ContinualConfig(tuned="sft", base="mid_4")), store.uri)


@pytest.fixture
def ledger(store: Store) -> Ledger:
    ledger = Ledger.open(store, "smoke")
    ledger.append("start", Start(model(store), corpus(store)), after=0)
    return ledger


def arrived(store: Store, name: str) -> None:
    """As an hourly run of arrivals, another process."""
    other = Ledger.open(store, "smoke")
    other.append("arrival", Arrival("2026-11-03T02:00:00Z", batch(store, name)), after=other.state())


def test_a_turn_looks_again_when_arrivals_are_entered_while_it_decides(
    store: Store, line: LifecyclePlan, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def guarded(recipe: object, state: State, *rest: object) -> object:
        seen.append(state.entries)
        if len(seen) == 1:
            arrived(store, "monday")
        return guard(recipe, state, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(turns, "guard", guarded)
    monkeypatch.setattr(turns, "continuation", lambda *_: (_ for _ in ()).throw(ContinuationError("too long")))
    found, _ = begin(line, NIGHT)
    assert seen == [1, 2] and "too long" in found.reason, "what came meanwhile was looked at"


def test_a_turn_of_which_no_recipe_can_be_made_is_not_begun(
    store: Store, line: LifecyclePlan, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived(store, "monday")
    said = ContinuationError("most documents of monday are longer than a row")
    monkeypatch.setattr(turns, "continuation", lambda *_: (_ for _ in ()).throw(said))
    for day in range(2):
        found, _ = begin(line, NIGHT + timedelta(days=day))
        assert (found.go, found.number) == ("", day + 1) and "longer than a row" in found.reason
    state = ledger.state()
    assert state.open is None and [turn.outcome for turn in state.turns] == [Outcome.IDLE] * 2


def test_a_line_is_begun_by_one_of_two_at_once(
    store: Store, line: LifecyclePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(*_: object) -> Start:
        other = Ledger.open(store, "smoke")
        other.append("start", Start(model(store), corpus(store)), after=0)
        return Start(model(store), corpus(store))

    monkeypatch.setattr(turns, "start", found)
    assert opened(line).state().entries == 1


def test_a_line_of_another_store_is_another_line(tmp_path: Path, ledger: Ledger) -> None:
    both = (ledger, Ledger.open(Store.open(tmp_path / "other"), "smoke"))
    for one in both:
        turns._take(one)
    assert all(one.lease().held for one in both)
    for one in both:
        turns.leave(one)
    assert not any(one.lease().held for one in both)


def test_a_budget_of_money_is_held_to_what_a_token_of_the_plan_costs(
    store: Store, line: LifecyclePlan, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived(store, "monday")
    monkeypatch.setattr(turns, "continuation", lambda *_: (_ for _ in ()).throw(ContinuationError("too long")))
    cluster = replace(line.recipe.cluster, gpu="H200", price_per_gpu_hour=2.5)
    for budget, said in ((1e-12, "costs"), (1e12, "too long")):
        guarded = replace(line.recipe.continual, guard=GuardConfig(budget_money=budget))
        priced = replace(line, recipe=replace(line.recipe, cluster=cluster, continual=guarded))
        found, _ = begin(priced, NIGHT + timedelta(days=budget > 1))
        assert said in found.reason, "only what can be paid for is asked for its recipe"


def damaged(store: Store, one: Model) -> None:
    weights = Path(one.made["tuned/export"].uri) / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-4] + b"ruin")


def test_damaged_weights_give_up_an_open_turn_and_without_another_model_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = small_line.Line.at(tmp_path)
    unsigned = GuardConfig(unsigned=True)  # the corpora of a small line have no signatures
    line = LifecyclePlan(small_line.recipe(guard=unsigned), small.store.uri)
    first, second = (small.model(turn, True) for turn in (0, 1))
    ledger = Ledger.open(small.store, "line")
    state = ledger.append("start", Start(first, small.corpus), after=0)
    for number, name in enumerate(("monday", "tuesday"), 1):
        arrival = replace(batch(small.store, name), corpus=replace(small.corpus, name=name))
        state = ledger.append("arrival", Arrival("2026-11-03T01:00:00Z", arrival), after=state)
        state = ledger.append("turn_began", TurnBegan(began(number, name, champion=number - 1)), after=state)
        if number == 1:
            promoted = Ended(1, "2026-11-03T02:00:00Z", Outcome.PROMOTED, "better", (name,), second)
            state = ledger.append("turn_ended", ending(state, promoted, 2), after=state)
    damaged(small.store, second)
    state = watch.watched(line.recipe, ledger, "2026-11-04T02:00:00Z")
    assert (state.champion, state.open) == (0, None)
    assert standings(state.batches) == {"monday": "set aside", "tuesday": "waiting"}
    damaged(small.store, first)
    monkeypatch.setattr(turns, "continuation", lambda *_: line.recipe)  # of samples without tokens there is none
    with pytest.raises(watch.ChampionDamaged, match=r"none before it.*model\.safetensors"):
        begin(line, NIGHT + timedelta(days=2))
    assert ledger.state() == state, "nothing was begun"
    assert not ledger.lease().held


def test_a_kickoff_that_was_handled_asks_for_no_canary(tmp_path: Path) -> None:
    small = small_line.Line.at(tmp_path)
    line = LifecyclePlan(small_line.recipe(), small.store.uri)
    ledger = Ledger.open(small.store, "line")
    state = ledger.append("start", Start(small.model(0, True), small.corpus), after=0)
    arrival = replace(batch(small.store, "monday"), corpus=replace(small.corpus, name="monday"))
    state = ledger.append("arrival", Arrival("2026-11-03T01:00:00Z", arrival), after=state)
    state = ledger.append("turn_began", TurnBegan(began(1, "monday")), after=state)
    promoted = Ended(1, NIGHT.isoformat(), Outcome.PROMOTED, "better", ("monday",), small.model(1, True))
    ledger.append("turn_ended", ending(state, promoted, 2), after=state)
    assert not watch.wants_canary(line, NIGHT)
    assert watch.wants_canary(line, NIGHT + timedelta(days=1))
