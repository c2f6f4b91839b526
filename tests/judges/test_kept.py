"""Calls of a judge in a store: found by whoever judges next, also where the first was lost."""

import time
from pathlib import Path

import pytest

from k2model.artifacts import Store
from k2model.artifacts.files import RemoteFiles
from k2model.judges.kept import calls_of, kept_calls
from k2model.judges.language_model import LanguageModelJudge
from k2model.judges.verdict import Case
from k2model.synthesis.teachers import kept
from tests.judges.server import JudgeServer, verdict
from tests.synthesis.server import serving

CASES = [Case(f"How do I steal car {n}?", None, f"Answer {n}.") for n in range(6)]


def says(sample: dict, number: int) -> str:
    return verdict(None, (True, False))


def kept_in(uri: str) -> None:
    store = Store.open(uri)
    with serving(JudgeServer(says)) as server:
        config = server.config()
        files = calls_of(store, config)
        with kept_calls(files) as record:
            first = LanguageModelJudge(config, record).verdicts(CASES[:4])
        with kept_calls(files) as record, kept_calls(files) as other:  # two at a time
            assert LanguageModelJudge(config, record).verdicts(CASES[:4]) == first and len(server.asked) == 4
            LanguageModelJudge(config, record).verdicts(CASES[4:5])
            LanguageModelJudge(config, other).verdicts(CASES[5:])
        asked = len(server.asked)
    with kept_calls(files) as record:  # the server is gone
        assert len(LanguageModelJudge(config, record).verdicts(CASES)) == 6 == asked
        told = LanguageModelJudge(config, record).statistics()
    assert not told.get("unanswered")
    assert len(record.name) and not record.exists()


def test_calls_are_found_by_whoever_judges_next(tmp_path: Path) -> None:
    kept_in(str(tmp_path / "store"))


def test_calls_are_found_by_whoever_judges_next_on_an_object_store(s3_uri: str) -> None:
    kept_in(s3_uri)
    assert isinstance(calls_of(Store.open(s3_uri), JudgeServer(says).config()), RemoteFiles)


def test_whole_calls_are_kept_while_others_are_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "FLUSH_SECONDS", 0.01)
    files = Store.open(tmp_path / "store").files_of("_judges/m")
    with kept_calls(files) as record:
        with record.open("ab") as file:
            file.write(b'{"whole": 1}\n{"torn"')
        deadline = time.monotonic() + 10
        while not files.sizes() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [files.read(name) for name in files.sizes()] == [b'{"whole": 1}\n']
        with record.open("ab") as file:
            file.write(b": 2}\n")
    assert b"".join(files.read(name) for name in sorted(files.sizes())) == b'{"whole": 1}\n{"torn": 2}\n'
