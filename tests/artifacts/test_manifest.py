"""Damage is found and the file is named."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from k2model.artifacts import (
    CorruptArtifact,
    FileEntry,
    Manifest,
    MissingArtifact,
    describe_folder,
    fingerprint,
    hash_file,
    read_manifest,
    verify,
)
from k2model.artifacts.files import files_at
from k2model.artifacts.manifest import verify_files
from tests.artifacts.samples import DAMAGES, HOSTILE_PATHS, PROSE, files_below, write_corpus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    folder.mkdir()
    write_corpus(folder)
    (folder / "manifest.json").write_bytes(describe_folder(folder).to_json())
    return folder


def test_manifest_lists_every_file_with_size_and_hash(folder: Path) -> None:
    by_path = {entry.path: entry for entry in read_manifest(folder).files}
    assert sorted(by_path) == ["attachments/timings.txt", "funnel.json", "train/prose.txt"]
    prose = by_path["train/prose.txt"]
    assert (prose.size, prose.sha256) == (1600, hashlib.sha256(PROSE.encode()).hexdigest())
    assert files_below(folder) == [*sorted(by_path)[:2], "manifest.json", "train/prose.txt"], "no temporary file stays"


def test_digest_covers_content_but_not_attachments_nor_order() -> None:
    a, b = FileEntry("b.txt", 1, "1" * 64), FileEntry("a/c.txt", 2, "2" * 64)
    log, other = FileEntry("attachments/log.txt", 3, "3" * 64), FileEntry("attachments/log.txt", 4, "4" * 64)
    digest = Manifest((a, b, log)).digest
    assert digest == Manifest((other, b, a)).digest == Manifest((b, a)).digest
    assert digest == fingerprint([["a/c.txt", 2, "2" * 64], ["b.txt", 1, "1" * 64]])
    for changed in (FileEntry("B.txt", 1, "1" * 64), FileEntry("b.txt", 2, "1" * 64), FileEntry("b.txt", 1, "0" * 64)):
        assert Manifest((changed, b)).digest != digest


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_damage_is_named(folder: Path, damage: Callable[[Path], str]) -> None:
    verify(folder, read_manifest(folder))
    message = damage(folder)
    with pytest.raises(CorruptArtifact, match=message) as error:
        verify(folder, read_manifest(folder))
    assert str(folder) in str(error.value)
    assert "run again" in str(error.value)


def test_folders_the_manifest_does_not_mention_are_not_its_business(folder: Path) -> None:
    (folder / "checkpoints/step-1").mkdir(parents=True)
    (folder / "checkpoints/step-1/model.bin").write_text("x")
    verify(folder, read_manifest(folder))


def test_a_changed_manifest_is_found(folder: Path) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    content["files"][2]["size"] = 1599
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(CorruptArtifact, match=r"manifest\.json was changed"):
        read_manifest(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": [{"path": 1}], "digest": ""}'])
def test_a_broken_manifest_is_found(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_text(content)
    with pytest.raises(CorruptArtifact, match=r"manifest\.json is not a manifest"):
        read_manifest(folder)


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_no_entry_can_be_made_for_a_path_that_leaves_its_folder(path: str) -> None:
    with pytest.raises(ValueError, match="not one of a file inside the folder"):
        FileEntry(path, 1, "1" * 64)


def test_ordinary_names_are_names() -> None:
    for path in ("a", "a/b.txt", "...", "a..b/.c", "train/می‌شود/x y.parquet", "ab:c", "retrieval@256/1"):
        assert FileEntry(path, 1, "1" * 64).path == path


@pytest.mark.parametrize("linked", ["train", "train/prose.txt"])
def test_a_link_on_the_way_to_a_file_is_named(folder: Path, tmp_path: Path, linked: str) -> None:
    manifest = read_manifest(folder)
    (folder / linked).rename(tmp_path / "elsewhere")
    (folder / linked).symlink_to(tmp_path / "elsewhere")
    prose = [entry for entry in manifest.files if entry.path == "train/prose.txt"]
    with pytest.raises(CorruptArtifact, match=rf"{folder / linked} is a link"):
        verify_files(files_at(folder), prose)
    with pytest.raises(CorruptArtifact, match=linked):
        verify(folder, manifest)


def test_a_folder_without_manifest_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(MissingArtifact, match=str(tmp_path)):
        read_manifest(tmp_path)


def test_hash_is_computed_anew_when_a_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "x"
    for text in ("one", "two", "three"):
        file.write_text(text)
        assert hash_file(file) == hashlib.sha256(text.encode()).hexdigest()
