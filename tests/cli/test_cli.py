"""`k2` on the store of a real lifecycle."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from k2model.cli.main import main
from k2model.recipe import load_recipe

TRAINED = ["pretrain", "mid_1", "mid_2", "mid_3", "mid_4", "sft"]


@pytest.fixture
def store(finished) -> str:
    return str(finished[0] / "store")


def rows(*arguments: str) -> Any:
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def status(store: str) -> dict[str, list[dict[str, Any]]]:
    return rows("status", "--store", store)


def actions(*arguments: str) -> dict[str, str]:
    return {row["step"]: row["action"] for row in rows("plan", "smoke", *arguments)["steps"]}


def test_plan_finds_everything_the_dag_made(store):
    plan = actions("--store", store)
    assert set(plan.values()) == {"cached"}
    assert {f"{phase}/{part}" for phase in TRAINED for part in ("sequences", "checkpoint", "export", "scores")} < set(
        plan
    )


def test_plan_says_what_a_changed_setting_runs_and_why(store):
    changed = ["--store", store, "--set", "phases.sft.optimizer.lr=3e-4"]
    assert [step for step, action in actions(*changed).items() if action == "run"] == [
        "sft/checkpoint", "sft/items_seen", "sft/export", "sft/scores", "sft/safety_answers", "sft/safety", "report",
        "release",
    ]  # fmt: skip
    why = {row["step"]: row["why / where"] for row in rows("plan", "smoke", *changed)["steps"]}
    assert re.fullmatch(r"because phase.optimizer.lr 0\.\d+ -> 0.0003", why["sft/checkpoint"])


def test_plan_of_a_changed_mixture_leaves_the_other_phases_alone(store):
    plan = actions("--store", store, "--set", "phases.mid_4.mixture.prose.weight=9")
    assert {step.split("/")[0] for step, action in plan.items() if action == "run"} == {
        "corpus_valid", "mid_4", "sft", "report", "release",
    }  # fmt: skip


def test_plan_on_another_recipes_store_compares_no_fields(store):
    why = {row["step"]: row["why / where"] for row in rows("plan", "laptop", "--store", store)["steps"]}
    assert re.fullmatch(r"nothing of this recipe is here \(\d+ fields differ from corpus_raw/\w+\)", why["corpus_raw"])
    assert why["mid_1/sequences"] == "because tokens is made anew"
    assert why["mid_1/checkpoint"] == "because mid_1/sequences, pretrain/checkpoint are made anew"
    assert why.pop("synth/safety/synthesis") == "because job.count 133 -> 3520"  # a job of one name is one job
    assert not [reason for reason in why.values() if "->" in reason]


def test_plan_of_changed_sources_still_names_what_else_has_changed(store):
    changed = ["--set", "corpus.seed=9", "--set", "phases.mid_4.mixture.prose.weight=9"]
    why = {row["step"]: row["why / where"] for row in rows("plan", "smoke", "--store", store, *changed)["steps"]}
    assert why["corpus_raw"] == "because corpus.seed 0 -> 9"
    assert why["mid_3/sequences"] == "because tokens is made anew"
    assert re.fullmatch(r"because tokens is made anew, mixture\.prose\.weight [\d.]+ -> 9.0", why["mid_4/sequences"])


def test_plan_of_an_empty_store_runs_everything(tmp_path):
    assert set(actions("--store", str(tmp_path / "store")).values()) == {"run"}


def test_a_wrong_field_is_one_message(store):
    result = CliRunner().invoke(main, ["plan", "smoke", "--store", store, "--set", "phases.sft.stepz=3"])
    assert result.exit_code == 1
    assert "did you mean 'steps'" in result.output and "Traceback" not in result.output


def lineage(store: str, reference: str, *more: str) -> list[str]:
    told = rows("lineage", reference, "--recipe", "smoke", "--store", store, *more)
    return [line["name"] for line in told["made_from"] if not line["again"]]


def test_status_and_lineage_reach_back_to_the_sources(store):
    made = {row["artifact"].split("/")[0] for row in status(store)["artifacts"]}
    assert {"corpus_raw", "checkpoint", "release"} <= made
    artifacts = lineage(store, "release", "--artifacts")
    assert artifacts[0] == "release" and {"corpus_raw", *(f"{phase}/checkpoint" for phase in TRAINED)} <= {*artifacts}
    groups = lineage(store, "release")
    assert groups[1:7] == TRAINED[::-1] and {"tokens", "tokenizer", "corpus", "synth/safety"} <= {*groups}
    assert len(groups) < 20  # of twenty sources those are told together that the project builds alike


def test_versions_of_mlflow_and_names_of_the_plan_are_the_same_artifacts(finished, monkeypatch):
    home, _ = finished
    store = str(home / "store")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
    same = {rows("lineage", name, "--recipe", "smoke", "--store", store)["made_from"][0]["place"]
            for name in ("sft", "sft/checkpoint", "sft@6", "model@candidate", "k2-smoke@sft")}  # fmt: skip
    assert len(same) == 1 and same.pop().startswith("checkpoint/")
    refused = {"mid_1@6": "is of phase sft; those of mid_1 are 2", "model@champions": "no version or alias",
               "nobody@1": "no registered model 'nobody'"}  # fmt: skip
    for wrong, said in refused.items():
        result = CliRunner().invoke(main, ["lineage", wrong, "--recipe", "smoke", "--store", store])
        assert result.exit_code == 1 and said in result.output and "Traceback" not in result.output
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'nothing.db'}")
    result = CliRunner().invoke(main, ["compare", "sft@6", "mid_4", "--recipe", "smoke", "--store", store])
    assert "there is no MLflow at" in result.output and not (home / "nothing.db").exists()


def test_status_shows_the_time_of_parts_and_of_workers(store):
    seconds = {row["artifact"].split("/")[0]: row["seconds"] for row in status(store)["artifacts"]}
    assert all(seconds[step] > 0.1 for step in ("corpus_raw", "corpus_clean", "scores")), seconds


def test_status_shows_every_training_with_its_end(store):
    trainings = status(store)["trainings"][: len(TRAINED)]  # later ones are of other tests of the same store
    assert [(t["phase"], t["state"]) for t in trainings] == [(phase, "done") for phase in TRAINED]
    assert all(t["step"] == t["steps"] and t["loss"] > 0 and t["mfu"] > 0 for t in trainings)


def test_looking_at_a_store_that_is_not_there_makes_none(tmp_path):
    result = CliRunner().invoke(main, ["status", "--store", str(tmp_path / "outptus")])
    assert result.exit_code == 1
    assert "no store at" in result.output and not (tmp_path / "outptus").exists()


def test_mixture_counts_what_the_store_has(store):
    shown = rows("mixture", "smoke", "--phase", "mid_2", "--phase", "sft", "--store", store)["phases"]
    assert [one["phase"] for one in shown] == ["mid_2", "sft"]
    counts = json.loads(next((Path(store) / "tokens").glob("*/counts.json")).read_text())["train"]
    mid_2 = shown[0]
    assert mid_2["basis"].startswith("real token counts (tokens/") and mid_2["problem"] == ""
    mixed = {entry.source for entry in load_recipe("smoke").phase("mid_2").mixture}
    assert mid_2["raw"] == sum(counts[name]["tokens"] for name in mixed)
    assert mid_2["weighted"] == mid_2["trained"] == 6 * 1024
    packed = [json.loads(path.read_text()) for path in (Path(store) / "sequences").glob("*/composition.json")]
    measured = [one["short_context"]["real"] for one in packed if one["short_context"]]
    assert len(measured) == 4 and mid_2["short"] in measured and mid_2["short"] >= 0.3
    assert (shown[1]["short"], shown[1]["short_tokens"]) == (None, 0)


def test_compare_of_two_phases_tells_relation_settings_and_every_score(store, tmp_path):
    page = tmp_path / "compare.html"
    told = rows("compare", "mid_3", "mid_4/export", "--recipe", "smoke", "--store", store, "--out", str(page))
    assert told["relation"] == "The second goes on from the other's weights, through mid_4."
    fields = {one["field"] for one in told["settings"]}
    assert {"phase.name", "phase.optimizer.lr", "parent"} <= fields
    assert not any(field.startswith("model.") for field in fields)
    scores = {one["score"]: one for one in told["scores"]}
    measured = json.loads(next((Path(store) / "scores").glob("*/scores.json")).read_text())
    assert {row["score"] for row in measured if row["score"].startswith("loss/")} <= scores.keys()
    assert all(one["paired"]["n"] == one["first"]["n"] for one in scores.values() if one["paired"])
    assert told["missing"] == [] and told["second"]["phases"] == TRAINED[:5]
    assert page.read_text().count("<tr data-score=") == len(scores)


def test_verify_accepts_a_release_and_names_an_altered_file(finished, tmp_path):
    release = next((finished[0] / "store" / "release").iterdir())
    copy = tmp_path / "release"
    shutil.copytree(release, copy)
    assert rows("verify", str(copy))
    weights = copy / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    result = CliRunner().invoke(main, ["verify", str(copy)])
    assert result.exit_code == 1
    assert "model/model.safetensors" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--memory", "junk"], "'junk' is no size of memory; write 80GB or 80GiB"),
        (["--memory", "1.2.3GB"], "'1.2.3GB' is no size"),
        (["--memory", ".GB"], "'.GB' is no size"),
        (["--memory", "0GB"], "'0GB' is no size"),
        (["--gpus", "0"], "0 is not in the range"),
        (["--gpus", "-8"], "-8 is not in the range"),
        (["--gpus", "7"], "--gpus 7 is no multiple of the 8 workers of a node"),
    ],
)
def test_layouts_of_no_machine_are_refused(options: list[str], message: str):
    result = CliRunner().invoke(main, ["plan", "k2_1b", "--layouts", *options])
    assert result.exit_code == 2 and message in result.output, result.output


def test_a_price_is_in_the_record_as_in_the_table(tmp_path: Path):
    priced = ["plan", "k2_1b", "--set", "cluster.price_per_gpu_hour=2.5", "--store", str(tmp_path), "--json"]
    for phase in json.loads(CliRunner(mix_stderr=False).invoke(main, priced).stdout)["phases"]:
        assert phase["price"] == pytest.approx(2.5 * phase["gpu_hours"])
