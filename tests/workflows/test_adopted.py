"""Lifecycles that begin with a model from outside: somebody else's, or a release of ours that lies in another store."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from k2model.artifacts import Store
from k2model.artifacts.files import files_at
from k2model.artifacts.result import LifecycleResult
from k2model.cli.main import main
from k2model.errors import TokensError
from k2model.export import AdoptionError, read_record
from k2model.lifecycle.plan import LifecyclePlan, dry_run
from k2model.promotion.decide import judge_phase
from k2model.recipe import Recipe
from k2model.recipe.promotion import PromotionConfig
from k2model.recipe.schema import AdoptedModel, GateConfig
from k2model.registry import register_phase
from k2model.registry.markdown import as_cell
from k2model.release import ReleaseDamaged, verify_release
from k2model.training import load_model_state
from tests.export.foreign import SHAPE, row, write_foreign
from tests.smoke import ROOT
from tests.workflows.adopted import STEPS, lifecycle, recipe, write_sources

SOURCE = "https://example.org/theirs/7b"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_sources(tmp_path_factory.mktemp("adopted"))
    write_foreign(folder / "theirs", tied=True, dtype=torch.bfloat16)
    return folder


@pytest.fixture(scope="module")
def tuned(home: Path) -> LifecycleResult:
    """Fine-tuning alone, from somebody else's model."""
    whole = recipe(home, SHAPE, row(home / "theirs", source=SOURCE), "sft", release_training_state=True)
    return lifecycle(Store.open(home / "first"), whole)


def release_of(home: Path, result: LifecycleResult) -> Path:
    return Store.open(home / "first").fetch(result.artifacts["release"])


def state_of(home: Path, result: LifecycleResult, phase: str = "sft") -> dict:
    return json.loads(Store.open(home / "first").read(result.artifacts[f"{phase}/checkpoint"], "final/state.json"))


def test_fine_tuning_alone_starts_from_the_weights_and_tokenizer_that_were_adopted(
    home: Path, tuned: LifecycleResult
) -> None:
    from transformers import AutoTokenizer

    store = Store.open(home / "first")
    assert [*tuned.artifacts][:3] == ["theirs/checkpoint", "theirs/export", "corpus_raw"]
    assert store.record(tuned.artifacts["sft/checkpoint"])["inputs"]["parent"]["kind"] == "adopted_checkpoint"
    before, after = (load_model_state(store.fetch(tuned.artifacts[f"{n}/checkpoint"])) for n in ("theirs", "sft"))
    moved = [(after[name] - before[name]).abs().max().item() for name in before]
    assert 0 < max(moved) <= 1e-3 * STEPS * 1.2  # Adam's steps are of the learning rate at most
    assert state_of(home, tuned)["optimizer_steps"] == STEPS
    ours, theirs = (AutoTokenizer.from_pretrained(folder) for folder in (
        release_of(home, tuned) / "model", home / "theirs"))  # fmt: skip
    text = "the river of the garden 12"
    assert ours(text)["input_ids"][1:] == theirs(text)["input_ids"]
    config = json.loads((release_of(home, tuned) / "model/config.json").read_text())
    assert (config["max_position_embeddings"], config["rope_theta"]) == (512, 5e4)
    assert all(decision.action == "cached" for decision in dry_run(LifecyclePlan(tuned.recipe, store.uri)))


def test_report_card_and_lineage_say_where_it_came_from(home: Path, tuned: LifecycleResult) -> None:
    store, release = Store.open(home / "first"), release_of(home, tuned)
    digest = tuned.artifacts["theirs/checkpoint"].digest
    card = " ".join((release / "MODEL_CARD.md").read_text().split())
    assert "trained from the adopted model `theirs` through 1 phase" in card and "random initialisation" not in card
    assert f"| theirs | {as_cell(SOURCE)} | Apache-2.0 |" in card and digest[:16] in card
    assert "descend from theirs, which is under Apache-2.0" in card and str(home) not in card
    html = store.read(tuned.artifacts["report"], "attachments/index.html").decode()
    weights = read_record(store, tuned.artifacts["theirs/checkpoint"])["files"]["model.safetensors"]
    assert SOURCE in html and str(home / "theirs") in html and weights[:16] in html
    assert json.loads((release / "adopted.json").read_text())[0]["files"]["model.safetensors"] == weights
    assert verify_release(release).artifacts and not [path for path in release.rglob("*") if "theirs" in path.name]
    lineage = json.loads((release / "lineage.json").read_text())["artifacts"]
    assert {"theirs/checkpoint", "theirs/export"} <= {entry["name"] for entry in lineage}
    told = CliRunner().invoke(main, ["lineage", "release", "--store", store.uri, "--json"])
    by_name = {line["name"]: line for line in json.loads(told.stdout)["made_from"] if not line["again"]}
    assert by_name["theirs"]["about"][0] == SOURCE and by_name["theirs"]["depth"] == by_name["sft"]["depth"] + 1
    assert f"model.safetensors  sha256:{weights[:12]}" in by_name["theirs"]["details"]
    assert by_name["talks"]["about"][1].startswith("60 rows") and by_name["release of garden"]["depth"] == 0
    assert html.count("flow weights") == 1 and "theirs/checkpoint: adopted_checkpoint/" in html


def test_it_is_compared_with_the_model_that_it_was_made_from(home: Path, tuned: LifecycleResult) -> None:
    store = Store.open(home / "first")
    told = CliRunner().invoke(main, ["compare", "theirs/checkpoint", "sft/checkpoint", "--store", store.uri, "--json"])
    found = json.loads(told.stdout)
    assert found["relation"] == "The second goes on from the other's weights, through sft."
    assert found["second"]["origin"].startswith(f"theirs/checkpoint ({SOURCE}") and found["second"]["phases"] == ["sft"]
    assert "first: theirs/checkpoint has no scores; `k2 eval run` measures them" in found["missing"]
    assert {one["problem"] for one in found["scores"]} == {"only of the second"}


def test_a_fine_tuned_one_is_promoted_by_its_own_gates(home: Path, tuned: LifecycleResult) -> None:
    from mlflow import MlflowClient

    tracking, one, store = f"sqlite:///{home / 'mlflow.db'}", tuned.phases[0], Store.open(home / "first")
    gates = (GateConfig("sft", "loss/chat", 0.0, maximum=99.0),)
    recipe = replace(tuned.recipe, gates=gates, promotion=PromotionConfig(provenance=False))
    refs = (one.sequences, tuned.corpus_valid, one.checkpoint, one.export, one.scores)
    registered = register_phase(
        tracking, store, recipe.name, recipe.model, one.phase, gates, *refs, None, recipe.origin("sft"),
        tuned.artifacts["theirs/checkpoint"], tuned.artifacts.get("sft/safety"),
    )  # fmt: skip
    registered = judge_phase(tracking, store, recipe, registered, None, *refs, tuned.artifacts.get("sft/safety"))
    assert registered.promotion == "champion"
    tags = MlflowClient(tracking).get_model_version("k2-garden", str(registered.version)).tags
    told = {name.removeprefix("k2.adopted."): value for name, value in tags.items() if ".adopted." in name}
    digest = tuned.artifacts["theirs/checkpoint"].digest
    assert told == {"name": "theirs", "from": SOURCE, "licence": "Apache-2.0", "digest": digest}


def ours(location: str, **changed) -> AdoptedModel:
    return AdoptedModel("ours", "apache-2.0", 5e4, 512, location=location, **changed)


def test_mid_training_goes_on_from_a_release_on_an_object_store(
    home: Path, tuned: LifecycleResult, s3_uri: str
) -> None:
    release = release_of(home, tuned)
    files = files_at(f"{s3_uri}/published")
    for path in sorted(path for path in release.rglob("*") if path.is_file()):
        files.write(path.relative_to(release).as_posix(), path.read_bytes())
    store = Store.open(home / "second")
    whole = recipe(home, SHAPE, ours(files.uri, training_state=True), "mid_1")
    result = lifecycle(store, whole)
    theirs, mine = (
        load_model_state(release / "training_state"),
        load_model_state(store.fetch(result.artifacts["ours/checkpoint"])),
    )
    assert theirs.keys() == mine.keys() and all(torch.equal(theirs[name], mine[name]) for name in theirs)
    state = json.loads(store.read(result.artifacts["mid_1/checkpoint"], "final/state.json"))
    assert state["optimizer_steps"] == 2 * STEPS  # its optimizer state went on
    assert result.artifacts["tokenizer"].digest == tuned.artifacts["tokenizer"].digest
    record = read_record(store, result.artifacts["ours/checkpoint"])
    assert record["release"] == {
        "recipe": "garden", "phase": "sft", "manifest": verify_release(release).manifest_sha256
    }  # fmt: skip
    card = (store.fetch(result.artifacts["release"]) / "MODEL_CARD.md").read_text()
    html = store.read(result.artifacts["report"], "attachments/index.html").decode()
    assert f"{as_cell(files.uri)} (release of recipe garden, phase sft" in card
    assert "its optimizer state after 3 steps" in card
    assert f"from {files.uri}" in html and record["release"]["manifest"] in html
    # What was published is used as it was published.
    files.write("training_state/state.json", b"{}")
    with pytest.raises(AdoptionError, match=r"training_state/state\.json has sha256 .*`k2 verify`"):
        lifecycle(Store.open(home / "third"), whole)
    files.write("lineage.json", b"{}")
    with pytest.raises(ReleaseDamaged, match=r"lineage\.json: altered"):
        lifecycle(Store.open(home / "third"), whole)


def test_weights_of_a_release_can_be_had_without_its_optimizer(home: Path, tuned: LifecycleResult) -> None:
    from k2model.lifecycle.steps import Work, row_called

    store = Store.open(home / "fourth")
    whole = recipe(home, SHAPE, ours(str(release_of(home, tuned))), "mid_1")
    step = row_called("checkpoint", whole.adopted[0]).build(Work(store, whole, whole.adopted[0], {}))
    state = load_model_state(store.fetch(store.build(step.identity, step.produce)))
    trained = load_model_state(Store.open(home / "first").fetch(tuned.artifacts["sft/checkpoint"]))
    assert all(torch.allclose(state[name], trained[name], atol=1e-6) for name in trained)
    with pytest.raises(AdoptionError, match=r"licence='mit', but the release's recipe says 'apache-2\.0'"):
        lifecycle(store, replace(whole, adopted=(replace(whole.adopted[0], licence="mit"),)))
    larger = replace(
        whole, model=replace(SHAPE, vocab_size=400), adopted=(ours(whole.adopted[0].location, training_state=True),)
    )
    with pytest.raises(AdoptionError, match=r"training_state=True, but model\.vocab_size=400 adds rows to its 318"):
        lifecycle(store, larger)


def test_an_optimizer_state_that_is_not_there_is_not_made_up(home: Path) -> None:
    whole = recipe(home, SHAPE, row(home / "theirs", training_state=True), "mid_1")
    with pytest.raises(AdoptionError, match=r"training_state=True, but no optimizer state lies there"):
        dry_run(LifecyclePlan(whole, str(home / "fifth")))


def test_another_tokenizer_than_the_models_is_refused(home: Path, tmp_path: Path) -> None:
    whole = recipe(home, SHAPE, row(home / "theirs"), "sft")

    def planned(text: str) -> list:
        (tmp_path / "tokenizer.json").write_text(text)
        named = replace(whole, tokenizer=replace(whole.tokenizer, adopt=str(tmp_path)))
        return dry_run(LifecyclePlan(named, str(home / "first")))

    content = json.loads((home / "theirs/tokenizer.json").read_text())
    assert planned(json.dumps(content, indent=7))  # the same, written otherwise
    content["model"]["merges"].pop()
    with pytest.raises(
        TokensError, match=r"tokenizer\.adopt='.*' and adopted\.theirs\.location='.*different tokenizers"
    ):
        planned(json.dumps(content))


FILE = """
from pathlib import Path

from tests.export.foreign import SHAPE, row
from tests.workflows.adopted import Recipe, recipe


def garden() -> Recipe:
    here = Path(__file__).parent
    return recipe(here, SHAPE, row(here / "theirs"), "mid_1", "sft")
"""


def test_the_dag_adopts_before_it_makes_data_and_registers_with_the_origin(home: Path) -> None:
    (home / "garden.py").write_text(FILE)
    told = (
        "from workflows.lifecycle import full_lifecycle as w\n"
        "print([n.id for n in w.nodes][:4])\n"
        "print([b.binding.promise.node_id for n in w.nodes if 'register' in n.flyte_entity.name"
        " for b in n.bindings if b.var == 'adopted'])"
    )
    environment = os.environ | {"K2_RECIPE": str(home / "garden.py"), "PYTHONPATH": str(ROOT)}
    shown = subprocess.run(
        [sys.executable, "-c", told], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert shown.returncode == 0, shown.stderr[-3000:]
    first, origins = shown.stdout.strip().splitlines()[-2:]
    assert "'theirs-checkpoint', 'theirs-export', 'corpus-raw-list'" in first.replace("_", "-")
    assert origins == "['theirs-checkpoint', 'theirs-checkpoint']"


def test_origins_and_lengths_follow_the_parents(home: Path) -> None:
    whole: Recipe = recipe(home, SHAPE, row(home / "theirs"), "mid_1", "sft")
    assert whole.origin("sft") == whole.origin("mid_1") == whole.adopted[0]
    assert (whole.trained_length("sft"), whole.phase("sft").sequence_length) == (512, 128)
