"""The step: which scores a phase has, what it reads, and that workers change nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from k2model.artifacts import ArtifactRef, Store, make
from k2model.errors import EvaluationError
from k2model.evals import scores_step
from k2model.evals.groups import groups_of, share
from k2model.export.step import write_export
from k2model.recipe.laptop import laptop
from k2model.recipe.schema import PhaseConfig, PhaseKind
from k2model.training.checkpoint import InMemory
from tests.evals.conftest import CONFIG, LENGTH, MODEL, World

LENGTHS = (2 * LENGTH, LENGTH)
Put = Callable[[Store, str, Path], ArtifactRef]


def inputs(store: Store, world: World, put: Put) -> dict[str, ArtifactRef]:
    folders = {n: getattr(world, n) for n in ("corpus", "tokens", "tokenizer", "export")}
    return {name: put(store, name, folder) for name, folder in folders.items()}


def rows_of(store: Store, ref: ArtifactRef) -> dict[str, dict]:
    return {row["score"]: row for row in json.loads((store.fetch(ref) / "scores.json").read_text())}


@pytest.fixture(scope="module")
def evaluated(world: World, put: Put, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict, ArtifactRef]:
    store = Store.open(tmp_path_factory.mktemp("store"))
    refs = inputs(store, world, put)
    return store, refs, make(store, scores_step(store, CONFIG, world.phase, **refs, lengths=LENGTHS))


def test_a_midtraining_phase_has_its_scores(evaluated: tuple[Store, dict, ArtifactRef]) -> None:
    store, _, ref = evaluated
    rows = rows_of(store, ref)
    reasoning = [f"{f}/{m}" for f in ("arithmetic", "spelling", "knights", "countdown") for m in ("think", "direct")]
    assert ref.kind == "scores"
    assert set(rows) == {
        "loss/knowledge", "loss/prose", "facts/seen_wording", "facts/heldout_wording", *reasoning,
        "code/next_line", f"retrieval/{LENGTH}", f"retrieval/{2 * LENGTH}",
    }  # fmt: skip
    assert rows["arithmetic/think"]["value"] == 0.75 == ref.stats["arithmetic/think"]
    assert all(row["low"] <= row["value"] <= row["high"] and row["n"] > 0 for row in rows.values())


def test_every_item_leaves_a_sample(evaluated: tuple[Store, dict, ArtifactRef]) -> None:
    store, _, ref = evaluated
    lines = (store.fetch(ref) / "attachments" / "samples.jsonl").read_text().splitlines()
    samples = [json.loads(line) for line in lines]
    rows = rows_of(store, ref)
    for score, row in rows.items():
        mine = [sample for sample in samples if sample["score"] == score]
        if row["unit"] == "accuracy":
            assert len(mine) == row["n"] and sum(s["grade"] == "right" for s in mine) / row["n"] == row["value"]


def test_sft_is_asked_with_efforts() -> None:
    groups = groups_of(PhaseKind.SFT, CONFIG, (128,), {"prose": ["prose"]}, None)
    names = [group.name for group in groups]
    assert names[:3] == ["loss/prose", "facts/seen_wording", "facts/heldout_wording"]
    assert {"countdown/low", "countdown/medium", "countdown/high", "facts/chat_heldout", "tools"} <= set(names)
    assert not any(name.endswith(("/think", "/direct")) for name in names)


def test_sft_scores_of_a_model_that_learnt_to_chat(world: World, put: Put, tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    phase = replace(laptop().phase("sft"), sequence_length=LENGTH, rope_theta=1e4)
    parent = replace(world.phase, name="mid_4")
    rows = rows_of(
        store,
        make(
            store,
            scores_step(store, CONFIG, phase, **inputs(store, world, put), parent_phase=parent, lengths=(LENGTH,)),
        ),
    )
    assert rows["tools/well_formed"]["value"] == rows["tools/exact"]["value"] == rows["tools/result"]["value"] == 1.0
    assert rows["arithmetic/low"]["mean_tokens"] < rows["arithmetic/high"]["mean_tokens"]


def test_theta_alone_and_the_parent_are_scored_where_theta_grows(
    evaluated: tuple[Store, dict, ArtifactRef], world: World, put: Put
) -> None:
    store, refs, parent_scores = evaluated
    child = replace(world.phase, name="mid_2", parent="mid_1", sequence_length=2 * LENGTH, rope_theta=1e6)
    scores = make(
        store,
        scores_step(
            store, CONFIG, child, **refs, parent_phase=world.phase, parent_export=refs["export"], lengths=LENGTHS
        ),
    )
    rows, before = rows_of(store, scores), rows_of(store, parent_scores)
    name = f"retrieval/{2 * LENGTH}"
    assert rows[f"{name}@parent_theta"] | {"phase": "", "score": ""} == before[name] | {"phase": "", "score": ""}
    assert f"{name}@new_theta" in rows and f"retrieval/{LENGTH}@new_theta" not in rows


def test_new_theta_is_really_used(world: World, put: Put, tmp_path: Path) -> None:
    """With a theta that turns positions into noise the learnt value is lost; with the parent's it is there."""
    store = Store.open(tmp_path)
    refs = inputs(store, world, put)
    child = replace(world.phase, name="mid_2", rope_theta=1.01)
    rows = rows_of(
        store,
        make(
            store,
            scores_step(
                store, CONFIG, child, **refs, parent_phase=world.phase, parent_export=refs["export"], lengths=(LENGTH,)
            ),
        ),
    )
    assert rows[f"retrieval/{LENGTH}@parent_theta"]["value"] == 0.5
    assert rows[f"retrieval/{LENGTH}@new_theta"]["value"] == 0.0


def test_theta_without_the_parents_export_is_refused(evaluated: tuple[Store, dict, ArtifactRef], world: World) -> None:
    store, refs, _ = evaluated
    with pytest.raises(EvaluationError, match="phase 'mid_2' has theta 30000 where its parent 'mid_1' has 10000"):
        make(
            store,
            scores_step(
                store, CONFIG, replace(world.phase, name="mid_2", rope_theta=3e4), **refs, parent_phase=world.phase
            ),
        )


def test_only_what_is_read_bears_identity(
    evaluated: tuple[Store, dict, ArtifactRef], world: World, put: Put, tmp_path: Path
) -> None:
    store, refs, first = evaluated
    # Nothing can be measured again: a model that cannot be read would raise.
    phase = replace(world.phase, optimizer=replace(world.phase.optimizer, lr=1.0), steps=7, mixture=())
    same_theta = replace(world.phase, name="other", steps=1)
    config = replace(CONFIG, workers=CONFIG.workers + 5)
    (tmp_path / "nothing").write_text("")
    other_export = put(store, "other_export", tmp_path)
    again = make(
        store,
        scores_step(
            store, config, phase, **refs, parent_phase=same_theta, parent_export=other_export, lengths=sorted(LENGTHS)
        ),
    )
    assert again == first


@pytest.mark.parametrize("workers", [1, 2, 3, 50])
def test_every_group_has_one_worker(workers: int) -> None:
    groups = groups_of(PhaseKind.PRETRAIN, CONFIG, (128, 256), {"prose": ["prose"]}, 256)
    shares = share(groups, workers)
    assert sorted(index for part in shares for index in part) == list(range(len(groups)))
    loads = [sum(groups[i].cost for i in part) for part in shares]
    assert max(loads) - min(loads) <= max(group.cost for group in groups)


WORKER = """
import json, sys
from k2model.artifacts import ArtifactRef, Store, make
from k2model.evals import scores_step
from tests.evals.conftest import CONFIG
from tests.evals.test_step import phase_from

task = json.loads(sys.stdin.read())
refs = {name: ArtifactRef(**ref) for name, ref in task["refs"].items()}
store = Store.open(task["store"])
ref = make(store, scores_step(store, CONFIG, phase_from(task["length"]), **refs, lengths=task["lengths"]))
print(ref.digest)
"""


def phase_from(length: int, rope_theta: float = 1e4) -> PhaseConfig:
    return replace(laptop().phase("mid_1"), sequence_length=length, rope_theta=rope_theta)


def test_two_workers_give_what_one_gives(
    evaluated: tuple[Store, dict, ArtifactRef], world: World, put: Put, tmp_path: Path
) -> None:
    alone, _, expected = evaluated
    store = Store.open(tmp_path)
    refs = {name: asdict(ref) for name, ref in inputs(store, world, put).items()}
    task = json.dumps({"refs": refs, "store": store.uri, "length": LENGTH, "lengths": LENGTHS})
    workers = []
    for rank in range(2):
        env = os.environ | {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
            "MASTER_ADDR": f"file://{tmp_path}/workers", "PYTHONPATH": os.getcwd(),
        }  # fmt: skip
        workers.append(
            subprocess.Popen(
                [sys.executable, "-c", WORKER], env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        )
        assert workers[-1].stdin is not None
        workers[-1].stdin.write(task)
        workers[-1].stdin.close()
    digests = [worker.stdout.read().strip() for worker in workers if worker.stdout is not None]
    assert [worker.wait() for worker in workers] == [0, 0]
    assert digests == [expected.digest, expected.digest]
    (folder,) = (Path(store.uri) / "scores").iterdir()
    samples = Path("attachments") / "samples.jsonl"
    assert (folder / samples).read_bytes() == (alone.fetch(expected) / samples).read_bytes()


def test_write_export_is_what_is_evaluated(world: World, put: Put, tmp_path: Path) -> None:
    """Other weights give other scores: the export is read, not some cached model."""
    folder = tmp_path / "export"
    folder.mkdir()
    state = InMemory({name: tensor * 0 for name, tensor in world.model.state_dict().items()})
    write_export(folder, state, MODEL, world.phase, world.tokenizer)
    store = Store.open(tmp_path / "store")
    refs = inputs(store, replace(world, export=folder), put)
    rows = rows_of(store, make(store, scores_step(store, CONFIG, world.phase, **refs, lengths=(LENGTH,))))
    assert rows["arithmetic/think"]["value"] == 0.0
    assert rows["loss/prose"]["value"] == pytest.approx(5.613, abs=1e-3)  # ln 274
