"""`k2 compare` of two fine-tunings of one parent, of a model and its continuation, and of what has nothing in common:
relation, settings, scores with paired tests, the page."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from k2model.artifacts import Store
from k2model.cli.main import main
from k2model.evals.statistics import mcnemar
from tests.inspect.life import ASKED, TOKENS, Life
from tests.inspect.test_lineage import life  # noqa: F401  one lifecycle for both


def invoke(life: Life, *arguments: str) -> Result:  # noqa: F811
    return CliRunner().invoke(main, ["compare", *arguments, "--store", life.store.uri])


def compared(life: Life, first: str, second: str) -> dict[str, Any]:  # noqa: F811
    result = invoke(life, first, second, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def settings(told: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {one["field"]: (one["first"], one["second"]) for one in told["settings"]}


def of(told: dict[str, Any], score: str) -> dict[str, Any]:
    return next(one for one in told["scores"] if one["score"] == score)


def test_two_branches_of_one_parent_differ_in_one_setting_and_in_paired_scores(life: Life) -> None:  # noqa: F811
    told = compared(life, "sft/checkpoint", "sft_b/export")
    parent = life.made["mid_1/checkpoint"].name
    assert told["relation"] == f"Both go on from mid_1 ({parent}): the first through sft, the second through sft_b."
    own = settings(told)
    assert own["phase.optimizer.lr"] == (1e-3, 3e-3)
    assert own.keys() == {"called", "phase.name", "phase.optimizer.lr"}  # the same rows, the same parent
    line = of(told, "arithmetic/think")
    pair = line["paired"]
    assert (line["first"]["n"], pair["n"], pair["gained"], pair["lost"]) == (ASKED, ASKED, 10, 0)
    assert pair["p"] == pytest.approx(mcnemar(10, 0)) and pair["difference"] == pytest.approx(10 / ASKED)
    assert line["verdict"] == "better" and line["first"]["low"] < 10 / ASKED < line["first"]["high"]
    loss = of(told, "loss/prose")
    assert loss["paired"]["difference"] == pytest.approx(-1.0) and loss["verdict"] == "better"
    assert of(told, "exam_of_sft")["problem"] == "only of the first" and of(told, "exam_of_sft_b")["second"]
    assert told["first"]["origin"].startswith("theirs/checkpoint (https://example.org/7b")
    assert told["first"]["phases"] == ["mid_1", "sft"] and told["first"]["tokens"] == 2 * TOKENS
    assert told["missing"] == []


def test_a_continuation_is_compared_with_what_it_goes_on_from(life: Life) -> None:  # noqa: F811
    told = compared(life, "sft/checkpoint", life.made["turn_1_sft/checkpoint"].digest)
    assert told["relation"] == "The second goes on from the other's weights, through sft, continuation 1."
    own = settings(told)
    assert own["parent"][0].startswith("mid_1/checkpoint") and own["parent"][1].startswith("sft/checkpoint")
    assert own["tokens_1"][0] == "none" and own["tokens_1"][1].startswith("tokens (")  # those of the batch
    assert told["missing"] == ["second: sft, continuation 1/checkpoint has no scores; `k2 eval run` measures them"]
    again = compared(life, life.made["turn_1_sft/checkpoint"].digest, "mid_1/checkpoint")
    assert again["relation"] == "The first goes on from the other's weights, through sft and sft, continuation 1."


def test_a_change_deep_below_is_told_where_it_was_made(tmp_path: Path) -> None:
    life = Life(Store.open(tmp_path / "store"))  # noqa: F811
    life.data()
    life.adopt()
    life.phase("pretrain")
    life.phase("sft", "pretrain")
    life.phase("pretrain_2", lr=5e-3, own="pretrain")
    life.phase("sft_2", "pretrain_2", own="sft")
    life.phase("sft_3", "theirs", own="sft")
    told = compared(life, life.made["sft/checkpoint"].name, life.made["sft_2/checkpoint"].name)
    assert settings(told)["phase.optimizer.lr"] == (1e-3, 5e-3)
    (row,) = [one for one in told["settings"] if one["field"] == "phase.optimizer.lr"]
    assert row["of"] == "pretrain/checkpoint"
    assert (
        told["relation"]
        == "They share no weights: the first began with random weights, the second with random weights."
    )
    other = compared(life, life.made["sft/checkpoint"].name, life.made["sft_3/checkpoint"].name)
    assert settings(other)["parent"][1].startswith("theirs/checkpoint (adopted_checkpoint/")
    assert "the second with theirs/checkpoint (https://example.org/7b)" in other["relation"]


def test_what_is_no_model_has_its_settings_compared(life: Life) -> None:  # noqa: F811
    told = compared(life, life.made["corpus_raw"].name, life.made["batch_corpus_raw"].name)
    assert "inputs.notes" in settings(told) and told["scores"] == []
    corpus, tokens = life.made["corpus_raw"].name, life.made["tokens"].name
    assert told["relation"] == f"{life.made['batch_corpus_raw'].name} was made from {corpus}."  # whose items it has
    assert compared(life, tokens, corpus)["relation"] == f"{tokens} was made from {corpus}."
    assert compared(life, "theirs/checkpoint", tokens)["relation"] == "Neither was made from the other."
    assert compared(life, "sft/export", "sft/scores")["relation"] == "They are of the same model."
    same = compared(life, "sft/export", "sft/export")
    assert same["relation"] == "They are the same artifact: equal bytes." and same["settings"] == []


def test_what_is_missing_on_a_side_is_named(tmp_path: Path) -> None:
    life = Life(Store.open(tmp_path / "store"))  # noqa: F811
    life.data()
    life.phase("pretrain")
    life.phase("sft", "pretrain", right=3)
    life.phase("aside", "pretrain", right=9)
    root = Path(life.store.uri)
    shutil.rmtree(root / life.made["pretrain/checkpoint"].name)
    (root / life.made["aside/scores"].name / "items.parquet").unlink()
    told = compared(life, "sft/checkpoint", "aside/checkpoint")
    gone = [said for said in told["missing"] if "pretrain/checkpoint" in said]
    assert "first: pretrain/checkpoint: it is not here any more" in gone
    assert any(said.startswith("first: the log of pretrain/checkpoint") for said in gone)
    assert any("second: scores of scores/" in said and "items.parquet" in said for said in told["missing"])
    assert of(told, "arithmetic/think")["problem"] == "what came of the items of the second is not here"
    assert of(told, "arithmetic/think")["second"]["value"] == pytest.approx(9 / ASKED)
    text = invoke(life, "sft/checkpoint", "aside/checkpoint")
    assert text.exit_code == 0 and "missing or not agreeing: first: pretrain/checkpoint: it is not here" in text.output


def test_the_page_has_what_the_terminal_has_and_both_curves(life: Life, tmp_path: Path) -> None:  # noqa: F811
    out = tmp_path / "compare.html"
    shown = invoke(life, "sft/checkpoint", "sft_b/checkpoint", "--out", str(out))
    assert shown.exit_code == 0, shown.output
    assert re.search(r"arithmetic/think +0\.417 \(.*0\.833 \(.*\+0\.417 .* 10 +0 +24 +better", shown.output)
    page = out.read_text()
    HTMLParser().feed(page)
    told = compared(life, "sft/checkpoint", "sft_b/checkpoint")
    rows = re.findall(r'<tr data-score="([^"]+)"', page)
    assert sorted(rows) == sorted(one["score"] for one in told["scores"])
    assert told["relation"] in page and "phase.optimizer.lr" in page and "0.003" in page
    loss = page.split('aria-label="training loss of both')[1].split("</svg>")[0]
    assert [loss.count(f'class="line s-{colour}"') for colour in ("c7", "c0", "c1")] == [1, 1, 1]
    points = {c: re.search(rf'<polyline points="([^"]*)" class="line s-{c}"', loss)[1].split() for c in ("c0", "c1")}  # type: ignore[index]
    assert points["c0"][0].split(",")[0] == points["c1"][0].split(",")[0]  # both begin where their parent ended
    assert "src=" not in page and "url(" not in page and "<script" not in page
