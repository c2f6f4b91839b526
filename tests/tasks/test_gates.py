"""The tasks in which a gate ends: what they give, and what they show of data that is not fit."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import ArtifactRef, Store
from k2model.artifacts.places import PARTS
from k2model.lifecycle import LifecyclePlan
from k2model.recipe.laptop import smoke
from k2model.validation import ValidationFailed
from tasks.steps import gather_and_show, list_parts, make_parts
from tests.validation.gates import as_artifact
from tests.validation.tokens.conftest import clean_shards, tokens_of


def told(store: Store, tokens: ArtifactRef) -> dict[str, Any]:
    """What every task of the gate on tokens is given, with a part for each shard."""
    recipe = smoke()
    recipe = replace(recipe, validation=replace(recipe.validation, part_bytes=1))
    return {
        "step": "tokens_checks",
        "phase": "",
        "plan": LifecyclePlan(recipe, store.uri),
        "inputs": {"tokens": tokens},
    }


def gate(store: Store, tokens: ArtifactRef) -> ArtifactRef:
    """The three tasks as the workflow composes them."""
    where = told(store, tokens)
    identity, shares = list_parts.task_function(**where)
    made = [make_parts.task_function(**where, identity=identity, share=share) for share in shares]
    return gather_and_show.task_function(**where, identity=identity, made=made)


def test_a_gate_gives_back_what_it_looked_at_or_shows_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = clean_shards()
    monkeypatch.setenv("K2_HOME", str(tmp_path / "home"))
    store = Store.open(tmp_path / "store")
    tokens = as_artifact(store, "tokens", tokens_of(shards, tmp_path / "good"))
    assert gate(store, tokens) == tokens
    assert [record["step"] for record in store.records("tokens_checks")] == ["tokens_checks"]
    page = tmp_path / "home" / "validation_failed.html"
    assert not page.exists()
    shards["train/prose/00001"][7]["id"] = shards["heldout/prose/00000"][2]["id"]
    with pytest.raises(ValidationFailed, match="ids_unique"):
        gate(store, as_artifact(store, "tokens", tokens_of(shards, tmp_path / "bad")))
    assert "ids_unique" in page.read_text(encoding="utf-8")


def test_a_part_that_is_gone_is_made_again(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    where = told(store, as_artifact(store, "tokens", tokens_of(clean_shards(), tmp_path / "good")))
    for _ in range(2):
        identity, shares = list_parts(**where)
        assert len(shares) > 1
        assert [make_parts(**where, identity=identity, share=share) for share in shares] == shares
        (checks,) = (tmp_path / "store" / PARTS / "tokens_checks").iterdir()
        assert len([*(checks / "records").rglob("*.json")]) == len(shares)
        assert list_parts(**where).shares == []
        shutil.rmtree(checks)
