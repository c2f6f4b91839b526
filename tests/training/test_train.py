"""Whole phases by real worker processes on a real store: determinism, SIGKILL and resume, layouts."""

import json
import os
from pathlib import Path

import pytest

from k2model.artifacts import Store
from k2model.training import load_model_state
from tests.training.conftest import ADAMW, MUON, Story
from tests.training.job import metrics, run


def test_two_runs_into_two_stores_give_one_digest_however_often_it_is_saved(story: Story) -> None:
    first, second = story.undisturbed[:2]
    assert first.uri != second.uri and first.digest == second.digest
    assert [(row["step"], row["loss"]) for row in metrics(first)] == [(r["step"], r["loss"]) for r in metrics(second)]


def test_a_killed_and_resumed_phase_equals_an_undisturbed_one(story: Story) -> None:
    calm, resumed = story.undisturbed[0], story.resumed[0]
    assert resumed.digest == calm.digest
    same = ("step", "loss", "grad_norm", "lr", "tokens", "targets")
    assert [[row[k] for k in same] for row in metrics(resumed)] == [[row[k] for k in same] for row in metrics(calm)]


def test_a_killed_and_resumed_warm_start_equals_an_undisturbed_one(story: Story) -> None:
    calm, resumed = story.undisturbed[-1], story.resumed[1]
    assert calm.kind == "checkpoint" and resumed.digest == calm.digest
    assert [row["loss"] for row in metrics(resumed)] == [row["loss"] for row in metrics(calm)]
    assert [row["step"] for row in metrics(resumed)] == list(range(10))


def test_the_kill_really_left_an_unfinished_phase(story: Story) -> None:
    [folder] = Path(story.killed_store, "checkpoint").iterdir()
    assert sorted(p.name for p in (folder / "checkpoints").iterdir())[:2] == ["step-0000004", "step-0000008"]
    assert not (folder / "manifest.json").exists() and not (folder / "final").exists()


def test_a_warm_start_goes_on_from_the_parents_weights_and_optimizer(story: Story) -> None:
    parent, child = story.undisturbed[0], story.undisturbed[-1]
    state = json.loads(Path(child.uri, "final/state.json").read_text())
    assert (state["step"], state["optimizer_steps"]) == (10, 12 + 10)
    assert child.stats["tokens_total"] == parent.stats["tokens"] + child.stats["tokens"]
    assert metrics(child)[0]["loss"] < metrics(parent)[0]["loss"] - 0.2  # random weights would begin at ln 64


def test_a_finished_artifact_is_final_and_log_alone(story: Story) -> None:
    store, ref = Store.open(Path(story.undisturbed[0].uri).parents[1]), story.undisturbed[0]
    folder = store.fetch(ref)  # verifies every file
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    shards = [f"final/rank-0000{rank}-of-00002.safetensors" for rank in (0, 1)]
    attached = ["attachments/metrics.jsonl", "attachments/training.json"]
    expected = ["artifact.json", *attached, "final/manifest.json", *shards, "final/state.json"]
    assert found == [*expected, "manifest.json"]
    one, two = (os.path.getsize(folder / shard) for shard in shards)
    assert abs(one - two) < 0.1 * (one + two)
    assert not any(path.endswith(".bin") or path.endswith(".pt") for path in found)
    state = load_model_state(folder)
    assert state["embedding.weight"].shape == (64, 16) and len(state) == 2 * 9 + 3


@pytest.mark.parametrize(("position", "changes"), [(2, ADAMW), (6, MUON)])
def test_two_workers_train_what_one_trains(
    story: Story, position: int, changes: dict[str, str], tmp_path: Path
) -> None:
    """The mean over the global batch and each worker's share of Muon's matrices come out the same."""
    two, one = metrics(story.undisturbed[position]), metrics(run({"store": str(tmp_path), "phase": changes}))
    for name in ("loss", "grad_norm"):
        assert [row[name] for row in two] == pytest.approx([row[name] for row in one], rel=1e-3), name


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_stages_train_what_plain_data_parallelism_trains(story: Story, stage: int) -> None:
    plain, zero = story.undisturbed[2], story.undisturbed[2 + stage]
    losses, others = ([row["loss"] for row in metrics(ref)] for ref in (plain, zero))
    assert plain.identity == zero.identity, "the layout bears no identity"
    assert others == pytest.approx(losses, rel=1e-5)
    assert [r["grad_norm"] for r in metrics(zero)] == pytest.approx([r["grad_norm"] for r in metrics(plain)], rel=1e-4)


def test_nothing_is_compiled_and_neither_mlflow_nor_the_compiler_is_imported(story: Story) -> None:
    for job in story.jobs.iterdir():
        assert not (job / "extensions").exists(), "a C++ operator was built"
    loaded = (story.jobs / "calm-child" / "modules-0.txt").read_text().split()
    assert {"torch", "deepspeed"} <= set(loaded)
    assert not {"mlflow", "torch._dynamo", "torch._inductor"} & set(loaded)
