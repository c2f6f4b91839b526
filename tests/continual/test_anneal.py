"""When a champion is annealed for a release, what the ledger says of it, and which champion is released then."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from k2model.artifacts import ArtifactRef, Identity, Step, Store, make
from k2model.continual import anneal
from k2model.continual import candidate as candidates
from k2model.continual.anneal import begin, on_constant
from k2model.continual.candidate import NotReleasable, candidate
from k2model.continual.continuation import continued
from k2model.continual.entries import Arrival, Contradiction, Rollback, Start, TurnBegan, ending
from k2model.continual.fold import fold
from k2model.continual.ledger import Ledger
from k2model.continual.notify import notice_of
from k2model.continual.start import NoChampion
from k2model.continual.state import BASE, TUNED, Annealed, Began, Model, Outcome, State
from k2model.continual.turn import Turn
from k2model.lifecycle import LifecyclePlan
from k2model.plain import from_plain, to_plain
from k2model.recipe.continual import BatchKind, ContinualConfig, GuardConfig, Rewarming
from k2model.recipe.laptop import smoke
from k2model.recipe.schema import ScheduleConfig, ScheduleShape
from tests.continual.samples import batch, began, corpus, ended, kickoff, model
from tests.continual.test_entries import begun, turn

MONTH = datetime(2026, 12, 1, 5, tzinfo=UTC)
CONSTANT = ScheduleConfig(ScheduleShape.INFINITE, constant_fraction=1.0)
ANNEALED = replace(CONSTANT, anneal_steps=3, final_fraction=0.1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def trained(store: Store, part: str, schedule: ScheduleConfig) -> ArtifactRef:
    """A checkpoint whose record says by which schedule it was trained."""
    phase = replace(smoke().phase("sft"), name=part, schedule=schedule)
    return make(store, Step(Identity("checkpoint", "1", {"phase": phase}, {}), lambda folder: {}))


def whole(store: Store, base: ScheduleConfig, tuned: ScheduleConfig, number: int = 0) -> Model:
    first = model(store, number)
    schedules = {BASE: base, TUNED: tuned}
    return replace(
        first,
        made={**first.made, **{f"{part}/checkpoint": trained(store, part, one) for part, one in schedules.items()}},
    )


DECAYED = ScheduleConfig(ScheduleShape.COSINE)


@pytest.mark.parametrize(
    ("base", "tuned", "kind"),
    [
        (DECAYED, DECAYED, None),
        (DECAYED, ANNEALED, None),
        (DECAYED, CONSTANT, BatchKind.TUNED),
        (CONSTANT, DECAYED, BatchKind.BASE),
        (CONSTANT, CONSTANT, BatchKind.BASE),
    ],
)
def test_what_is_on_its_constant_is_annealed_by_what_was_trained_and_not_by_todays_settings(
    store: Store, base: ScheduleConfig, tuned: ScheduleConfig, kind: BatchKind | None
) -> None:
    assert on_constant(store, whole(store, base, tuned)) is kind


def line_of(store: Store, first: Model, **changes: object) -> LifecyclePlan:
    config = ContinualConfig(tuned="sft", base="mid_4", rewarming=Rewarming.INFINITE)
    Ledger.open(store, "smoke").append("start", Start(first, corpus(store)), after=0)
    return LifecyclePlan(replace(smoke(), continual=replace(config, **changes)), store.uri)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tuned", "changes", "said"),
    [
        (DECAYED, {}, "is on no constant rate, and released as it stands"),
        (CONSTANT, {"anneal": 0.0}, r"released as it stands \(continual.anneal=0\)"),
    ],
)
def test_where_there_is_nothing_to_anneal_it_says_why(
    store: Store, monkeypatch: pytest.MonkeyPatch, tuned: ScheduleConfig, changes: dict[str, object], said: str
) -> None:
    monkeypatch.setattr(anneal, "check_champion", lambda *_: None)  # of samples there are no weights
    found, made = begin(line_of(store, whole(store, DECAYED, tuned), **changes), MONTH)
    assert (found.go, found.number, made) == ("", 0, {})
    assert re.search(said, found.reason)
    assert Ledger.open(store, "smoke").state().entries == 1, "nothing is entered"


def test_what_was_annealed_is_not_annealed_again_but_by_other_settings_and_within_the_budget(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anneal, "check_champion", lambda *_: None)
    line = line_of(store, whole(store, DECAYED, CONSTANT))

    def resumed(line: LifecyclePlan, state: State, began: Began) -> tuple[object, object]:
        plan = replace(line, recipe=continued(line.recipe, state, began, {}))
        return Turn(0, began.kickoff, began.kind.value, "", line, plan, began), {"tokens": "of it"}

    monkeypatch.setattr(anneal, "resumed", resumed)
    monkeypatch.setattr(anneal, "being_made", lambda *_: "")
    found, made = begin(line, MONTH)
    assert found.go == "tuned" and found.began is not None and not found.began.batches and made
    steps = [phase.tokens for phase in found.plan.recipe.phases]
    ledger = Ledger.open(store, "smoke")
    ledger.append("annealed", replace(annealed(store, 0), asked=anneal._asked(found)), after=1)
    again, made = begin(line, MONTH)
    assert (again.go, made) == ("", {}) and "was annealed already: released in its champion's place" in again.reason
    other = replace(line, recipe=replace(line.recipe, continual=replace(line.recipe.continual, anneal=1.0)))
    assert begin(other, MONTH)[0].go == "tuned", "another anneal"
    limited = replace(other.recipe.continual, guard=GuardConfig(budget_tokens=sum(steps), budget_days=1000.0))
    tight = replace(other, recipe=replace(other.recipe, continual=limited))
    said = begin(tight, MONTH)[0].reason
    assert "released as it stands: to anneal the lifecycle's model takes" in said, "the one before has spent of it"


def test_without_a_champion_nothing_is_annealed(store: Store) -> None:
    with pytest.raises(NoChampion):
        begin(LifecyclePlan(replace(smoke(), continual=ContinualConfig(tuned="sft")), store.uri), MONTH)


# The ledger.


def annealed(store: Store, champion: int, outcome: Outcome = Outcome.ANNEALED) -> Annealed:
    done = replace(ended(store, champion, outcome), kickoff=kickoff(20), champion=champion)
    assert done.challenger is not None
    done = replace(done, challenger=replace(done.challenger, version=0))
    return Annealed(replace(began(champion, champion=champion), kickoff=kickoff(20)), done, "by these settings")


def test_an_anneal_moves_neither_champion_nor_batches_and_the_last_one_counts(store: Store) -> None:
    before = turn(store, begun(store, "a"), Outcome.PROMOTED, "a")
    state = fold(before, [annealed(store, 1, Outcome.REFUSED), annealed(store, 0)])
    assert replace(state, anneals={}) == before
    assert {champion: one.ended.outcome.value for champion, one in state.anneals.items()} == {
        1: "refused",
        0: "annealed",
    }
    assert fold(state, [annealed(store, 1)]).anneals[1].ended.outcome is Outcome.ANNEALED
    plain = json.loads(json.dumps(to_plain(annealed(store, 1))))
    assert from_plain(Annealed, plain, store.uri).began == annealed(store, 1).began


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: replace(one, began=replace(one.began, champion=7)), "turn 7 has no promoted model"),
        (lambda one: replace(one, began=replace(one.began, batches=("a",))), "on no new data, got batches a"),
        (lambda one: replace(one, ended=replace(one.ended, outcome=Outcome.PROMOTED)), "got promoted"),
        (lambda one: replace(one, ended=replace(one.ended, verdict=None)), "ends with a verdict"),
        (lambda one: replace(one, ended=replace(one.ended, challenger=None)), "gives a model of that turn"),
    ],
)
def test_an_anneal_that_does_not_fit_is_refused(store: Store, change: object, said: str) -> None:
    with pytest.raises(Contradiction, match=said):
        fold(begun(store), [change(annealed(store, 0))])  # type: ignore[operator]


def test_no_turn_ends_as_an_anneal(store: Store) -> None:
    with pytest.raises(Contradiction, match="turn 1 ends as an anneal"):
        turn(store, begun(store, "a"), Outcome.ANNEALED, "a")


def test_people_are_told_of_an_anneal_and_whether_it_is_released(store: Store) -> None:
    ledger = Ledger.open(store, "line")
    ledger.append("start", Start(model(store), corpus(store)), after=0)
    ledger.append("annealed", annealed(store, 0, Outcome.REFUSED), after=1)
    *_, entry = ledger.entries()
    notice = notice_of(store, "line", entry)
    assert notice is not None and notice.content["kind"] == "annealed"
    assert "the lifecycle's, annealed: worse than its champion, which is released as it stands: because" in notice.text


def test_of_a_champion_that_another_has_replaced_meanwhile_the_candidate_is_made_and_of_one_rolled_back_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = line_of(store, whole(store, DECAYED, CONSTANT))
    ledger = Ledger.open(store, "smoke")
    for number, name in enumerate(("a", "b"), 1):
        state = ledger.append("arrival", Arrival(kickoff(number), batch(store, name)), after=ledger.state())
        state = ledger.append("turn_began", TurnBegan(began(number, name, champion=number - 1)), after=state)
        corpora = state.models[number - 1].corpora
        done = ended(store, number, Outcome.PROMOTED, name, corpora=corpora)
        state = ledger.append("turn_ended", ending(state, done, 2), after=state)
    asked: list[tuple[int | None, int]] = []

    def lifecycle(store: Store, recipe: object, first: Model) -> object:
        raise NotReleasable("far enough")

    stood = candidates._stood

    def as_it_stood(ledger: Ledger, champion: int | None) -> State:
        state = stood(ledger, champion)
        asked.append((state.champion, state.entries))
        return state

    monkeypatch.setattr(candidates, "_lifecycle", lifecycle)
    monkeypatch.setattr(candidates, "_stood", as_it_stood)
    for champion in (None, 2, 1, 0):
        with pytest.raises(NotReleasable, match="far enough"):
            candidate(line, champion)
    assert asked == [(2, 7), (2, 7), (1, 6), (0, 3)], "as it stood when it was last the champion's"
    ledger.append("rollback", Rollback(0, "it is worse"), after=7)
    with pytest.raises(NotReleasable, match="far enough"):
        candidate(line, 1)
    assert asked[-1] == (0, 8), "one that was rolled back is not gone back to"


def test_the_verdict_of_an_anneal_is_an_entry_of_its_own(store: Store) -> None:
    """Two runs that end at once enter it once, and other settings enter another."""
    line = line_of(store, whole(store, DECAYED, CONSTANT))
    ledger = Ledger.open(store, line.recipe.name)
    first = annealed(store, 0)
    state = ledger.append("annealed", first, after=1)
    assert anneal._entered(state, first) is not None
    assert anneal._entered(state, replace(first, asked="otherwise")) is None
    assert anneal.stands_for(state.anneals[0]) and not anneal.stands_for(annealed(store, 0, Outcome.REFUSED))
    none = replace(line.recipe, continual=replace(line.recipe.continual, anneal=0.0))
    assert anneal.annealed(line.recipe, ledger, 0) == state.anneals[0] and anneal.annealed(none, ledger, 0) is None
