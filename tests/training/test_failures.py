"""The order of failures in a job, and the prefix of other ranks' lines."""

import sys
from pathlib import Path

import pytest

from k2model.errors import K2Error
from k2model.training.failures import ERROR_FILE, prefixed_stderr, read_failures, reported


def fail(monkeypatch: pytest.MonkeyPatch, attempt: Path, rank: int, error: Exception) -> str:
    """A worker's failure as it is written down; the path torch elastic gave it for its own."""
    path = attempt / str(rank) / "error.json"
    path.parent.mkdir(parents=True)
    monkeypatch.setenv(ERROR_FILE, str(path))
    with pytest.raises(type(error)), reported(rank):
        raise error
    return str(path)


def test_failures_of_one_attempt_come_in_order_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, tmp_path / "attempt_0", 0, K2Error("of the attempt before"))
    fail(monkeypatch, tmp_path / "attempt_1", 2, ZeroDivisionError("the cause"))
    fail(monkeypatch, tmp_path / "attempt_1", 1, K2Error("ours"))
    last = fail(monkeypatch, tmp_path / "attempt_1", 0, RuntimeError("gloo: Connection closed by peer [127.0.0.1]"))
    assert read_failures("<N/A>") == read_failures(last) == [], "torch elastic has not seen one yet"
    Path(last).write_text("{}")
    found = read_failures(last)
    assert [(f.rank, f.type, f.ours, f.lost_another) for f in found] == [
        (2, "ZeroDivisionError", False, False), (1, "K2Error", True, False), (0, "RuntimeError", False, True),
    ]  # fmt: skip
    assert "raise error" in found[0].traceback and found[0].traceback.endswith("ZeroDivisionError: the cause\n")


def test_without_a_launcher_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ERROR_FILE, raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(K2Error), reported(0):
        raise K2Error("alone")
    assert not list(tmp_path.iterdir())


def test_lines_of_other_ranks_have_their_rank_in_front(capsys: pytest.CaptureFixture[str]) -> None:
    with prefixed_stderr(0):
        print("one", file=sys.stderr)
    with prefixed_stderr(3):
        print("two\nthree", file=sys.stderr)
        sys.stderr.write("fo")
        sys.stderr.write("ur\n")
    print("five", file=sys.stderr)
    assert capsys.readouterr().err == "one\n[rank 3] two\n[rank 3] three\n[rank 3] four\nfive\n"
