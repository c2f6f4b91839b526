"""One live holder at a time; the dead are succeeded; who was succeeded notices."""

import contextlib
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from k2model.artifacts import Identity, Lease, LeaseHeld, LeaseLost, Store, lease
from k2model.artifacts.files import Files, LocalFiles, files_at
from tests.artifacts.samples import files_below, write_corpus


def holder_of(store: Store, identity: Identity) -> tuple[Files, str, dict]:
    """Storage, path and content of the lease that is in force."""
    files = files_at(store.uri)
    path = max(files.sizes(f"_leases/{identity.name}"))
    return files, path, json.loads(files.read(path))


def edit(store: Store, identity: Identity, **changes: object) -> None:
    files, path, holder = holder_of(store, identity)
    files.write(path, json.dumps({**holder, **changes}).encode())


def test_a_second_holder_is_refused_by_name(any_store: Store, identity: Identity) -> None:
    with any_store.lease(identity):
        _, _, holder = holder_of(any_store, identity)
        with pytest.raises(LeaseHeld, match=rf"process {holder['pid']} on {holder['host']} is making {identity.name}"):
            with any_store.lease(identity):
                pass
        with pytest.raises(LeaseHeld):
            any_store.build(identity, write_corpus, wait_seconds=0)
        with any_store.lease(replace(identity, version="2")):
            pass  # another artifact is free
    with any_store.lease(identity) as lease:
        lease.check()


def test_released_when_the_work_fails(any_store: Store, identity: Identity) -> None:
    for failure in (KeyboardInterrupt, RuntimeError):

        def fail(folder: Path, failure: type[BaseException] = failure) -> dict[str, float]:
            (folder / "half").write_text("x")
            raise failure("told as it is")

        with pytest.raises(failure, match="told as it is"):
            any_store.build(identity, fail)
    assert any_store.find(identity) is None
    assert any_store.lost() == []
    assert any_store.build(identity, write_corpus, wait_seconds=0)


def test_leases_do_not_pile_up(store: Store, identity: Identity) -> None:
    for _ in range(5):
        with store.lease(identity):
            pass
    assert len(files_below(f"{store.uri}/_leases")) == 1


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is silent for a third of a second is taken for dead."""
    for name, seconds in (("HEARTBEAT_SECONDS", 0.1), ("STALE_SECONDS", 0.3), ("_POLL_SECONDS", 0.05)):
        monkeypatch.setattr(lease, name, seconds)


def asleep(held: Lease) -> None:
    """As a process is that was stopped: its lease is renewed no more."""
    held._stop.set()
    assert held._thread is not None
    held._thread.join()


DAY = 24 * 3600.0


@pytest.mark.parametrize("ahead", [0.0, DAY, -DAY], ids=["same clock", "a day ahead", "a day behind"])
def test_a_holder_elsewhere_is_dead_when_it_is_seen_to_be_silent(
    any_store: Store, identity: Identity, brief: None, ahead: float
) -> None:
    with any_store.lease(identity) as first:
        asleep(first)
        edit(any_store, identity, machine="elsewhere", heartbeat=time.time() + ahead)
        if not ahead:
            with pytest.raises(LeaseHeld):  # whoever does not wait sees no more than a fresh sign of life
                any_store.build(identity, write_corpus, wait_seconds=0)
        with any_store.lease(identity, wait_seconds=20) as second:
            second.check()
            with pytest.raises(LeaseLost, match=identity.name):
                first.check()


@pytest.mark.parametrize("ahead", [DAY, -DAY], ids=["a day ahead", "a day behind"])
def test_a_clock_that_is_wrong_takes_no_lease_from_the_living(
    any_store: Store, identity: Identity, brief: None, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """Two makers worked on one artifact when the clock of one machine was ahead."""
    clock = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: clock() + ahead)  # of the holder
        with any_store.lease(identity) as first:
            patch.setattr(lease, "machine", lambda: "elsewhere")
            edit(any_store, identity, heartbeat=clock() + ahead)
            until = time.monotonic() + 1.0
            with pytest.raises(LeaseHeld):
                with any_store.lease(identity, wait_seconds=1.0):
                    pass
            assert time.monotonic() >= until
            first.check()


def test_a_watcher_that_was_stopped_itself_has_seen_nothing(
    store: Store, identity: Identity, brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.lease(identity) as held:
        asleep(held)
        edit(store, identity, machine="elsewhere")
        clock = time.monotonic
        for later in (0, 100):
            monkeypatch.setattr(time, "monotonic", lambda later=later: clock() + later)
            with pytest.raises(LeaseHeld):
                with store.lease(identity):
                    pass


@pytest.mark.parametrize("change", [{"pid": 2**22 + 1}, {"started": "1"}], ids=["no such process", "id was reused"])
def test_a_dead_holder_on_this_machine_is_succeeded_at_once(store: Store, identity: Identity, change: dict) -> None:
    with store.lease(identity):
        edit(store, identity, **change)
        with store.lease(identity):
            pass


def test_a_succeeded_maker_publishes_nothing(any_store: Store, identity: Identity) -> None:
    def slow(folder: Path) -> dict[str, float]:
        (folder / "slow").write_text("x")
        edit(any_store, identity, released=True)  # as it is for a successor that has seen no sign of life
        assert any_store.build(identity, write_corpus, wait_seconds=0)
        return {}

    with pytest.raises(LeaseLost):
        any_store.build(identity, slow)
    found = any_store.find(identity)
    assert found is not None
    assert "slow" not in files_at(found.uri).sizes()


def test_the_heart_beats(any_store: Store, identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    with any_store.lease(identity):
        first = holder_of(any_store, identity)[2]["beat"]
        deadline = time.monotonic() + 30
        while holder_of(any_store, identity)[2]["beat"] == first and time.monotonic() < deadline:
            time.sleep(0.05)
        assert holder_of(any_store, identity)[2]["beat"] > first


def test_the_heart_notices_a_successor(store: Store, identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    with store.lease(identity) as held:
        files, path, _ = holder_of(store, identity)
        files.write(path.replace("00000001", "00000002"), b"{}")
        thread = held._thread
        assert thread is not None
        thread.join(30)
        assert not thread.is_alive()
        files.remove(path.replace("00000001", "00000002"))
        with pytest.raises(LeaseLost):
            held.check()


def test_a_number_that_was_cleaned_up_gives_no_lease(store: Store, identity: Identity) -> None:
    """A process that was asleep between looking and taking must not hold beside its successors."""
    with contextlib.ExitStack() as others:

        class AsleepBeforeCreate(LocalFiles):
            def create(self, path: str, data: bytes) -> bool:
                with store.lease(identity):  # number 1, which the next holder removes
                    pass
                successor = others.enter_context(store.lease(identity))
                assert super().create(path, data), "number 1 is free again, so this alone would be no protection"
                successor.check()
                return True

        with pytest.raises(LeaseHeld):
            with Lease(AsleepBeforeCreate(store.uri), f"_leases/{identity.name}", identity.name):
                pass
