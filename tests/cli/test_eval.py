"""`k2 eval` on the store of a real lifecycle; its commands with a task of one's own are in tests/docs."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from k2model.cli.main import main


@pytest.fixture
def store(finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("K2_RECIPE", "smoke")
    monkeypatch.setenv("K2_STORE", str(tmp_path / "store"))
    return Path(shutil.copytree(finished[0] / "store", tmp_path / "store"))


def k2(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["eval", *arguments])


def test_the_matrix_has_every_score_of_every_phase_and_marks_what_is_missing(store: Path) -> None:
    whole = json.loads(k2("matrix", "--json").output)
    assert all(entry["cell"] for entry in whole)
    phases = list(dict.fromkeys(entry["checkpoint"]["reference"] for entry in whole))
    assert phases == ["pretrain", "mid_1", "mid_2", "mid_3", "mid_4", "sft"]
    tokens = [entry["checkpoint"]["tokens"] for entry in whole]
    assert tokens == sorted(tokens) and all(score["n"] > 0 for entry in whole for score in entry["scores"])
    arithmetic = [entry for entry in whole if entry["task"] == "arithmetic/think"]
    shutil.rmtree(store / arithmetic[0]["cell"])
    drawn = k2("matrix", "--tasks", "arithmetic/think").output
    assert "missing" in drawn and "4 of 5 cells measured, 1 missing" in drawn
    assert "n=8" in drawn
    filled = json.loads(k2("matrix", "--tasks", "arithmetic/think", "--fill", "--json").output)
    assert [entry["cell"] for entry in filled] == [entry["cell"] for entry in arithmetic]


def test_phases_are_compared_on_their_items(store: Path) -> None:
    (prose, *_) = json.loads(k2("compare", "pretrain", "mid_4", "--tasks", "loss/prose,arithmetic", "--json").output)
    result = prose["result"]
    assert prose["score"] == "loss/prose" and result["difference"] < 0 and result["high"] < 0 < result["gained"]
    table = k2("compare", "pretrain", "mid_4", "--tasks", "loss/prose").output
    assert "difference" in table and "loss/prose" in table


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "mid_9"), "'mid_9' names no model: it is no phase of smoke (did you mean 'mid_"),
        (("run", "mid_1", "--tasks", "arithmatic"), "nothing is asked 'arithmatic'; did you mean 'arithmetic/"),
        (("run", "mid_1@7"), "mid_1 has no checkpoint of step 7"),
        (("run", "mid_1", "--tasks", "tools"), "mid_1 is asked none of tools"),
        (("run", "mid_1", "--tasks", ""), "is given and names nothing"),
        (("matrix", "--checkpoints", "mid_7"), "there is no checkpoint 'mid_7' of smoke"),
        (("compare", "mid_1", "mid_2", "--tasks", "facts", "--limit", "3"), "mid_1 has no scores on these tasks yet"),
    ],
)
def test_what_cannot_be_asked_is_told(store: Path, arguments: tuple[str, ...], told: str) -> None:
    result = k2(*arguments)
    assert result.exit_code != 0 and told in result.output, result.output
