"""The order of failures in a job, and the prefix of other ranks' lines."""

import errno
import sys
from pathlib import Path

import pytest

from k2model.errors import K2Error
from k2model.training.failures import ATTEMPT, FOLDER, prefixed_stderr, read_failures, reported


def fail(monkeypatch: pytest.MonkeyPatch, attempt: Path, rank: int, error: Exception) -> None:
    """A worker's failure as it is written down, for an attempt's folder, whose name is its number."""
    monkeypatch.setenv(FOLDER, str(attempt.parent))
    monkeypatch.setenv(ATTEMPT, attempt.name)
    with pytest.raises(type(error)), reported(rank):
        raise error


def test_failures_of_one_attempt_come_in_order_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, tmp_path / "0", 0, K2Error("of the attempt before"))
    assert read_failures(tmp_path / "1") == []
    fail(monkeypatch, tmp_path / "1", 2, ZeroDivisionError("the cause"))
    fail(monkeypatch, tmp_path / "1", 1, K2Error("ours"))
    fail(monkeypatch, tmp_path / "1", 0, RuntimeError("gloo: Connection closed by peer [127.0.0.1]"))
    found = read_failures(tmp_path / "1")
    assert [(f.rank, f.type, f.ours, f.lost_another) for f in found] == [
        (2, "ZeroDivisionError", False, False), (1, "K2Error", True, False), (0, "RuntimeError", False, True),
    ]  # fmt: skip
    assert "raise error" in found[0].traceback and found[0].traceback.endswith("ZeroDivisionError: the cause\n")


def test_of_blocks_around_each_other_the_inmost_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError), reported(0):
        fail(monkeypatch, tmp_path / "0", 0, K2Error("the cause"))
        raise KeyError("what it led to")
    (found,) = read_failures(tmp_path / "0")
    assert found.message == "the cause"


def test_a_full_disk_is_told_of_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, tmp_path / "0", 0, OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x.bin")))
    (found,) = read_failures(tmp_path / "0")
    assert found.ours and found.type == "DiskFull" and "x.bin" in found.message and "free some space" in found.message


def test_without_a_launcher_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
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
