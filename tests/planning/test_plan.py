"""A store's generation: what keeps an orchestrator's cache from answering with what is gone."""

import shutil
from pathlib import Path

from k2model.artifacts import Identity, Store
from k2model.planning import resolve


def generation(root: Path) -> str:
    return resolve("smoke", {}, str(root), "sqlite://").store.generation


def build(root: Path, name: str) -> Path:
    def produce(folder: Path) -> dict[str, float]:
        (folder / "file").write_text(name)
        return {}

    return Path(Store.open(root).build(Identity("corpus", "1", {"name": name}, {}), produce).uri)


def test_it_is_the_same_while_nothing_changes(tmp_path):
    build(tmp_path, "a")
    first = generation(tmp_path)
    build(tmp_path, "b")
    assert generation(tmp_path) == first


def test_it_differs_between_two_stores(tmp_path):
    assert generation(tmp_path / "one") != generation(tmp_path / "two")


def test_it_changes_once_when_an_artifact_vanishes(tmp_path):
    whole = generation(tmp_path)
    shutil.rmtree(build(tmp_path, "a"))
    lost = generation(tmp_path)
    assert lost != whole
    assert generation(tmp_path) == lost, "an artifact that nobody makes again must not disable the cache for good"
    build(tmp_path, "a")
    assert generation(tmp_path) == whole
