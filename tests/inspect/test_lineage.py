"""`k2 lineage` down to files and forward to releases: an adopted model, a branch, a continuation, and what is gone."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from k2model.artifacts import Store
from k2model.cli.main import main
from k2model.inspect.references import Names
from k2model.reporting.lineage.graph import ordered, reduced
from tests.inspect.life import Life


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    """`theirs` -> mid_1 -> sft and sft_b on the same rows, released; then a turn that goes on from sft with a batch."""
    made = Life(Store.open(tmp_path_factory.mktemp("life") / "store"))
    made.adopt()
    made.data()
    made.phase("mid_1", "theirs")
    made.phase("sft", "mid_1", right=10)
    made.phase("sft_b", "mid_1", right=20, lr=3e-3, rows="sft/sequences")
    made.release()
    made.data("batch_", ("batch/new",))
    made.join("batch_")
    made.phase("turn_1_sft", "sft", right=22, tokens="joined/tokens", own="sft", scored=False)
    return made


def run(life: Life, *arguments: str) -> Result:
    result = CliRunner().invoke(main, [*arguments, "--store", life.store.uri])
    assert result.exit_code == 0, result.output
    return result


def tree(life: Life, reference: str, *more: str) -> dict[str, Any]:
    return json.loads(run(life, "lineage", reference, *more, "--json").stdout)


def names(lines: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(line["depth"], line["name"]) for line in lines if not line["again"]]


def test_it_goes_down_to_files_and_to_an_adopted_model(life: Life) -> None:
    lines = tree(life, "sft/checkpoint")["made_from"]
    assert {name for _, name in names(lines)} == {
        "sft", "mid_1", "theirs", "tokens", "tokenizer", "corpus", "notes", "chat, 2 sources"
    }  # fmt: skip
    by_name = {line["name"]: line for line in lines}
    assert by_name["notes"]["about"] == ["notes.jsonl, 5.0 KB", "60 rows: 55 documents, 5 quarantined"]
    assert by_name["notes"]["details"][0].endswith("sha256:notes0000000")
    assert by_name["theirs"]["about"] == ["https://example.org/7b", "Apache-2.0, 1 files"]
    assert by_name["chat, 2 sources"]["about"] == ["built by the project", "chat/sums, chat/tools"]
    depth = {line["name"]: line["depth"] for line in lines}
    assert depth["theirs"] == depth["mid_1"] + 1 == 2 and depth["notes"] == depth["corpus"] + 1


def test_it_goes_forward_to_the_release_and_says_what_is_in_none(life: Life) -> None:
    told = tree(life, life.made["corpus_raw"].name)
    later = [line["name"] for line in told["went_into"] if not line["again"]]
    assert later[0] == "corpus" and {"tokens", "mid_1", "sft", "sft_b", "release of garden"} <= {*later}
    assert "theirs" not in later and not any("continuation" in name for name in later)
    turn = tree(life, life.made["turn_1_sft/checkpoint"].digest)
    assert turn["went_into"] == [] and turn["unreleased"] == {"export": 1}
    text = run(life, "lineage", life.made["turn_1_sft/checkpoint"].digest).output
    assert "In no release. Made from it: 1 export." in text


def test_a_branch_has_one_parent_and_a_continuation_is_told_from_what_it_goes_on_from(life: Life) -> None:
    lines = tree(life, "release")["made_from"]
    below = {line["name"]: line["depth"] for line in lines if not line["again"]}
    assert below["sft"] == below["sft_b"] == 1 and "rows of sft + sft_b" in below
    assert [line["name"] for line in lines].count("mid_1") == 2  # below both, told once
    turn = tree(life, life.made["turn_1_sft/checkpoint"].digest)["made_from"]
    shown = [name for _, name in names(turn)]
    assert shown[0] == "sft, continuation 1" and {"sft", "tokens joined", "notes", "batch/new", "theirs"} <= {*shown}
    assert next(line["depth"] for line in turn if line["name"] == "sft") == 1


def test_artifact_by_artifact_each_is_told_once(life: Life) -> None:
    lines = tree(life, "release", "--artifacts")["made_from"]
    places = [line["place"] for line in lines if not line["again"]]
    assert len(places) == len(set(places))
    wanted = {ref.name for name, ref in life.made.items() if not name.startswith(("turn_1", "batch", "joined"))}
    assert {*places} == wanted
    assert [line["name"] for line in lines][:2] == ["release", "report"]


def test_what_is_gone_or_was_never_told_of_is_named(tmp_path: Path) -> None:
    life = Life(Store.open(tmp_path / "store"))
    life.data()
    life.phase("pretrain")
    root = Path(life.store.uri)
    shutil.rmtree(root / life.made["corpus_raw"].name)
    corpus = life.made["corpus"]
    shutil.rmtree(root / corpus.name)
    (root / "_ledger" / "corpus" / f"{corpus.identity}.json").unlink()
    result = run(life, "lineage", "pretrain/checkpoint")
    assert f"corpus {corpus.digest[:12]}" in result.output and "nothing here tells of it" in result.output
    raw = run(life, "lineage", "corpus_raw", "--json")
    (line, *_) = json.loads(raw.stdout)["made_from"]
    assert line["wrong"] == ["corpus_raw: it is not here any more"]
    notes = next(one for one in json.loads(raw.stdout)["made_from"] if one["name"] == "notes")
    assert notes["about"][1] == "rows not known: the raw corpus is gone" and notes["details"]


def test_a_page_that_cannot_be_written_is_one_message(life: Life, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / "lineage.html")
    told = CliRunner().invoke(main, ["lineage", "sft/checkpoint", "--out", out, "--store", life.store.uri])
    assert told.exit_code == 1 and "cannot be written" in told.output


def test_the_page_draws_every_group_and_loads_nothing(life: Life, tmp_path: Path) -> None:
    out = tmp_path / "new" / "lineage.html"
    run(life, "lineage", "sft/checkpoint", "--out", str(out))
    page = out.read_text()
    HTMLParser().feed(page)
    assert page.count('class="box-name"') == page.count('<g class="group">') >= 8
    assert page.count("flow weights") == 2  # theirs -> mid_1 -> sft
    assert "notes.jsonl" in page and "http" not in page.replace("https://example.org/7b", "").replace("http-equiv", "")


def test_names_are_those_of_a_release_and_several_of_one_name_are_listed(life: Life) -> None:
    known = Names.of(life.store.uri, "laptop")
    assert known.find("sft_b/export").key == ("export", life.made["sft_b/export"].digest)
    assert known.find("theirs/checkpoint").key[0] == "adopted_checkpoint"
    assert known.find(life.made["mid_1/checkpoint"].name).record["stats"]["tokens"] == 1_000
    found = known.find("sft")  # a phase of the recipe as well, which has not made it here
    assert found.key[1] == life.made["sft/checkpoint"].digest and "is not in" in found.note
    result = CliRunner().invoke(main, ["lineage", "pretrain", "--store", life.store.uri])
    assert result.exit_code == 1 and "`k2 plan` says what would make it" in result.output


def test_arrows_that_others_imply_are_left_out() -> None:
    edges = {"c": ["b", "a"], "b": ["a"], "a": [], "d": ["c", "a", "x"], "x": []}
    assert reduced(edges) == {"c": ["b"], "b": ["a"], "a": [], "d": ["c", "x"], "x": []}
    assert ordered(edges) == {"a": 0, "b": 1, "c": 2, "d": 3, "x": 0}
