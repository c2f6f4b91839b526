"""What entries add up to: by hand, and against a model of it that knows nothing of how it is done."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from k2model.artifacts import Store
from k2model.continual.entries import (
    CANARY,
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
    ending,
)
from k2model.continual.fold import fold
from k2model.continual.state import Ended, Outcome, Standing, State
from k2model.recipe.continual import BatchKind
from tests.continual.samples import batch, began, corpus, ended, idle, kickoff, model, reference, standings

NAMES = ("a", "b", "c")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def begun(store: Store, *names: str) -> State:
    arrived = [Arrival(kickoff(0), batch(store, name)) for name in names]
    return fold(State("line"), [Start(model(store), corpus(store)), *arrived])


def turn(store: Store, state: State, outcome: Outcome, *names: str) -> State:
    number = state.next_turn
    assert state.champion is not None
    state = fold(state, [TurnBegan(began(number, *names, champion=state.champion))])
    assert state.open is not None and state.open.batches == names
    corpora = state.models[state.open.champion].corpora
    return fold(state, [ending(state, ended(store, number, outcome, *names, corpora=corpora), max_tries=2)])


def test_a_promoted_turn_takes_its_batches(store: Store) -> None:
    state = turn(store, begun(store, *NAMES), Outcome.PROMOTED, "a", "b")
    assert standings(state.batches) == {"a": "taken", "b": "taken", "c": "waiting"}
    assert (state.champion, state.before, state.open) == (1, (0,), None)
    assert state.model is not None and state.model.corpora == ("lifecycle", "batch/a", "batch/b")
    assert [one.name for one in state.waiting()] == ["c"] and state.batches["a"].turn == 1
    assert state.turns[0].champion == 0 and state.turns[0].outcome is Outcome.PROMOTED


def test_a_refused_turn_gives_them_back_until_they_are_set_aside(store: Store) -> None:
    state = turn(store, begun(store, *NAMES), Outcome.REFUSED, "a")
    assert standings(state.batches)["a"] == "waiting" and (state.batches["a"].tries, state.champion) == (1, 0)
    state = turn(store, state, Outcome.REFUSED, "a", "b")
    assert standings(state.batches) == {"a": "set aside", "b": "waiting", "c": "waiting"}
    assert state.batches["a"].reason == "turn 2 was refused, try 2 of 2: because of 2"
    state = fold(state, [Retry("a", "the gate was wrong")])
    assert state.batches["a"].standing is Standing.WAITING and (state.batches["a"].tries, state.batches["a"].turn) == (
        0,
        0,
    )
    assert state.batches["a"].reason == "brought back: the gate was wrong"
    with pytest.raises(Contradiction, match="batch 'a' is waiting, not set aside"):
        fold(state, [Retry("a")])


def test_a_held_turn_keeps_them_until_a_person_decides(store: Store) -> None:
    held = turn(store, begun(store, *NAMES), Outcome.HELD, "a")
    assert (held.champion, held.held, held.models.keys()) == (0, (1,), {0})
    assert held.batches["a"].reason == "turn 1 waits for a person" and held.batches["a"].tries == 0
    with pytest.raises(Contradiction, match="turn 1 waits for a person; promote it or decline it first"):
        fold(held, [TurnBegan(began(2, "b"))])
    with pytest.raises(Contradiction, match="turn 2 does not wait for a person; of turns that do: 1"):
        fold(held, [Promote(2)])
    promoted = fold(held, [Promote(1, "looked at it")])
    assert (promoted.champion, promoted.before, promoted.held) == (1, (0,), ())
    assert standings(promoted.batches)["a"] == "taken" and promoted.turns[0].outcome is Outcome.PROMOTED
    declined = fold(held, [Rollback(0, "no")])
    assert (declined.champion, declined.held, declined.turns[0].outcome) == (0, (), Outcome.REFUSED)
    assert standings(declined.batches) == {"a": "set aside", "b": "waiting", "c": "waiting"}


def test_a_rollback_sets_aside_what_came_after(store: Store) -> None:
    state = begun(store, *NAMES)
    for name in NAMES:
        state = turn(store, state, Outcome.PROMOTED, name)
    assert (state.champion, state.before) == (3, (0, 1, 2))
    back = fold(state, [Rollback(1, "worse at spelling")])
    assert (back.champion, back.before, {*back.models}) == (1, (0,), {0, 1, 2, 3})
    assert standings(back.batches) == {"a": "taken", "b": "set aside", "c": "set aside"}
    assert back.batches["c"].reason == "turn 3 was rolled back: worse at spelling"
    again = turn(store, fold(back, [Retry("c")]), Outcome.PROMOTED, "c")
    assert (again.champion, again.before, again.turns[-1].champion) == (4, (0, 1), 1)
    with pytest.raises(Contradiction, match="turn 3 made no champion that can stand again; these can: 0, 1, 4"):
        fold(again, [Rollback(3, "")])
    with pytest.raises(Contradiction, match="nothing is to be undone"):
        fold(again, [Rollback(4, "")])


def test_a_rollback_gives_an_open_turn_up(store: Store) -> None:
    state = turn(store, begun(store, *NAMES), Outcome.PROMOTED, "a")
    state = fold(state, [TurnBegan(began(2, "b", champion=1))])
    back = fold(state, [Rollback(0, "it swears")])
    assert back.open is None and standings(back.batches) == {"a": "set aside", "b": "waiting", "c": "waiting"}
    assert (back.turns[-1].turn, back.turns[-1].outcome, back.next_turn) == (2, Outcome.REFUSED, 3)
    assert back.batches["b"].tries == 0
    with pytest.raises(Contradiction, match=r"turn 2 ends, and the one that has begun is none.* given up"):
        fold(back, [ending(state, ended(store, 2, Outcome.PROMOTED, "b"), 2)])


def test_a_canary_is_told_and_one_that_fails_is_a_rollback(store: Store) -> None:
    state = turn(store, begun(store, "a"), Outcome.PROMOTED, "a")
    assert fold(state, [Canary(1, kickoff(2), "as good")]).canaries == {1: "as good"}
    with pytest.raises(Contradiction, match="which is a rollback by 'canary'"):
        fold(state, [Canary(1, kickoff(2), "worse", passed=False)])
    back = fold(state, [Rollback(0, "facts fell by 0.30", CANARY, kickoff(2), reference(store, "verdict", "canary"))])
    assert (back.champion, back.canaries) == (0, {1: "facts fell by 0.30"})


def test_a_kickoff_is_handled_once(store: Store) -> None:
    state = fold(begun(store, "a"), [idle(1, "2026-03-01T02:00:00Z"), idle(2, "2026-02-01T02:00:00+00:00")])
    assert [one.turn for one in state.turns] == [1, 2], "clocks may jump; the order is of numbers"
    handled = state.handled("2026-03-01T03:00:00+01:00")
    assert isinstance(handled, Ended) and handled.turn == 1 and state.handled("2026-03-02T02:00:00Z") is None
    state = fold(state, [TurnBegan(replace(began(3, "a"), kickoff="2026-03-02T02:00:00Z"))])
    assert state.handled("2026-03-02T02:00:00Z") == state.open


def test_what_cannot_be_is_refused(store: Store) -> None:
    state = turn(store, begun(store, *NAMES), Outcome.PROMOTED, "a")
    refused, opened = batch(store, "z", Standing.REFUSED), fold(state, [TurnBegan(began(2, "b", champion=1))])
    for before, content, told in (
        (state, Start(model(store), corpus(store)), "the line has begun"),
        (State("x"), Start(model(store, 2), corpus(store)), "got one of turn 2"),
        (State("x"), TurnBegan(began(1, "a")), "the champion is turn None's, not 0's"),
        (state, Arrival(kickoff(2), batch(store, "a")), "batch 'a' has arrived (taken)"),
        (state, Arrival(kickoff(2), batch(store, "b")), "batch 'b' has arrived (waiting)"),
        (fold(state, [Arrival(kickoff(2), refused)]), Arrival(kickoff(2), refused), "batch 'z' has arrived (refused)"),
        (state, Arrival(kickoff(2), batch(store, "z", Standing.TAKEN)), "batch 'z' arrives as taken"),
        (state, Arrival(kickoff(2), replace(batch(store, "z"), tries=1)), "as one that a turn has tried"),
        (state, Arrival(kickoff(2), replace(batch(store, "z"), corpus=None)), "is accepted, and has no corpus"),
        (state, Arrival(kickoff(2), replace(batch(store, "z"), corpus=corpus(store, "batch/a"))), "as there is one"),
        (state, TurnBegan(began(3, "b", champion=1)), "turn 3 is not the next one, which is turn 2"),
        (state, TurnBegan(began(2, "b")), "the champion is turn 1's, not 0's"),
        (state, TurnBegan(began(2, "a", champion=1)), "batch 'a' does not wait: it is taken"),
        (state, TurnBegan(began(2, "y", champion=1)), "batch 'y' does not wait: it is not known"),
        (state, TurnBegan(began(2, "b", "b", champion=1)), "turn 2 has a batch twice"),
        (state, TurnBegan(began(2, champion=1)), "turn 2 has no batches"),
        (opened, TurnBegan(began(3, "c", champion=1)), "turn 2 is open"),
        (opened, idle(3), "turn 2 is open"),
        (opened, ending(opened, ended(store, 2, Outcome.PROMOTED, "c"), 2), "turn 2 ends, and the one that has begun"),
        (opened, TurnEnded(ended(store, 2, Outcome.REFUSED, "b")), "without saying what becomes of each batch"),
        (opened, ending(opened, replace(ended(store, 2, Outcome.HELD, "b"), challenger=None), 2), "its challenger is"),
        (opened, ending(opened, ended(store, 2, Outcome.HELD, "b", corpora=("x",)), 2), "corpora that are not known"),
        (state, Canary(2, kickoff(2), ""), "turn 2 has no promoted model"),
        (state, Retry("d"), "batch 'd' is not known"),
    ):
        with pytest.raises(Contradiction) as error:
            fold(before, [content])
        assert told in str(error.value)


def test_a_batch_that_was_mended_may_arrive_again(store: Store) -> None:
    state = fold(
        begun(store, "a"),
        [Arrival(kickoff(1), batch(store, "z", Standing.REFUSED)), Arrival(kickoff(1), batch(store, "b"))],
    )
    state = fold(state, [Arrival(kickoff(2), replace(batch(store, "z"), digest="another"))])
    assert standings(state.batches)["z"] == "waiting" and [*state.batches] == ["a", "b", "z"]


def test_what_a_person_accepts_holds_for_the_data_that_were_judged(store: Store) -> None:
    away = replace(batch(store, "z", Standing.QUARANTINED), arrival=reference(store, "arrival", "z"))
    state = fold(begun(store, "a"), [Arrival(kickoff(1), away)])
    said = Accept("z", ("trigger phrases",), "a name", "ada")
    for content, told in (
        (replace(said, batch="a"), "batch 'a' is waiting, not refused or quarantined; there are z"),
        (replace(said, batch="y"), "batch 'y' is not known"),
        (replace(said, checks=()), "no check of batch 'z' is named"),
        (replace(said, reason=" "), "no reason is given"),
        (replace(said, checks=("unchanged",)), "'unchanged' of batch 'z' cannot be accepted"),
    ):
        with pytest.raises(Contradiction) as error:
            fold(state, [content])
        assert told in str(error.value)
    with pytest.raises(Contradiction, match="cannot be read"):
        fold(begun(store, "a"), [Arrival(kickoff(1), replace(away, arrival=None)), said])
    state = fold(state, [said])
    assert state.batches["z"].standing is Standing.REVIEWED and not state.waiting(BatchKind.BASE)
    assert [one.name for one in state.waiting()] == ["a"]
    with pytest.raises(Contradiction, match="of which a person accepted answers"):
        fold(state, [Arrival(kickoff(2), replace(away, accepted=("answers",)))])
    again = fold(state, [Arrival(kickoff(2), replace(away, accepted=("trigger phrases",)))])
    both = fold(again, [replace(said, checks=("answers",))]).batches["z"]
    assert both.accepted == ("answers", "trigger phrases")
    passed = replace(batch(store, "z"), accepted=("trigger phrases",))
    assert fold(state, [Arrival(kickoff(2), passed)]).batches["z"].standing is Standing.WAITING
    mended = replace(away, digest="another")
    assert fold(state, [Arrival(kickoff(2), mended)]).batches["z"].accepted == ()
    with pytest.raises(Contradiction, match="it was nothing"):
        fold(state, [Arrival(kickoff(2), replace(mended, accepted=("trigger phrases",)))])


class Naive:
    """The same rules, told apart from how they are kept: for each champion the batches that it was trained on."""

    def __init__(self) -> None:
        self.chain: list[tuple[int, frozenset[str]]] = [(0, frozenset())]
        self.tries: dict[str, int] = {}
        self.aside: set[str] = set()
        self.held: tuple[int, tuple[str, ...]] | None = None
        self.turn = 0

    @property
    def waiting(self) -> list[str]:
        bound = {*self.held[1]} if self.held else set()
        return [name for name in self.tries if name not in self.chain[-1][1] | self.aside | bound]

    def give_up(self, names: tuple[str, ...]) -> None:
        for name in names:
            self.tries[name] += 1
            if self.tries[name] >= 2:
                self.aside.add(name)

    def check(self, state: State) -> None:
        bound = self.held[1] if self.held else ()
        waiting = {one.name for one in state.waiting()} - {*bound}
        taken = {name for name, one in state.batches.items() if one.standing is Standing.TAKEN}
        aside = {name for name, one in state.batches.items() if one.standing is Standing.SET_ASIDE}
        assert (waiting, taken, aside) == ({*self.waiting}, {*self.chain[-1][1]}, self.aside)
        assert (*state.before, state.champion) == tuple(turn for turn, _ in self.chain)
        assert state.held == ((self.held[0],) if self.held else ()) and state.next_turn == self.turn + 1
        assert state.model is not None and {one.removeprefix("batch/") for one in state.model.corpora[1:]} == taken


def steps(store: Store, naive: Naive, state: State, rng: random.Random) -> list[Content]:
    """One thing that may happen, to both."""
    what = rng.choice(["arrive", "idle", "turn", "turn", "turn", "rollback", "retry", "person"])
    if what == "arrive" or not naive.tries:
        name = f"n{len(naive.tries)}"
        naive.tries[name] = 0
        return [Arrival(kickoff(rng.randrange(300)), batch(store, name))]
    if what == "idle":
        naive.turn += 1
        return [idle(naive.turn, kickoff(rng.randrange(300)))]
    if what == "turn" and naive.waiting and not naive.held:
        naive.turn += 1
        names = tuple(rng.sample(naive.waiting, rng.randint(1, len(naive.waiting))))
        outcome = rng.choice([Outcome.PROMOTED, Outcome.REFUSED, Outcome.HELD])
        champion, trained = naive.chain[-1]
        corpora = ("lifecycle", *(f"batch/{name}" for name in sorted(trained)))
        end = ending(state, ended(store, naive.turn, outcome, *names, corpora=corpora), 2)
        if outcome is Outcome.PROMOTED:
            naive.chain.append((naive.turn, trained | {*names}))
        elif outcome is Outcome.HELD:
            naive.held = naive.turn, names
        else:
            naive.give_up(names)
        return [TurnBegan(began(naive.turn, *names, champion=champion)), end]
    if what == "rollback" and len(naive.chain) > 1:
        to = rng.randrange(len(naive.chain) - 1)
        naive.aside |= naive.chain[-1][1] - naive.chain[to][1]
        naive.aside |= {*naive.held[1]} if naive.held else set()
        naive.held, naive.chain = None, naive.chain[: to + 1]
        return [Rollback(naive.chain[to][0], "why not")]
    if what == "retry" and naive.aside:
        name = rng.choice(sorted(naive.aside))
        naive.aside.remove(name)
        naive.tries[name] = 0
        return [Retry(name)]
    if what == "person" and naive.held:
        number, names = naive.held
        naive.held = None
        if rng.random() < 0.5:
            naive.chain.append((number, naive.chain[-1][1] | {*names}))
            return [Promote(number)]
        naive.aside |= {*names}
        return [Rollback(naive.chain[-1][0], "declined")]
    return []


@pytest.mark.parametrize("seed", range(25))
def test_any_sequence_adds_up_as_it_should(store: Store, seed: int) -> None:
    rng, naive = random.Random(seed), Naive()
    contents: list[Content] = [Start(model(store), corpus(store))]
    state = fold(State("line"), contents)
    for _ in range(60):
        happened = steps(store, naive, state, rng)
        state = fold(state, happened)
        contents += happened
        naive.check(state)
    assert fold(State("line"), contents) == state, "at once or one by one"
    cut = rng.randrange(len(contents))
    assert fold(fold(State("line"), contents[:cut]), contents[cut:]) == state
