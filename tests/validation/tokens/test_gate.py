"""The gate on tokens as a step of several parts: what they find together, and what a failure leaves."""

from dataclasses import replace
from pathlib import Path

import pytest

from k2model.artifacts import Store, make
from k2model.recipe.schema import ValidationConfig
from k2model.validation import ValidationFailed
from k2model.validation.tokens import tokens_checks_step
from tests.validation.gates import as_artifact, noting
from tests.validation.tokens.conftest import Rows, tokens_of

TOGETHER = ValidationConfig()
APART = replace(TOGETHER, part_bytes=1)
PARTS = ["train/chat-tools/00000", "train/prose/00000", "train/prose/00001", "heldout/prose/00000"]


def test_several_parts_find_what_one_does(shards: dict[str, Rows], tmp_path: Path) -> None:
    shards["train/prose/00001"][3]["tokens"][4] = 0  # bos inside, a warning
    folder = tokens_of(shards, tmp_path / "tokens")
    refs = []
    for name, config in (("together", TOGETHER), ("apart", APART)):
        store = Store.open(tmp_path / name)
        refs.append(make(store, tokens_checks_step(store, config, as_artifact(store, "tokens", folder))))
    assert refs[0].digest == refs[1].digest
    assert refs[0].stats == refs[1].stats == {"expectations": 35.0, "warnings": 1.0}


def test_a_gate_that_is_not_passed_publishes_nothing_and_looks_at_nothing_twice(
    shards: dict[str, Rows], tmp_path: Path
) -> None:
    shards["train/prose/00001"][7]["id"] = shards["heldout/prose/00000"][2]["id"]
    store = Store.open(tmp_path / "store")
    log: list[str] = []
    own = tokens_checks_step(store, APART, as_artifact(store, "tokens", tokens_of(shards, tmp_path / "tokens")))
    with pytest.raises(OSError, match="the machine is gone"):
        make(store, noting(own, log, fails=PARTS[2]))
    for _ in range(2):
        with pytest.raises(ValidationFailed, match="ids_unique"):
            make(store, noting(own, log))
        assert store.find(own.identity) is None
    assert log == [*PARTS[:3], *PARTS[2:]]
