"""What only an object store can do wrong, on a real S3 service."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from k2model.artifacts import (
    ArtifactError,
    CorruptArtifact,
    Identity,
    Store,
    StoreWriteError,
    describe_folder,
    files,
    read_manifest,
    verify,
)
from k2model.artifacts.files import files_at
from tests.artifacts.samples import DAMAGES, PROSE, add, files_below, stored, write_corpus


@pytest.fixture
def no_client_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next request reads the environment anew."""
    monkeypatch.setattr(files, "_clients", {})


@pytest.mark.parametrize("damage", [d for d in DAMAGES if d is not add], ids=lambda f: f.__name__)
def test_fetch_refuses_damage_on_s3(
    s3_uri: str, identity: Identity, tmp_path: Path, damage: Callable[[Path], str]
) -> None:
    store = Store.open(s3_uri)
    ref = store.build(identity, write_corpus)
    copy = tmp_path / "copy"
    copy.mkdir()
    write_corpus(copy)
    before = describe_folder(copy)
    message = damage(copy)
    for entry in before.files:
        remote = files_at(ref.uri)
        if (copy / entry.path).exists():
            remote.write(stored(ref, entry.path), (copy / entry.path).read_bytes())
        else:
            remote.remove(stored(ref, entry.path))
    with pytest.raises(CorruptArtifact, match=message):
        verify(ref.uri, read_manifest(ref.uri))
    shutil.rmtree(tmp_path / "home")  # the copy that was kept when it was made
    with pytest.raises(CorruptArtifact, match=message.split(" ")[0]):
        store.fetch(ref)
    assert not [f for f in files_below(tmp_path / "home") if "partial" in f]


def test_a_damaged_cached_copy_is_fetched_again(s3_uri: str, identity: Identity) -> None:
    store = Store.open(s3_uri)
    ref = store.build(identity, write_corpus)
    file = store.fetch(ref) / "train/prose.txt"
    file.write_text("x" + PROSE[1:])
    assert store.fetch(ref) == file.parents[1]
    assert file.read_text() == PROSE


def test_wrong_credentials_are_told(s3_uri: str, monkeypatch: pytest.MonkeyPatch, no_client_yet: None) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ArtifactError, match=rf"{s3_uri}.*credentials"):
        Store.open(s3_uri)


def test_an_unreachable_service_is_told(
    s3_uri: str, identity: Identity, monkeypatch: pytest.MonkeyPatch, no_client_yet: None
) -> None:
    import s3fs

    store = Store(files_at(s3_uri))  # type: ignore[arg-type]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    with pytest.raises(ArtifactError, match=r"cannot read .*AWS_ENDPOINT_URL"):
        store.find(identity)
    with pytest.raises(StoreWriteError, match=r"cannot write x in the store .*AWS_ENDPOINT_URL.*run the same command"):
        files_at(s3_uri).write("x", b"")


def test_of_two_conditional_puts_one_wins(s3_uri: str) -> None:
    files = files_at(s3_uri)
    assert files.create("lease", b"first") is True
    assert files.create("lease", b"second") is False
    assert files.read("lease") == b"first"
