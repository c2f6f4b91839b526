"""A process that dies at any moment leaves nothing that is taken as done, and does not stand in the way."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from k2model.artifacts import Identity, Store
from k2model.artifacts.files import RemoteFiles, files_at
from tests.artifacts.samples import files_below, write_corpus

LOCAL_STEPS = ("link", "replace", "rename", "fsync", "mkdir", "unlink")


def run(target: Callable[..., None], *arguments: object) -> int | None:
    """Runs `target` in a forked process and returns its exit code."""
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    process.join(60)
    return process.exitcode


def die_at(owner: object, names: tuple[str, ...], count: int) -> None:
    """Kills this process, as `kill -9` does, when it does one of `names` of `owner` for the `count`th time."""
    done = 0

    def wrap(operation: Callable) -> Callable:
        def wrapped(*arguments: object, **keywords: object) -> object:
            nonlocal done
            done += 1
            if done == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*arguments, **keywords)

        return wrapped

    for name in names:
        setattr(owner, name, wrap(getattr(owner, name)))


def build_and_die(store: Store, identity: Identity, count: int) -> None:
    die_at(os, LOCAL_STEPS, count)
    store.build(identity, write_corpus, wait_seconds=0)
    os._exit(0)


def build_remotely_and_die(store: Store, identity: Identity, operation: str, count: int) -> None:
    die_at(RemoteFiles, (operation,), count)
    store.build(identity, write_corpus, wait_seconds=0)
    os._exit(0)


def check_after_crash(store: Store, identity: Identity) -> None:
    found = store.find(identity)
    if found is not None:
        store.fetch(found)
    ref = store.build(identity, write_corpus, wait_seconds=0)
    folder = store.fetch(ref)
    assert [f for f in files_below(folder) if f not in ("manifest.json", "artifact.json")] == [
        "attachments/timings.txt",
        "funnel.json",
        "train/prose.txt",
    ]
    assert store.lost() == []


def test_killed_at_every_step_of_a_build(tmp_path: Path) -> None:
    kills = 0
    for count in range(1, 200):
        store = Store.open(tmp_path / str(count))
        identity = Identity("corpus", "1", {})
        if run(build_and_die, store, identity, count) == 0:
            break
        kills += 1
        check_after_crash(store, identity)
        assert not [f for f in files_below(f"{store.uri}/_scratch")], "leftovers are swept"
    assert 15 < kills < 199


@pytest.mark.parametrize(
    ("operation", "count"),
    [("put", 2), ("write", 1), ("create", 2), ("create", 3)],
    ids=["half uploaded", "record", "ledger", "manifest"],
)
def test_killed_while_publishing_on_s3(s3_uri: str, identity: Identity, operation: str, count: int) -> None:
    store = Store.open(s3_uri)
    assert run(build_remotely_and_die, store, identity, operation, count) == -signal.SIGKILL
    assert store.find(identity) is None
    left = files_at(store.location(identity)).sizes()
    assert left and all(path.startswith("_made/") for path in left)
    check_after_crash(store, identity)
    assert not left.keys() & files_at(store.location(identity)).sizes().keys(), "the next maker takes it away"


def test_whoever_finds_an_artifact_completes_what_its_maker_did_not(s3_uri: str, identity: Identity) -> None:
    store = Store.open(s3_uri)
    assert run(build_remotely_and_die, store, identity, "write", 2) == -signal.SIGKILL  # its record, after its manifest
    assert not files_at(store.location(identity)).exists("artifact.json")
    found = store.find(identity)
    assert found is not None and found.stats == {"documents": 100}
    assert store.records("corpus") == [store.record(found)]
    assert files_at(found.uri).exists("artifact.json")
    check_after_crash(store, identity)


def test_killed_while_producing(store: Store, identity: Identity, tmp_path: Path) -> None:
    def hang(folder: Path) -> dict[str, float]:
        (folder / "half.txt").write_text("half")
        (tmp_path / "started").touch()
        time.sleep(600)
        return {}

    process = multiprocessing.get_context("fork").Process(target=store.build, args=(identity, hang))
    process.start()
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    process.kill()
    process.join()
    left = files_below(f"{store.uri}/_scratch")
    assert [path.partition(".")[0] + path[path.rindex("/") :] for path in left] == [f"{identity.name}/half.txt"]
    assert store.find(identity) is None
    assert store.lost() == []
    other = Identity("tokens", "1", {})
    store.build(other, write_corpus)
    assert files_below(f"{store.uri}/_scratch") == [], "the next build of anything sweeps what the dead left"
    check_after_crash(store, identity)


def test_the_sweep_spares_the_living(store: Store, identity: Identity) -> None:
    def build_another_meanwhile(folder: Path) -> dict[str, float]:
        write_corpus(folder)
        store.build(Identity("tokens", "1", {}), write_corpus)
        return {}

    ref = store.build(identity, build_another_meanwhile)
    assert (store.fetch(ref) / "train/prose.txt").exists()


def test_racing_processes_build_once(any_store: Store, identity: Identity, tmp_path: Path) -> None:
    processes = 2
    log = tmp_path / "log"
    barrier = multiprocessing.get_context("fork").Barrier(processes)

    def produce(folder: Path) -> dict[str, float]:
        with log.open("a") as file:
            file.write(f"made by {os.getpid()}\n")
        time.sleep(0.3)
        return write_corpus(folder)

    def race() -> None:
        store = Store.open(any_store.uri)
        barrier.wait(30)
        ref = store.build(identity, produce)
        (tmp_path / f"{os.getpid()}.digest").write_text(ref.digest)

    racers = [multiprocessing.get_context("fork").Process(target=race) for _ in range(processes)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0] * processes
    assert len(log.read_text().splitlines()) == 1
    digests = [file.read_text() for file in tmp_path.glob("*.digest")]
    assert len(digests) == processes
    assert len(set(digests)) == 1


def test_racing_processes_make_one_store(tmp_path: Path) -> None:
    processes = 8
    barrier = multiprocessing.get_context("fork").Barrier(processes)

    def race() -> None:
        barrier.wait(30)
        (tmp_path / f"{os.getpid()}.txt").write_text(Store.open(tmp_path / "store").uri)

    racers = [multiprocessing.get_context("fork").Process(target=race) for _ in range(processes)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    found = [file.read_text() for file in tmp_path.glob("*.txt")]
    assert len(found) == processes
    assert len(set(found)) == 1
    assert files_at(tmp_path / "store").sizes() == {"store.json": 13}
