"""The model that a line begins with, of a real lifecycle, and what is said where there is none."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from k2model.artifacts import Store
from k2model.artifacts.files import files_at
from k2model.continual.entries import Start
from k2model.continual.ledger import Ledger
from k2model.continual.start import NoChampion, start
from k2model.recipe import Recipe, apply_overrides, load_recipe
from k2model.recipe.continual import ContinualConfig
from k2model.registry.gates import read_decisions

SMOKE = load_recipe("smoke")
LINE = replace(SMOKE, continual=ContinualConfig("sft", base="mid_4"))


@pytest.fixture
def store(finished: tuple[Path, object], tmp_path: Path) -> Iterator[Store]:
    """The store of the finished lifecycle, its files linked; its sft is promoted here, since so short a training has
    learned nothing that a gate would let pass."""
    home, _ = finished
    shutil.copytree(home / "store", tmp_path / "store", copy_function=os.link)
    made = Store.open(tmp_path / "store")
    decide(made, "champion")
    yield made


def first_decision(store: Store) -> dict:
    return next(one for one in read_decisions(store.uri) if one["phase"] == "sft")


def decide(store: Store, promotion: str, checkpoint: str = "") -> None:
    """A decision on the lifecycle's sft, later than all there are: other tests run it again with other settings."""
    own = first_decision(store)
    said = {**own, "promotion": promotion, "decided_at": "9" + str(own["decided_at"])[1:]}
    said["checkpoint"] = checkpoint or own["checkpoint"]
    files_at(store.uri).write(f"_gates/k2-smoke/v9999-{promotion[:4]}-{checkpoint[:8]}.json", json.dumps(said).encode())


def refused(store: Store, recipe: Recipe) -> str:
    with pytest.raises(NoChampion) as error:
        start(store, recipe)
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
    found = start(store, LINE)
    model = found.model
    assert (model.turn, model.corpora) == (0, ("lifecycle",))
    assert model.version == first_decision(store)["version"]
    assert {name for name in model.made if "/" in name} == {
        "base/checkpoint", "base/export", "tuned/checkpoint", "tuned/export", "tuned/scores", "tuned/safety",
    }  # fmt: skip
    assert found.corpus.clean is not None and found.corpus.valid == model.made["corpus_valid"]
    assert {*model.seen["tuned"]} == {entry.source for entry in SMOKE.phase("sft").mixture}
    check_tokens(store, found)
    for ref in model.made.values():
        store.look_up(ref)
    ledger = Ledger.open(store, "smoke")
    state = ledger.append("start", {"model": model, "corpus": found.corpus}, after=0)
    assert state.champion == 0 and ledger.verify().lost == ()
    assert state.model is not None and state.model.seen == model.seen and {*state.model.made} == {*model.made}


def test_a_line_of_dialogues_alone_has_no_base(store: Store) -> None:
    found = start(store, replace(SMOKE, continual=ContinualConfig("sft")))
    assert {*found.model.seen} == {"tuned"} and not [one for one in found.model.made if one.startswith("base/")]


def test_signatures_may_be_lost_and_nothing_else(store: Store) -> None:
    before = start(store, LINE)
    assert before.corpus.clean is not None
    shutil.rmtree(before.corpus.clean.uri)
    found = start(store, LINE)
    assert found.corpus.clean is None and found.model == before.model
    shutil.rmtree(found.model.made["tuned/export"].uri)
    told = refused(store, LINE)
    assert "sft/export of the lifecycle was made, and its artifact" in told and "`make lifecycle`" in told


def test_without_a_promotion_it_is_said_what_is_there(store: Store) -> None:
    shutil.rmtree(Path(store.uri) / "_gates" / "k2-smoke")
    told = refused(store, LINE)
    assert "phase 'sft' of recipe 'smoke' was trained, and is not registered" in told
    assert "Run `make lifecycle RECIPE=smoke`" in told


def test_a_gate_that_was_not_passed_is_told(store: Store) -> None:
    for file in (Path(store.uri) / "_gates" / "k2-smoke").glob("v9999-*"):
        file.unlink()
    told = refused(store, LINE)
    assert "was trained and not promoted (none: " in told
    decide(store, "champion", checkpoint="f" * 64)
    assert "was trained and not promoted" in refused(store, LINE), "another checkpoint's promotion is not its own"


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
