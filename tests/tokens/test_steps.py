"""Steps on a store: packing reads the sources of its mixture and nothing else of the tokens."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from k2model.artifacts import ArtifactRef, CorruptArtifact, Identity, Store, make
from k2model.artifacts.transfer import cache_of
from k2model.recipe.schema import MixtureEntry
from k2model.tokens import MixtureError, sequences_step
from tests.tokens.phases import PHASE

SOME = replace(PHASE, steps=10, mixture=(MixtureEntry("prose", 1.0), MixtureEntry("chat/tools", 1.0)))
DRAWN = ("train/prose/00000.arrow", "train/chat-tools/00000.arrow")


def put(store: Store, tokens: Path) -> ArtifactRef:
    def produce(folder: Path) -> dict[str, float]:
        shutil.copytree(tokens, folder, dirs_exist_ok=True)
        return {}

    return store.build(Identity(step="tokens", version="1", config={}), produce)


def test_of_an_object_store_packing_fetches_what_the_mixture_names(
    tokens: Path, s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = put(Store.open(s3_uri), tokens)
    monkeypatch.setenv("K2_HOME", str(tmp_path / "another machine"))
    packed = make(Store.open(s3_uri), sequences_step(Store.open(s3_uri), SOME, there))
    copy = cache_of(s3_uri) / "tokens"
    fetched = {str(path.relative_to(copy / there.uri.rpartition("/")[2])) for path in copy.rglob("*.*")}
    assert fetched == {"counts.json", *DRAWN}
    local = Store.open(tmp_path / "store")
    assert make(local, sequences_step(local, SOME, put(local, tokens))).digest == packed.digest


def test_of_a_local_store_packing_verifies_what_the_mixture_names(tokens: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    there = put(store, tokens)
    for name in ("train/facts/00000.arrow", "heldout/prose/00000.arrow"):
        Path(there.uri, name).write_bytes(b"damaged")
    make(store, sequences_step(store, SOME, there))
    Path(there.uri, DRAWN[0]).write_bytes(b"damaged")
    with pytest.raises(CorruptArtifact, match=DRAWN[0]):
        make(store, sequences_step(store, replace(SOME, seed=9), there))


def test_a_source_that_there_is_not_is_named_before_anything_is_fetched(tokens: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    there = put(store, tokens)
    with pytest.raises(MixtureError, match=r"mixture\.poetry: the tokens hold no training source 'poetry'"):
        make(store, sequences_step(store, replace(SOME, mixture=(MixtureEntry("poetry", 1.0),)), there))
