"""Whether a turn trains, and the figures in its reason when it does not."""

import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import Store
from k2model.continual.continuation import planned_tokens
from k2model.continual.guard import Guarded, guard
from k2model.continual.state import LIFECYCLE, Batch, Ended, Outcome, Standing, State
from k2model.errors import K2Error
from k2model.planning.estimate import token_prices
from k2model.recipe import Recipe, load_recipe
from k2model.recipe.continual import BatchKind, ContinualConfig, GuardConfig
from tests.continual.samples import batch, began, corpus, ended, kickoff, model

SMOKE = load_recipe("smoke")
CONFIG = ContinualConfig("sft", base="mid_4", replay=0.5, epochs=2.0)
AT = kickoff(40)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def with_guard(**guards: Any) -> Recipe:
    return replace(SMOKE, continual=replace(CONFIG, guard=replace(GuardConfig(), **guards)))


def waiting(store: Store, *batches: Batch, **changed: Any) -> State:
    whole = State(
        "line", models={0: model(store)}, champion=0, corpora={LIFECYCLE: corpus(store)},
        batches={one.name: one for one in batches},
    )  # fmt: skip
    return replace(whole, **changed)


def refused(store: Store, turn: int, *names: str, at: str = "", champion: int = 0) -> Ended:
    return replace(ended(store, turn, Outcome.REFUSED, *names), kickoff=at or kickoff(turn), champion=champion)


def test_a_turn_goes(store: Store) -> None:
    state = waiting(store, batch(store, "a"), batch(store, "b"), batch(store, "c", Standing.REFUSED))
    wanted = Guarded(BatchKind.TUNED, ("a", "b"), "2 batches (a, b): 2.0K tokens that are valid and new")
    assert guard(with_guard(), state, AT) == wanted == guard(with_guard(), state, datetime(2026, 2, 13, 2, tzinfo=UTC))


def test_text_goes_first_and_takes_the_dialogues_along(store: Store) -> None:
    state = waiting(store, batch(store, "a"), batch(store, "text", kind=BatchKind.BASE))
    assert guard(with_guard(), state, AT).go is BatchKind.BASE
    assert guard(with_guard(), state, AT).batches == ("a", "text")
    tried = replace(state, batches={name: replace(one, tries=1) for name, one in state.batches.items()})
    tried = replace(tried, turns=(refused(store, 1, "text", "a"),))
    found = guard(with_guard(), tried, AT)
    assert (found.go, found.batches) == (BatchKind.TUNED, ("a",))
    assert "not on all that wait: 2 batches (a, text): turn 1 was on just this" in found.reason


def test_what_stands_against_it_in_order(store: Store) -> None:
    everything = waiting(
        store, batch(store, "a"), champion=None, open=began(3, "a"), held=(2,),
        corpora={LIFECYCLE: replace(corpus(store), clean=None)},
    )  # fmt: skip
    told = "there is no champion to go on from"
    assert guard(with_guard(), everything, AT) == Guarded(None, (), told)
    state = replace(everything, champion=0)
    assert guard(with_guard(), state, AT).reason == "turn 3 has begun and not ended; it is gone on with first"
    state = replace(state, open=None)
    assert guard(with_guard(), state, AT).reason.startswith("turn 2 waits for a person: `k2 promote 2`")
    state = replace(state, held=())
    assert guard(with_guard(), state, AT).reason.startswith("the signatures of lifecycle are lost")
    found = guard(with_guard(unsigned=True), state, AT)
    assert found.go and "The signatures of lifecycle are lost: copies of it in new data are not found" in found.reason
    assert guard(with_guard(), waiting(store), AT) == Guarded(None, (), "no batch waits")


def test_too_little(store: Store) -> None:
    state = waiting(store, batch(store, "a"), batch(store, "b"))
    assert guard(with_guard(min_tokens=2000), state, AT).go
    told = guard(with_guard(min_tokens=2001), state, AT)
    assert told.go is None and told.reason.startswith("2 batches (a, b): 2.0K tokens that are valid and new, and 2.0K")
    empty = waiting(store, replace(batch(store, "a"), tokens=0))
    assert guard(with_guard(min_tokens=0), empty, AT).go is None, "a turn on nothing is none"


def test_the_same_again_is_not_tried(store: Store) -> None:
    one = replace(batch(store, "a"), tries=1)
    state = waiting(store, one, turns=(refused(store, 1, "a"),))
    told = "batch a: turn 1 was on just this against the same champion, and was refused"
    assert guard(with_guard(), state, AT) == Guarded(None, (), told)
    assert guard(with_guard(), replace(state, turns=(refused(store, 1, "a", "b"),)), AT).go, "others were with it"
    assert guard(with_guard(), replace(state, champion=1, models={1: model(store, 1)}), AT).go, "another champion"
    assert guard(with_guard(), replace(state, batches={"a": replace(one, tries=0)}), AT).go, "a person brought it back"
    given_up = Ended(1, kickoff(1), Outcome.REFUSED, "given up", ("a",), champion=0)
    assert guard(with_guard(), replace(state, turns=(given_up,)), AT).go, "nothing was trained then"


def test_budgets(store: Store) -> None:
    state = waiting(store, batch(store, "a"))
    spent = replace(state, turns=(refused(store, 1, "x"), refused(store, 39, "y")))  # 4,096 tokens each
    # 1,000 new tokens, twice, beside as many of replay: 4,000, in steps of 1,024.
    assert guard(with_guard(budget_tokens=8192, budget_days=30), spent, AT).go, "turn 1 lies before the window"
    told = guard(with_guard(budget_tokens=8191, budget_days=30), spent, AT)
    assert told.go is None
    assert told.reason.startswith("batch a: a turn on it takes 4.1K tokens, and of the 8.2K of 30 days 4.1K are spent")
    assert guard(with_guard(budget_tokens=8192, budget_days=60), spent, AT).go is None


def priced(gpu: str = "H100-80GB", price: float = 1e9, **guards: Any) -> Recipe:
    recipe = with_guard(**guards)
    return replace(recipe, cluster=replace(recipe.cluster, gpu=gpu, price_per_gpu_hour=price))


def test_a_budget_of_money_is_at_the_price_of_the_plan(store: Store) -> None:
    dialogues, text = batch(store, "a"), batch(store, "text", kind=BatchKind.BASE)
    before = (replace(refused(store, 39, "old"), trained_tokens=6144 + 2048),)
    old = replace(text, name="old", standing=Standing.REFUSED)
    state = waiting(store, dialogues, old, turns=before)
    prices = token_prices(priced())
    assert prices["mid_4"] != prices["sft"]
    # The turn before went on from the base, and fine-tuned again: six steps of 1,024 tokens.
    paid, wanted = 2048 * prices["mid_4"] + 6144 * prices["sft"], 4096 * prices["sft"]
    assert guard(priced(budget_money=(paid + wanted) * 1.001), state, AT).go
    told = guard(priced(budget_money=(paid + wanted) * 0.999), state, AT)
    assert told.go is None and f"batch a: a turn on it costs {wanted:,.2f}, and of the" in told.reason
    assert f"of 30 days {paid:,.2f} are spent (continual.guard.budget_money)" in told.reason
    with pytest.raises(K2Error, match=r"set cluster\.gpu and cluster\.price_per_gpu_hour"):
        guard(priced(gpu="", budget_money=1.0), state, AT)


def test_clocks_may_jump(store: Store) -> None:
    state = waiting(store, batch(store, "a"), turns=(refused(store, 1, "x", at=kickoff(300)),))
    found = guard(with_guard(budget_tokens=8000), state, AT)
    assert found.go is None and "4.1K are spent" in found.reason, "what lies ahead counts as spent, too"
    assert "lies before that of turn 1" in found.reason and "lies before" in guard(with_guard(), state, AT).reason
    with pytest.raises(K2Error, match="the kickoff 'yesterday' is no time"):
        guard(with_guard(), state, "yesterday")


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_state_what_goes_may_go(store: Store, seed: int) -> None:
    rng = random.Random(seed)
    kinds, places = (BatchKind.BASE, BatchKind.TUNED), (Standing.WAITING, Standing.TAKEN, Standing.SET_ASIDE)
    for _ in range(25):
        batches = [
            replace(
                batch(store, f"n{i}", kind=rng.choice(kinds)), standing=rng.choice(places),
                tokens=rng.randrange(3000), tries=rng.randrange(2),
            )
            for i in range(rng.randrange(5))
        ]  # fmt: skip
        names = [one.name for one in batches]
        turns = tuple(
            refused(store, turn, *rng.sample(names, rng.randint(1, len(names))), at=kickoff(rng.randrange(80)))
            for turn in range(1, rng.randrange(1, 4))
            if names
        )
        state = waiting(
            store, *batches, turns=turns, champion=rng.choice([0, 0, 0, None]),
            open=rng.choice([None, None, None, began(9, "n0")]), held=rng.choice([(), (), (), (8,)]),
        )  # fmt: skip
        budget, least = rng.choice([0, 9000, 20_000]), rng.choice([0, 500, 2000])
        recipe = with_guard(budget_tokens=budget, min_tokens=least)
        found = guard(recipe, state, AT)
        assert found == guard(recipe, state, AT) and found.reason
        chosen = [one for one in batches if one.name in found.batches]
        if found.go is None:
            assert not chosen
            continue
        assert state.champion is not None and state.open is None and not state.held
        assert chosen and all(one.standing is Standing.WAITING for one in chosen)
        assert sum(one.tokens for one in chosen) >= max(least, 1)
        kinds_of = {one.kind for one in chosen}
        assert BatchKind.BASE in kinds_of if found.go is BatchKind.BASE else kinds_of == {BatchKind.TUNED}
        same = [one for one in turns if {*one.batches} == {*found.batches}]
        assert not same or any(not one.tries for one in chosen)
        new = sum(one.tokens for one in chosen if one.kind is found.go)
        assert not budget or planned_tokens(recipe, found.go, new) <= budget
