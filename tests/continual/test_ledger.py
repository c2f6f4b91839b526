"""The ledger's files: a chain that only grows, whoever writes and whoever is killed, and what is said when it is
damaged."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from k2model.artifacts import Identity, Store
from k2model.artifacts.outside import read_small
from k2model.continual import ledger as module
from k2model.continual.entries import Arrival, Contradiction, Retry, Start, TurnBegan, ending
from k2model.continual.ledger import Ledger, LedgerDamaged, LedgerError, LedgerMoved
from k2model.continual.state import Outcome, Standing
from k2model.plain import NotPlain
from tests.continual.samples import batch, began, corpus, ended, idle, kickoff, model, reference, standings

LINE = "laptop"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def grown(store: Store, last: int = 6) -> Ledger:
    """A ledger with a start, three arrivals, a turn that was promoted, and idle ones up to entry `last`."""
    made = Ledger.open(store, LINE)
    state = made.append("start", {"model": model(store), "corpus": corpus(store)}, 0)
    for name in ("monday", "tuesday"):
        state = made.append("arrival", {"kickoff": kickoff(1), "batch": batch(store, name)}, state)
    state = made.append("arrival", Arrival(kickoff(1), batch(store, "copy", Standing.REFUSED)), state)
    state = made.append("turn_began", TurnBegan(began(1, "monday", "tuesday")), state)
    state = made.append("turn_ended", ending(state, ended(store, 1, Outcome.PROMOTED, "monday", "tuesday"), 2), state)
    while state.entries < last:
        state = made.append("turn_ended", idle(state.next_turn), state)
    return made


def of(store: Store, *path: str) -> Path:
    return Path(store.uri, "_continual", LINE, *path)


def check_reading(store: Store) -> None:
    made = grown(store)
    again = Ledger.open(store, LINE)
    assert again.state() == made.state() and list(again.state().batches) == ["monday", "tuesday", "copy"]
    assert standings(again.state().batches) == {"monday": "taken", "tuesday": "taken", "copy": "refused"}
    assert (again.state().champion, again.state().before, again.state().entries) == (1, (0,), 6)
    assert [entry.kind for entry in again.entries()] == ["start", *["arrival"] * 3, "turn_began", "turn_ended"]
    assert [entry.number for entry in again.entries(after=4)] == [5, 6]
    assert again.state().models[1].made["tuned/export"] == reference(store, "export", "1"), "its place is the store's"
    assert {*again.times()} == {*range(1, 7)}
    with pytest.raises(LedgerMoved, match=r"entry 6 .* there are 6"):
        again.append("retry", Retry("copy"), 5)
    grown_by_another = made.append("turn_ended", idle(2), 6)
    assert again.state() == grown_by_another
    again._last = lambda: 7  # type: ignore[method-assign]  # as if it had looked just before the other wrote
    made.append("turn_ended", idle(3), 7)
    with pytest.raises(LedgerMoved, match=r"entry 8 .* there are 8"):
        again.append("turn_ended", idle(3, "2027-01-01T00:00:00Z"), 7)
    assert made.state() == Ledger.open(store, LINE).state() and made.state().turns[-1].kickoff == kickoff(3)


def test_what_is_written_is_read_back(store: Store) -> None:
    check_reading(store)


def test_on_s3(s3_uri: str) -> None:
    check_reading(Store.open(s3_uri))


def test_two_stores_get_equal_bytes(store: Store, tmp_path: Path) -> None:
    grown(store), grown(Store.open(tmp_path / "other"))
    folder, other = (Path(root, "_continual", LINE, "ledger") for root in (store.uri, tmp_path / "other"))
    files = sorted(path.name for path in folder.iterdir())
    assert files == [f"{number:08d}.json" for number in range(1, 7)]
    assert [(folder / name).read_bytes() for name in files] == [(other / name).read_bytes() for name in files]
    assert store.uri not in (folder / files[-1]).read_text()


def test_an_empty_line_has_no_champion(store: Store) -> None:
    state = Ledger.open(store, "new").state()
    assert (state.entries, state.champion, state.model, state.next_turn) == (0, None, None, 1)
    with pytest.raises(LedgerError, match=r"a line is named '../laptop'"):
        Ledger.open(store, "../laptop")


def test_entries_that_do_not_fit_are_not_written(store: Store) -> None:
    made = grown(store)
    for kind, content, told in (
        ("retry", {"batch": "copy"}, "batch 'copy' is refused, not set aside"),
        ("turn_began", {"began": began(2, "monday", champion=1)}, "batch 'monday' does not wait: it is taken"),
        ("turn_ended", idle(4), "turn 4 is not the next one, which is turn 2"),
        ("rollback", {"to": 7, "reason": "x"}, "turn 7 made no champion that can stand again; these can: 0, 1"),
    ):
        with pytest.raises(Contradiction, match=told):
            made.append(kind, content, 6)
    with pytest.raises(Contradiction, match=r"'promoted' is no kind of entry .*did you mean 'promote'"):
        made.append("promoted", {"turn": 1}, 6)
    with pytest.raises(NotPlain, match="'batsh' is no field; did you mean 'batch'"):
        made.append("retry", {"batsh": "copy"}, 6)
    with pytest.raises(NotPlain, match="'to' is \"0\", expected a whole number"):
        made.append("rollback", {"to": "0", "reason": ""}, 6)
    assert Ledger.open(store, LINE).state().entries == 6 == len(list(of(store, "times").iterdir()))


def change(path: Path) -> str:
    path.write_text(path.read_text().replace('"late": false', '"late": true'))
    return "0004.json: it says that the one before it has sha256"


def remove(path: Path) -> str:
    path.unlink()
    return "00000003.json: it is missing, and a later one \\(00000006.json\\) is there"


def stray(path: Path) -> str:
    path.with_name("00000003 (1).json").write_text("{}")
    return r"00000003 \(1\).json is no entry"


def cut(path: Path) -> str:
    path.write_bytes(path.read_bytes()[:40])
    return "00000003.json: it is no JSON"


def last_one(path: Path) -> str:
    path.with_name("00000006.json").unlink()
    return "00000006.json: it is missing"


def change_of_the_last(path: Path) -> str:
    last = path.with_name("00000006.json")
    last.write_text(last.read_text().replace('"kickoff": "2026', '"kickoff": "2025', 1))
    return "00000006.json: it has sha256 .* when it was written: it was changed"


def folder(path: Path) -> str:
    last_one(path)
    path.with_name("00000006.json").mkdir()
    return "00000006.json: it is a folder"


def link(path: Path) -> str:
    path.rename(path.parents[1] / "elsewhere.json")
    path.symlink_to(path.parents[1] / "elsewhere.json")
    return "00000003.json: it is a link"


def pipe(path: Path) -> str:
    path.unlink()
    os.mkfifo(path)
    return "00000003.json: it is a folder, a pipe or a device"


def foreign(path: Path) -> str:
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "kind": "merged"}))
    return "00000003.json: 'merged' is no kind of entry that this version"


def field(path: Path) -> str:
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "batch": {**data["batch"], "standing": "waitng"}}))
    return "00000003.json: 'batch.standing' is \"waitng\"; did you mean 'waiting'"


DAMAGE = [change, remove, stray, cut, last_one, foreign, field, change_of_the_last, folder, link, pipe]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda one: one.__name__)
def test_damage_is_named(store: Store, damage) -> None:
    grown(store)
    told = damage(of(store, "ledger", "00000003.json"))
    with pytest.raises(LedgerDamaged, match=told):
        Ledger.open(store, LINE).state()


def test_without_its_time_an_entry_counts(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A writer that was killed left none, an earlier version no hash, and damage to one costs the line nothing."""
    state = grown(store).state()
    time_of_last = of(store, "times", "00000006.json")
    for content in ('{"written": "2026-11-01T00:00:00+00:00"}', "{"):
        time_of_last.write_text(content)
        assert Ledger.open(store, LINE).state() == state
    assert "times/00000006.json is not when an entry was written" in caplog.text
    time_of_last.unlink()
    assert Ledger.open(store, LINE).state() == state


def test_a_snapshot_is_where_reading_begins(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 8)
    state = grown(store, 27).state()
    assert sorted(path.name for path in of(store, "snapshots").iterdir()) == ["00000016.json", "00000024.json"]
    read = []
    fresh = Ledger.open(store, LINE)
    monkeypatch.setattr(module, "read_small", lambda files, path: read.append(path) or read_small(files, path))
    assert fresh.state() == state and list(fresh.state().batches) == list(state.batches)
    assert [path for path in read if path.startswith("ledger/")] == [f"ledger/{n:08d}.json" for n in (24, 25, 26, 27)]


@pytest.mark.parametrize("wrong", ["cut", "changed", "of another entry", "pipe"])
def test_a_snapshot_that_does_not_fit_is_not_used(store: Store, wrong: str, monkeypatch, caplog) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 8)
    state = grown(store, 9).state()
    file = of(store, "snapshots", "00000008.json")
    text = file.read_text()
    changed = {"cut": text[:200], "changed": text.replace('"champion": 1', '"champion": 0')}
    changed["of another entry"] = text.replace(
        f'"head": "{json.loads(text.splitlines()[0])["head"][:8]}', '"head": "0000', 1
    )
    file.unlink()
    if wrong == "pipe":
        os.mkfifo(file)
    else:
        file.write_text(changed[wrong])
        assert file.read_text() != text
    assert Ledger.open(store, LINE).state() == state
    assert "snapshots/00000008.json is not used" in caplog.text


def test_verification_reads_all_and_looks_for_artifacts(store: Store, monkeypatch) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 8)
    made = grown(store, 9)

    def produce(folder: Path) -> dict[str, float]:
        (folder / "verdict.json").write_text("{}")
        return {"seconds": time.time()}

    there = store.build(Identity("verdict", "1", {}), produce)
    state = made.append("canary", {"turn": 1, "kickoff": kickoff(9), "reason": "as good", "evidence": there}, 9)
    assert state.canaries == {1: "as good"}
    found = Ledger.open(store, LINE).verify()
    assert (found.entries, found.head, found.artifacts) == (10, state.head, 1)
    assert any(one.startswith(f"{reference(store, 'export', '1').name}: ") for one in found.lost)
    text = of(store, "ledger", "00000002.json").read_text()
    of(store, "ledger", "00000002.json").write_text(text.replace('"tokens": 1000', '"tokens": 9000'))
    assert Ledger.open(store, LINE).state() == state, "the snapshot is bound to entry 8 alone"
    with pytest.raises(LedgerDamaged, match=r"00000003.json: it says that the one before it"):
        Ledger.open(store, LINE).verify()


WRITER = """
    import sys
    from k2model.artifacts import Store
    from k2model.continual.ledger import Ledger, LedgerMoved
    from tests.continual.samples import batch
    store, own = Store.open(sys.argv[1]), Ledger.open(Store.open(sys.argv[1]), "laptop")
    won = lost = 0
    while won < int(sys.argv[3]):
        state = own.state()
        try:
            name = f"{sys.argv[2]}{won}"
            own.append("arrival", {"kickoff": "2026-01-01T00:00:00Z", "batch": batch(store, name)}, state)
            won += 1
        except LedgerMoved:
            lost += 1
        print(won, flush=True)
    print("lost", lost)
"""


def writer(store: Store, name: str, entries: int) -> subprocess.Popen:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), store.uri, name, str(entries)],
        cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_each_turn_is_told_with_the_state_in_which_it_began(store: Store) -> None:
    made = grown(store)
    state = made.append("arrival", Arrival(kickoff(2), batch(store, "later")), made.state())
    opened = made.append("turn_began", TurnBegan(began(2, "later", champion=1)), state)
    first, second = Ledger.open(store, LINE).beginnings()
    assert first[0] == began(1, "monday", "tuesday") == first[1].open
    assert (first[1].entries, first[1].champion, [*first[1].batches]) == (5, 0, ["monday", "tuesday", "copy"])
    assert second == (began(2, "later", champion=1), opened)


def test_of_two_writers_each_number_has_one(store: Store) -> None:
    both = [writer(store, name, 25) for name in "ab"]
    assert [process.communicate(timeout=60)[0].count("lost") for process in both] == [1, 1]
    state = Ledger.open(store, LINE).state()
    assert state.entries == 50 and {*state.batches} == {f"{name}{number}" for name in "ab" for number in range(25)}


def test_a_killed_writer_leaves_a_whole_ledger(store: Store) -> None:
    for attempt in range(3):
        process = writer(store, f"w{attempt}-", 100_000)
        assert process.stdout is not None
        for _ in range(3 + attempt):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        fresh = Ledger.open(store, LINE)
        state = fresh.state()
        assert state.entries >= 3 and fresh.verify().entries == state.entries
        assert len(fresh.times()) >= state.entries - attempt - 1, "each that was killed leaves one without its time"
    of(store, "times", "00000002.json").unlink(missing_ok=True)
    assert 2 not in Ledger.open(store, LINE).times()
    Ledger.open(store, LINE).append("start", Start(model(store), corpus(store)), state)
