"""`k2 eval study` and `k2 eval overlap` on the store of a real lifecycle, and on a benchmark that came later."""

import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from k2model.cli.main import main

TASKS = ("--tasks", "facts,arithmetic,code")


@pytest.fixture
def store(finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("K2_RECIPE", "smoke")
    monkeypatch.setenv("K2_STORE", str(tmp_path / "store"))
    return Path(shutil.copytree(finished[0] / "store", tmp_path / "store"))


def k2(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["eval", *arguments], catch_exceptions=False)


def test_what_a_phase_saw_is_told_with_the_scores_without_it(store: Path) -> None:
    before = {path.parent for path in store.glob("items_seen/*/manifest.json")}
    found = json.loads(k2("overlap", "mid_4", *TASKS, "--json").output)
    assert found["checkpoint"] == "mid_4" and found["unknown"] == []
    rows = {row["score"]: row for row in found["scores"]}
    assert all(row["items"] == 8 and row["unseen"] == 8 - row["seen"] for row in rows.values())
    assert rows["facts/seen_wording"]["seen"] > 0 == rows["facts/heldout_wording"]["seen"]
    assert {path.parent for path in store.glob("items_seen/*/manifest.json")} == before  # the lifecycle had made them
    whole = json.loads(k2("overlap", "mid_4", *TASKS, "--level", "sources", "--json").output)
    wider = {row["score"]: row for row in whole["scores"]}
    assert all(wider[score]["seen"] >= row["seen"] for score, row in rows.items())


def test_a_later_benchmark_is_looked_up_in_the_stored_corpus(store: Path, tmp_path: Path) -> None:
    """One item is the beginning of a training document, the other is nowhere."""
    corpus, *_ = store.glob("corpus_valid/*/train/prose")  # another test may have validated it for other phases too
    texts = pq.read_table(next(corpus.glob("*.parquet")), columns=["text"])["text"].to_pylist()
    held = " ".join(max(texts, key=len).split()[:40])
    free = " ".join(f"word{number}" for number in range(40))
    rows = [{"prompt": text, "answer": "yes", "id": name} for name, text in (("held", held), ("free", free))]
    (tmp_path / "exam.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = tmp_path / "exam.yaml"
    task.write_text("name: exam\nlocation: exam.jsonl\nid: id\nlicence: CC0-1.0\n")
    assert k2("run", "pretrain", "--tasks", str(task)).exit_code == 0
    found = json.loads(k2("overlap", "pretrain", "--tasks", str(task), "--level", "sources", "--json").output)
    (exam,) = found["scores"]
    assert (exam["score"], exam["items"], exam["seen"], exam["unseen"]) == ("exam", 2, 1, 1)


def test_the_study_is_one_page_of_all_that_was_measured(store: Path, tmp_path: Path) -> None:
    told = k2("study", *TASKS, "--out", str(tmp_path / "life.html")).output
    assert "6 checkpoints" in told and " 0 missing" in told
    page = (tmp_path / "life.html").read_text(encoding="utf-8")
    assert {"facts/heldout_wording", "arithmetic/think", "code/next_line"} <= set(
        re.findall(r'tr data-score="([^"]+)"', page)
    )
    assert re.search(r"[1-8] of 8<small>without: 0\.\d\d", page)  # trained wordings that were seen
    lacking = next(path for path in store.glob("score/*") if "code/next_line" in (path / "scores.json").read_text())
    shutil.rmtree(lacking)
    assert " 1 missing" in k2("study", *TASKS, "--no-overlap", "--out", str(tmp_path / "life.html")).output
    assert "not measured" in (tmp_path / "life.html").read_text(encoding="utf-8")


def test_what_cannot_be_studied_is_told(store: Path, tmp_path: Path) -> None:
    result = k2("overlap", "mid_7")
    assert result.exit_code != 0 and "there is no checkpoint 'mid_7' of smoke" in result.output
    result = k2("overlap", "mid_1", "--tasks", "facts", "--limit", "3")
    assert result.exit_code != 0 and "mid_1 has no scores on these tasks yet" in result.output
