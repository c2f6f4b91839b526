"""The tasks in which a gate ends: what they give, and what they show of data that is not fit."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from flytekit.core import local_cache

from k2model.artifacts import ArtifactRef, Store
from k2model.planning import DataPlan, StoreRef, data_plan
from k2model.recipe.smoke import smoke
from k2model.validation import ValidationFailed
from tasks.gates import pass_gate
from tasks.parts import list_parts, make_one
from tests.tokens.validation.conftest import clean_shards, tokens_of
from tests.validation_gates import as_artifact


def place(store: Store, tokens: ArtifactRef) -> tuple[str, StoreRef, DataPlan, list[ArtifactRef]]:
    """What every task of the gate on tokens is given, with a part for each shard."""
    plan = data_plan(smoke())
    plan = replace(plan, validation=replace(plan.validation, part_bytes=1))
    return "tokens_checks", StoreRef(store.uri, store.generation), plan, [tokens]


def gate(store: Store, tokens: ArtifactRef) -> ArtifactRef:
    """The three tasks as the workflow composes them."""
    where = place(store, tokens)
    identity, parts = list_parts.task_function(*where)
    made = [make_one.task_function(*where, identity, part) for part in parts]
    return pass_gate.task_function(*where, identity, made)


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


def test_a_part_that_is_gone_is_made_again_whatever_flyte_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_cache, "CACHE_LOCATION", str(tmp_path / "flyte"))
    monkeypatch.setattr(local_cache.LocalTaskCache, "_initialized", False)
    store = Store.open(tmp_path / "store")
    tokens = as_artifact(store, "tokens", tokens_of(clean_shards(), tmp_path / "good"))
    where = dict(zip(("step", "store", "data", "inputs"), place(store, tokens), strict=True))
    for _ in range(2):
        identity, parts = list_parts(**where)
        assert len(parts) > 1
        made = [make_one(**where, identity=identity, part=part) for part in parts]
        assert made == [part.name for part in parts]
        (checks,) = (tmp_path / "store" / "tokens_checks").iterdir()
        assert all((checks / "attachments" / "parts" / f"{name}.json").exists() for name in made)
        assert list_parts(**where).parts == []
        shutil.rmtree(checks)
