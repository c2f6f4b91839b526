"""A run confirms what is there already: on a local folder and a real S3 service."""

import json
import os
import time
from pathlib import Path

import pytest

from k2model.artifacts import CorruptArtifact, Identity, Step, Store, make
from k2model.artifacts.confirm import CHECKED, confirmed, noted
from k2model.artifacts.files import LocalFiles, files_at
from k2model.artifacts.manifest import MANIFEST
from k2model.errors import K2Error
from tests.artifacts.samples import DAMAGES, PROSE, stored, write_corpus

FLIPPED = PROSE.encode()[:800] + bytes([PROSE.encode()[800] ^ 1]) + PROSE.encode()[801:]


def never(_: Path) -> dict[str, float]:
    raise AssertionError("it is there and is not made again")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_that_finds_everything_names_what_is_not_what_it_was(store: Store, identity: Identity, damage) -> None:
    ref = store.build(identity, write_corpus)
    assert make(store, Step(identity, never)) == ref
    told = damage(Path(ref.uri))
    with pytest.raises(CorruptArtifact, match=told):
        make(store, Step(identity, never))


def test_a_flipped_bit_is_found_on_any_storage(any_store: Store, identity: Identity) -> None:
    ref = any_store.build(identity, write_corpus)
    assert confirmed(any_store, ref) is ref
    if not isinstance(files_at(any_store.uri), LocalFiles):
        time.sleep(1.1)  # times of S3 are whole seconds
    files_at(ref.uri).write(stored(ref, "train/prose.txt"), FLIPPED)
    with pytest.raises(CorruptArtifact, match=r"train/prose\.txt has sha256"):
        confirmed(any_store, ref)


def test_what_no_time_tells_is_found_where_all_bytes_are_wanted(
    store: Store, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = store.build(identity, write_corpus)
    file = Path(ref.uri, "train/prose.txt")
    before = file.stat()
    file.write_bytes(FLIPPED)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert confirmed(store, ref) is ref
    monkeypatch.setenv("K2_VERIFY", "bytes")
    with pytest.raises(CorruptArtifact, match=r"train/prose\.txt has sha256"):
        confirmed(store, ref)
    monkeypatch.setenv("K2_VERIFY", "all")
    with pytest.raises(K2Error, match="K2_VERIFY='all' is unknown"):
        confirmed(store, ref)


def test_a_copied_store_is_read_once(store: Store, identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = store.build(identity, write_corpus)
    late = time.time() + 5
    os.utime(Path(ref.uri, "funnel.json"), (late, late))
    confirmed(store, ref)
    assert noted(files_at(store.uri), ref.name, ref.digest) == pytest.approx(late)
    read: list[str] = []
    monkeypatch.setattr("k2model.artifacts.confirm.verify_files", lambda _, entries: read.extend(entries))
    confirmed(store, ref)
    assert not read
    os.utime(Path(ref.uri, "funnel.json"), (late + 1, late + 1))
    confirmed(store, ref)
    assert [entry.path for entry in read] == ["funnel.json"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"digest": 1, "youngest": []}', b"\xff"])
def test_a_damaged_note_is_as_none(store: Store, identity: Identity, content: bytes) -> None:
    ref = store.build(identity, write_corpus)
    store.files_of(CHECKED).write(f"{ref.name}.json", content)
    assert noted(files_at(store.uri), ref.name, ref.digest) == 0.0


def test_the_manifest_is_the_last_that_is_written(any_store: Store, identity: Identity) -> None:
    ref = any_store.build(identity, write_corpus)
    files = files_at(ref.uri)
    assert all(files.modified(path) <= files.modified(MANIFEST) for path in files.sizes())
    assert json.loads(files.read(MANIFEST))["digest"] == ref.digest
