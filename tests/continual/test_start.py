"""The model that a line begins with, of a real lifecycle, and what is said where there is none."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from k2model.artifacts import Store
from k2model.continual.entries import Contradiction, Start
from k2model.continual.ledger import Ledger
from k2model.continual.start import NoChampion, start
from k2model.continual.state import Checked, Judged, Outcome, State
from k2model.recipe import Recipe, apply_overrides, load_recipe
from k2model.recipe.continual import ContinualConfig

SMOKE = load_recipe("smoke")
LINE = replace(SMOKE, continual=ContinualConfig("sft", base="mid_4"))


@pytest.fixture
def store(finished: tuple[Path, object], tmp_path: Path) -> Iterator[Store]:
    """The store of the finished lifecycle, its files linked; its sft is promoted here, since so short a training has
    learned nothing that a gate would let pass."""
    home, _ = finished
    shutil.copytree(home / "store", tmp_path / "store", copy_function=os.link)
    made = Store.open(tmp_path / "store")
    judge(made, Outcome.PROMOTED)
    yield made


def first_judged(store: Store) -> Judged:
    """Of the lifecycle's own sft: other tests run it again with other settings."""
    content = next(Ledger.open(store, "smoke").entries()).content
    assert isinstance(content, Judged)
    return content


def judge(store: Store, outcome: Outcome, checkpoint: str = "") -> None:
    """Another judgement of it, or of a model with another checkpoint."""
    ledger, own = Ledger.open(store, "smoke"), first_judged(store)
    state, made = ledger.state(), dict(own.model.made)
    made["tuned/checkpoint"] = replace(made["tuned/checkpoint"], digest=checkpoint or own.digest)
    model = replace(own.model, turn=state.next_lifecycle, made=made)
    gates = (Checked("tools/well_formed", True, "0.000, at least 0 is asked"),)
    said = replace(own, model=model, outcome=outcome, gates=gates, champion=state.champion)
    ledger.append("judged", said, after=state)


def state_of(store: Store) -> State:
    return Ledger.open(store, "smoke").state()


def refused(store: Store, recipe: Recipe) -> str:
    with pytest.raises(NoChampion) as error:
        start(store, recipe, state_of(store))
    return str(error.value)


def check_tokens(store: Store, found: Start) -> None:
    """Against the counters of the trainings themselves: rows are what is trained on, padding and all."""
    checkpoints = {part: found.model.made[f"{part}/checkpoint"] for part in ("base", "tuned")}
    assert sum(found.model.seen["tuned"].values()) <= checkpoints["tuned"].stats["tokens"]
    share = sum(found.model.seen["base"].values()) / checkpoints["base"].stats["tokens_total"]
    assert 0.8 < share <= 1.0 and checkpoints["base"].stats["tokens_total"] == sum(
        phase.tokens for phase in SMOKE.phases if phase.name != "sft"
    )


def test_a_line_begins_with_the_promoted_model(store: Store) -> None:
    found = start(store, LINE, state_of(store))
    model = found.model
    assert (model.turn, model.corpora) == (0, ("lifecycle",))
    assert model.version == first_judged(store).model.version
    assert {name for name in model.made if "/" in name} == {
        "base/checkpoint", "base/export", "tuned/checkpoint", "tuned/export", "tuned/scores", "tuned/safety",
    }  # fmt: skip
    assert found.corpus.clean is not None and found.corpus.valid == model.made["corpus_valid"]
    assert {*model.seen["tuned"]} == {entry.source for entry in SMOKE.phase("sft").mixture}
    check_tokens(store, found)
    for ref in model.made.values():
        store.look_up(ref)
    ledger = Ledger.open(store, "smoke")
    state = ledger.append("start", {"model": model, "corpus": found.corpus}, after=ledger.state())
    assert state.champion == 0 and state.begun and ledger.verify().lost == ()
    assert state.model is not None and state.model.seen == model.seen and {*state.model.made} == {*model.made}


def test_a_line_of_dialogues_alone_has_no_base(store: Store) -> None:
    found = start(store, replace(SMOKE, continual=ContinualConfig("sft")), state_of(store))
    assert {*found.model.seen} == {"tuned"} and not [one for one in found.model.made if one.startswith("base/")]


def test_signatures_may_be_lost_and_nothing_else(store: Store) -> None:
    before = start(store, LINE, state_of(store))
    assert before.corpus.clean is not None
    shutil.rmtree(before.corpus.clean.uri)
    found = start(store, LINE, state_of(store))
    assert found.corpus.clean is None and found.model == before.model
    shutil.rmtree(found.model.made["tuned/export"].uri)
    told = refused(store, LINE)
    assert "sft/export of the lifecycle was made, and its artifact" in told and "`make lifecycle`" in told


def test_without_a_promotion_it_is_said_what_is_there(store: Store) -> None:
    shutil.rmtree(Path(store.uri) / "_continual" / "smoke")
    told = refused(store, LINE)
    assert "phase 'sft' of recipe 'smoke' was trained, and no gate has judged it" in told
    assert "Run `make lifecycle RECIPE=smoke`" in told


def test_a_model_that_was_refused_is_told_and_so_is_another_champion(store: Store) -> None:
    judge(store, Outcome.PROMOTED, checkpoint="f" * 64)
    own = first_judged(store)
    told = refused(store, LINE)
    assert f"was trained and is not the champion (promoted: {state_of(store).judged[own.digest].reason})" in told
    assert f"champion is {own.name}, of another checkpoint" in told
    assert f"`k2 promote {own.name}` judges it anew" in told


def test_turns_go_on_from_the_second_lifecycle_that_was_promoted(store: Store) -> None:
    ledger = Ledger.open(store, "smoke")
    first = start(store, LINE, ledger.state())
    ledger.append("start", first, after=ledger.state())
    judge(store, Outcome.PROMOTED, checkpoint="f" * 64)
    state = ledger.state()
    assert (state.champion, state.before, state.begun) == (-1, (0,), False)
    judge(store, Outcome.PROMOTED)  # a person has brought the first one back
    state = ledger.append("start", start(store, LINE, ledger.state()), after=ledger.state())
    assert (state.champion, state.begun, state.descent) == (-2, True, (-2,))
    assert state.model is not None and state.model.corpora == ("lifecycle 3",) and state.root == state.model
    assert state.corpora["lifecycle 3"].valid == state.corpora["lifecycle"].valid
    with pytest.raises(Contradiction, match="the line has begun"):
        ledger.append("start", first, after=state)


def test_a_changed_recipe_is_another_lifecycle(store: Store) -> None:
    told = refused(store, apply_overrides(LINE, {"phases.mid_1.optimizer.lr": 0.5}))
    assert "mid_1/checkpoint because phase.optimizer.lr" in told and "-> 0.5" in told
    told = refused(Store.open(Path(store.uri).parent / "empty"), LINE)
    assert "synth/safety/synthesis never made here" in told and "`make lifecycle RECIPE=smoke`" in told


def test_a_recipe_of_no_line_is_told(store: Store) -> None:
    assert "name the phase that is gone on with (continual.tuned)" in refused(
        store, replace(SMOKE, continual=ContinualConfig())
    )
    told = refused(store, replace(SMOKE, continual=ContinualConfig("sfd")))
    assert "continual names the phase 'sfd', and recipe 'smoke' has pretrain" in told
