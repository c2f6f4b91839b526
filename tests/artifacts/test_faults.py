"""A store that does not take what is written: the error names store, file and remedy; a re-run goes on."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error
from safetensors.numpy import save_file

from k2model.artifacts import ArtifactError, Identity, Store, StoreWriteError
from k2model.artifacts.files import reading, writing
from tests.artifacts.samples import files_below, write_corpus

REMEDY = "run the same command again"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of half a megabyte."""
    mount = tmp_path / "disk"
    mount.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(mount)], capture_output=True)
    except OSError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def write_too_much(folder: Path) -> dict[str, float]:
    (folder / "big.bin").write_bytes(bytes(1_000_000))
    return {}


def write_weights(folder: Path) -> dict[str, float]:
    """By a library that has an error of its own for it."""
    save_file({"weights": np.zeros(200_000)}, folder / "model.safetensors")
    return {}


def fill_the_disk(folder: Path) -> dict[str, float]:
    write_corpus(folder)
    with (folder / "big.bin").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return {}


@pytest.mark.parametrize("produce", [write_too_much, write_weights, fill_the_disk])
def test_a_full_disk(disk: Path, identity: Identity, produce: Callable[[Path], dict[str, float]]) -> None:
    store = Store.open(disk / "store")
    kept = store.build(Identity("tokens", "1", {}), write_corpus)
    message = rf"{disk}/store.*No space left.*MB free there.*free some space.*{REMEDY}"
    with pytest.raises(StoreWriteError, match=message):
        store.build(identity, produce)
    assert store.find(identity) is None
    assert files_below(disk / "store/_scratch") == []
    assert store.fetch(kept)
    assert store.fetch(store.build(identity, write_corpus, wait_seconds=0))


def test_a_read_only_disk(disk: Path, identity: Identity) -> None:
    store = Store.open(disk / "store")
    kept = store.build(identity, write_corpus)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert Store.open(disk / "store").find(identity) == kept
    assert store.build(identity, write_corpus) == kept, "what is there is served"
    assert store.fetch(kept)
    with pytest.raises(StoreWriteError, match=rf"{disk}/store.*Read-only file system.*K2_STORE.*{REMEDY}"):
        store.build(Identity("tokens", "1", {}), write_corpus)
    with pytest.raises(StoreWriteError, match=r"store\.json in the store .*other"):
        Store.open(disk / "other")
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert store.build(Identity("tokens", "1", {}), write_corpus)


@pytest.mark.parametrize("name", ["link", "file", "file/below", "x" * 300])
def test_a_place_where_no_store_can_be_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "link")
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=rf"{tmp_path}/{name}.*K2_STORE"):
        Store.open(tmp_path / name)


def test_a_store_below_what_takes_no_folders_is_named() -> None:
    with pytest.raises(StoreWriteError, match=r"cannot make the store /proc/nowhere.*K2_STORE"):
        Store.open("/proc/nowhere")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("operation", ["fsync", "rename", "link"])
def test_a_failing_operation(
    store: Store, identity: Identity, monkeypatch: pytest.MonkeyPatch, operation: str, number: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, operation, fail)
        with pytest.raises(StoreWriteError, match=rf"{os.strerror(number)}.*{REMEDY}"):
            store.build(identity, write_corpus)
    assert store.find(identity) is None
    assert files_below(f"{store.uri}/_scratch") == []


@pytest.mark.parametrize("code", ["InternalError", "SlowDown", "ServiceUnavailable", "OperationAborted", "TheirOwn"])
def test_what_a_service_says_of_its_own_failure_is_an_error_with_a_remedy(code: str) -> None:
    said = translate_boto_error(ClientError({"Error": {"Code": code, "Message": "try later"}}, "PutObject"))
    for doing, kind in ((writing, StoreWriteError), (reading, ArtifactError)):
        with pytest.raises(kind, match=r"try later.*run"), doing("s3://bucket/store", "corpus/a"):
            raise said


def test_other_errors_of_a_step_pass_as_they_are(store: Store, identity: Identity, tmp_path: Path) -> None:
    def forbidden_elsewhere(folder: Path) -> dict[str, float]:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "elsewhere"))

    def not_connected(folder: Path) -> dict[str, float]:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    for produce, kind in ((forbidden_elsewhere, PermissionError), (not_connected, ConnectionRefusedError)):
        with pytest.raises(kind):
            store.build(identity, produce)


def test_a_file_in_the_place_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")
    with pytest.raises(ArtifactError, match=rf"{tmp_path}/store.*Not a directory.*K2_STORE"):
        Store.open(tmp_path / "store")
