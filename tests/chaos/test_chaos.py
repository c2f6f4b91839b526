"""The fault suite itself: its short form passes, and it fails where its subject does what it must not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.chaos.__main__ import FAILED, FAULTS, LEFT_OUT, PASSED, suite
from tests.chaos.bench import ROOT, Bench, Ended, Expected, Fault, Seen, Unexpected, actionable, judge
from tests.chaos.damage import made_in
from tests.chaos.soak import Look, growth
from tests.chaos.subject import SCORES, TOKENS

CALM = {"corpus": "1"}
WHOLE = Ended(0, json.dumps({"corpus": {"digest": "1"}}), "")
TRACEBACK = "Traceback (most recent call last):\n  ...\nKeyError: 'run again'"
TOLD = Ended(1, "", "CorruptArtifact: corpus/1 is damaged. Delete the folder and run again")


@pytest.mark.timeout(900)
def test_every_fault_of_the_short_form_ends_as_expected(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--fast", "--out", str(tmp_path)]
    own = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    rows = json.loads((tmp_path / "faults.json").read_text())
    assert done.returncode == 0, [row for row in rows if row["verdict"] == FAILED]
    assert {row["verdict"] for row in rows} <= {PASSED, LEFT_OUT}
    assert len(rows) == len([fault for fault in FAULTS if fault.fast])
    assert not list(tmp_path.glob("k2-chaos-*")), "nothing is left where all went well"


def test_there_are_at_least_sixty_of_all_kinds() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 100
    assert len([fault for fault in FAULTS if fault.fast]) >= 60
    kinds = {
        "kill", "signal", "stop", "twice", "limit", "clock", "disk", "damage", "bit", "in place of a file", "hostile",
        "lease", "S3", "release", "text", "secret", "training", "MLflow",
    }  # fmt: skip
    assert {fault.kind for fault in FAULTS} >= kinds


@pytest.mark.parametrize(
    ("expected", "seen", "words"),
    [
        (Expected.ERROR, Seen([WHOLE], WHOLE, CALM), "as if nothing were wrong"),
        (Expected.EQUAL, Seen([TOLD], WHOLE, CALM), "it ended in an error"),
        (Expected.EITHER, Seen([TOLD], TOLD, CALM), "the run after it ended in an error"),
        (Expected.EITHER, Seen([Ended(0, WHOLE.out.replace("1", "2"), "")], None, CALM), "other digests"),
        (Expected.EITHER, Seen([Ended(None, "", "x")], None, CALM), "it hung"),
        (Expected.ERROR, Seen([Ended(1, "", TRACEBACK)], None, CALM), "traceback"),
        (Expected.ERROR, Seen([Ended(1, "", "")], None, CALM), "without a word"),
        (Expected.ERROR, Seen([Ended(-9, "", "killed")], None, CALM), "exit status -9"),
        (Expected.ERROR, Seen([Ended(1, "", "CorruptArtifact: it is damaged")], None, CALM), "no remedy"),
        (Expected.ERROR, Seen([Ended(1, "", "\x1b[31mDelete it")], None, CALM), "control characters"),
        (Expected.ERROR, Seen([TOLD], WHOLE, CALM, ("tokens",)), "nothing of 'tokens'"),
    ],
)  # fmt: skip
def test_the_judge_takes_nothing_else(expected: Expected, seen: Seen, words: str) -> None:
    with pytest.raises(Unexpected, match=words):
        judge(Fault("a/fault", expected, lambda _: seen), seen)


def test_the_judge_takes_equal_digests_and_an_error_with_a_remedy() -> None:
    fault = Fault("a/fault", Expected.EITHER, lambda _: Seen([], None, {}))
    assert judge(fault, Seen([WHOLE], WHOLE, CALM)) == "equal digests"
    assert judge(fault, Seen([TOLD], WHOLE, CALM, ("corpus/1",))) == f"{TOLD.err}; then equal digests"
    actionable(TOLD, ("Delete",))


def no_check_of_bytes() -> None:
    """From here on this process takes what it reads for what it was when it was made."""
    from k2model.artifacts import confirm, manifest, store, transfer

    for module in (confirm, manifest, store, transfer):
        for name in ("verify", "verify_files", "check_listing"):
            if hasattr(module, name):
                setattr(module, name, lambda *_, **__: None)


def swallow() -> None:
    """From here on `k2 check` looks at no artifact."""
    from k2model.inspect import check

    check._check_artifact = lambda *_: None


def damaged_and_read(bench: Bench) -> Seen:
    """As `bit/what a step reads`, by a store that does not look."""
    store = bench.store()
    made = made_in(bench, store)
    shutil.rmtree(made[SCORES].uri)
    struck = Path(made[TOKENS].uri, "shards", "c.bin")
    struck.write_bytes(bytes(struck.stat().st_size))
    return Seen([bench.line(store, prepare=no_check_of_bytes)], None, bench.calm, ("tokens",))


def not_noticed(bench: Bench) -> Seen:
    """As `damage/entry gone`, shown by a view that swallows."""
    store = bench.store()
    for entry in (store / "_ledger" / "corpus").iterdir():
        entry.unlink()
    return Seen([bench.run("k2", "check", "--store", str(store), prepare=swallow)], None, bench.calm, ("ledger",))


def test_a_subject_that_does_wrong_is_found_out(tmp_path: Path) -> None:
    """A store that publishes what it made of damaged tokens, and a check that swallows what it should tell."""
    planted = [
        Fault("planted/a store that does not look", Expected.ERROR, damaged_and_read),
        Fault("planted/a view that swallows", Expected.ERROR, not_noticed),
    ]
    rows = suite(planted, tmp_path, 0, 2, lambda row: None)
    assert [row.verdict for row in rows] == [FAILED, FAILED]
    assert "other digests" in rows[0].outcome and "as if nothing were wrong" in rows[1].outcome


def test_growth_is_told_from_noise() -> None:
    def looks(added: float) -> list[Look]:
        draw = Random(0)
        return [Look(300 + added * at + draw.uniform(-2, 2), 12 + added * at, 2, 0, 0, 6 * at) for at in range(12)]

    assert [one.name for one in growth(looks(0.0)) if one.grows] == []
    assert [one.name for one in growth(looks(4.0)) if one.grows] == ["memory_mb", "descriptors"]
    with pytest.raises(ValueError, match="more minutes"):
        growth(looks(0.0)[:4])
