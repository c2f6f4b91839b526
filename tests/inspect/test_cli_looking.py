"""`k2 mixture` and `k2 data` on a terminal and for machines."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from k2model.artifacts import ArtifactRef
from k2model.cli.main import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def answer(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_mixture_draws_k2s_list_and_its_totals(tmp_path: Path) -> None:
    result = run("mixture", "k2_70b", "--store", str(tmp_path))
    assert result.exit_code == 0, result.output
    for part in (
        "public token counts", "raw 8.590T · weighted 12.488T · trained on 12.288T, 98.4% of the list",
        "├─ 2-5 (prox_txt360_keep_2-5)", "4 copies", "weight 23.9905", "the recipe gives no mixture",
        "not public: phases.mid_2.mixture", "at least 30% must come from documents of at most 8,192 tokens",
        "in 3 passes over the list",
    ):  # fmt: skip
        assert part in result.output, part
    (shown,) = answer("mixture", "k2_70b", "--phase", "pretrain", "--store", str(tmp_path))["phases"]
    assert (shown["entries"], shown["weighted"]) == (51, 12_487_839_822_990)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["k2_70b", "--set", "phases.pretrain.steps=1300000"], r"list holds 12,487,839,822,990 tokens"),
        (["laptop", "--phase", "mid_5"], "'mid_5' is no phase of laptop"),
        (["laptop", "--set", "phases.sft.mixture.prose.wieght=1"], "did you mean 'weight'"),
    ],
)
def test_mixtures_that_make_no_sense_are_errors(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run("mixture", *arguments, "--store", str(tmp_path))
    assert result.exit_code != 0 and message in result.output and "Traceback" not in result.output


def test_show_prints_samples_with_their_facts(looked: dict[str, ArtifactRef], looked_store: str) -> None:
    where = ["--store", looked_store]
    (path,) = (Path(looked["corpus_valid"].uri) / "train" / "facts").iterdir()
    documents = pq.read_table(path, partitioning=None).to_pylist()
    shown = answer("data", "show", "corpus_valid", "--source", "facts", "-n", "2", "--page", "2", *where)["samples"]
    assert [(one["id"], one["text"]) for one in shown] == [(d["id"], d["text"]) for d in documents[2:4]]
    result = run("data", "show", "corpus_valid", "--source", "facts", "-n", "1", *where)
    for part in (
        documents[0]["id"],
        "source facts · domain knowledge · licence CC0-1.0 · origin test 6",
        "<|end_of_text|>",
    ):
        assert part in result.output
    rows = run("data", "show", "sequences", "-n", "2", *where)
    assert rows.exit_code == 0 and "── " in rows.output and "targets" in rows.output
    assert "nothing (more) that matches" in run("data", "show", "corpus_valid", "--page", "999", *where).output


def test_reasons_are_listed_and_their_rows_shown(looked_store: str) -> None:
    where = ["--store", looked_store]
    listed = run("data", "show", "corpus_valid", *where, "--reason")
    assert listed.output.split()[:3] == ["reason", "documents", "kept"] and "malformed_json" in listed.output
    reasons = json.loads(run("data", "show", "corpus_valid", *where, "--json", "--reason").output)
    assert {"reason": "encoding", "documents": 2, "kept": "rows"} in reasons
    shown = answer("data", "show", "corpus_valid", "--reason", "malformed_json", *where)["samples"]
    assert [(one["file"], one["row"], one["text"]) for one in shown] == [("a.jsonl", 7, '{"text": "half')]
    wrong = run("data", "show", "corpus_valid", "--reason", "malformed_jsn", *where)
    assert wrong.exit_code == 1 and "did you mean 'malformed_json'" in wrong.output


def test_stats_draw_lengths_and_composition(looked_store: str) -> None:
    result = run("data", "stats", "tokens", "--store", looked_store)
    assert result.exit_code == 0
    for part in ("657 documents", "32 – 63", "█", "mathematics", "arithmetic/think"):
        assert part in result.output, part
    found = answer("data", "stats", "tokens", "--split", "heldout", "--store", looked_store)
    assert found["documents"] == 73 == sum(bar["documents"] for bar in found["lengths"])
