"""The tasks in which a gate ends: what they give, and what they show of data that is not fit."""

from dataclasses import replace
from pathlib import Path

import pytest

from k2model.artifacts import ArtifactRef, Part, Store
from k2model.planning import DataPlan, StoreRef, data_plan
from k2model.recipe.smoke import smoke
from k2model.validation import ValidationFailed
from tasks.gates import pass_gate
from tasks.parts import list_parts, make_one
from tests.tokens.validation.conftest import clean_shards, tokens_of
from tests.validation_gates import as_artifact


def gate(store: Store, tokens: ArtifactRef) -> ArtifactRef:
    """The three tasks as the workflow composes them, a part for each shard."""
    plan = data_plan(smoke())
    plan = replace(plan, validation=replace(plan.validation, part_bytes=1))
    where: tuple[str, StoreRef, DataPlan, list[ArtifactRef]] = (
        "tokens_checks", StoreRef(store.uri, store.generation), plan, [tokens],
    )  # fmt: skip
    parts: list[Part] = list_parts.task_function(*where)
    made = [make_one.task_function(*where, part) for part in parts]
    return pass_gate.task_function(*where, made)


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
