"""Parts shared out: the same artifact, whatever the shares, and nothing left of them."""

import json
from pathlib import Path

import pytest

from k2model.artifacts import InputsChanged, Store, gather, make_part, make_share, shared_out
from tests.artifacts.test_parts import IDENTITY, NAMES, build, step


@pytest.mark.parametrize(("size", "most", "workers", "shares"), [(1, 99, 1, 5), (2, 99, 2, 3), (1, 2, 1, 2)])
def test_the_artifact_is_the_one_that_is_made_at_once(
    tmp_path: Path, size: int, most: int, workers: int, shares: int
) -> None:
    whole = build(tmp_path / "whole", tmp_path / "log")
    store, parted = Store.open(tmp_path / "store"), step(tmp_path / "log")
    names = shared_out(store, parted, size, most)
    assert len(names) == shares and names == shared_out(store, parted, size, most)
    for name in reversed(names):
        make_share(store, parted, IDENTITY.name, name, workers)
    made = gather(store, parted)
    assert (made.digest, made.stats) == (whole.digest, whole.stats)
    assert not [path for path in (tmp_path / "store" / "_listed").rglob("*") if path.is_file()]
    assert shared_out(store, parted, size, most) == []


def test_on_an_object_store_as_well(s3_uri: str, tmp_path: Path) -> None:
    store, parted = Store.open(s3_uri), step(tmp_path / "log")
    for name in shared_out(store, parted, 2, 99):
        make_share(store, parted, IDENTITY.name, name, 1)
    assert gather(store, parted).digest == build(tmp_path / "whole", tmp_path / "log").digest
    assert not [path for path in store.files_of("_listed").sizes() if path.endswith(".json")]


def test_only_what_is_missing_is_shared_out_and_made(tmp_path: Path) -> None:
    store, log = Store.open(tmp_path / "store"), tmp_path / "log"
    parted = step(log)
    first = shared_out(store, parted, 3, 99)
    make_part(store, parted, parted.parts()[0])
    (rest,) = shared_out(store, parted, 4, 99)
    assert rest not in first, "another list is another share, so that both runs can go on"
    make_share(store, parted, IDENTITY.name, rest, 1)
    for share in first:
        make_share(store, parted, IDENTITY.name, share, 1)
    assert sorted(log.read_text().split()) == list(NAMES), "each once"


def test_a_share_of_a_finished_artifact_is_done_and_a_lost_one_is_told(tmp_path: Path) -> None:
    store, parted = Store.open(tmp_path / "store"), step(tmp_path / "log")
    share, *others = shared_out(store, parted, 1, 99)
    (tmp_path / "store" / "_listed" / IDENTITY.name / f"{share}.json").unlink()
    with pytest.raises(InputsChanged, match=f"{IDENTITY.name}: its list of parts {share} is gone.* Run again"):
        make_share(store, parted, IDENTITY.name, share, 1)
    build(tmp_path / "store", tmp_path / "log")
    for name in (share, *others):
        make_share(store, parted, IDENTITY.name, name, 1)


def test_what_a_part_is_told_reaches_its_maker(tmp_path: Path) -> None:
    store, parted = Store.open(tmp_path / "store"), step(tmp_path / "log")
    (share,) = shared_out(store, parted, 9, 99)
    listed = json.loads((tmp_path / "store" / "_listed" / IDENTITY.name / f"{share}.json").read_text())
    assert listed == [[part.name, part.task] for part in parted.parts()]
