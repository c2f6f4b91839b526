"""The step: which scores a phase has, what it reads, and that workers change nothing."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from k2model.artifacts import ArtifactRef, Identity, Store, make
from k2model.documents.schema import make_item, write_items
from k2model.errors import EvaluationError
from k2model.evals import scores_step
from k2model.evals.cells import Cell, results_of, share
from k2model.evals.items import Grade
from k2model.evals.material import Material
from k2model.evals.measures import Bounds, Measure, measures_of
from k2model.evals.references import exported
from k2model.export.step import write_export
from k2model.recipe.evaluation import BenchmarkConfig
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


def test_every_item_leaves_a_result_from_which_its_score_can_be_computed(
    evaluated: tuple[Store, dict, ArtifactRef],
) -> None:
    store, _, ref = evaluated
    results = results_of(store, ref)
    for score, row in rows_of(store, ref).items():
        mine = [one for one in results if one.score == score]
        assert len(mine) == row["n"]
        if row["unit"] == "accuracy":
            assert sum(one.value for one in mine) / row["n"] == row["value"]
            assert sum(one.grade is Grade.CUT_OFF for one in mine) == row["cut_off"]
        else:
            per_token = sum(one.value for one in mine) / sum(one.tokens for one in mine)
            assert per_token == pytest.approx(row["value"], abs=1e-6)


def test_sft_is_asked_with_efforts(evaluated: tuple[Store, dict, ArtifactRef]) -> None:
    store, refs, _ = evaluated
    names = [one.name for one in measures(store, refs, PhaseKind.SFT)]
    assert names[:4] == ["loss/knowledge", "loss/prose", "facts/seen_wording", "facts/heldout_wording"]
    assert {"countdown/low", "countdown/medium", "countdown/high", "facts/chat_heldout", "tools"} <= set(names)
    assert not any(name.endswith(("/think", "/direct")) for name in names)


def measures(store: Store, refs: dict[str, ArtifactRef], kind: PhaseKind) -> list[Measure]:
    return measures_of(CONFIG, Material(store, refs["corpus"], refs["tokens"]), kind, Bounds(LENGTH), (LENGTH,))


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
    own, theirs = (json.loads(store.read(one, "cells.json")) for one in (scores, parent_scores))
    name = f"retrieval/{2 * LENGTH}"
    assert rows[f"{name}@parent_theta"] | {"phase": "", "score": ""} == before[name] | {"phase": "", "score": ""}
    assert own[f"{name}@parent_theta"] == theirs[name] != own[f"{name}@new_theta"]  # measured once
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
def test_every_cell_has_one_worker(workers: int, evaluated: tuple[Store, dict, ArtifactRef]) -> None:
    store, refs, _ = evaluated
    subject = exported(refs["export"], refs["tokenizer"], store, "mid_1", LENGTH)
    cells = [Cell(subject, measure) for measure in measures(store, refs, PhaseKind.PRETRAIN)]
    shares = share(cells, workers)
    names = [cell.measure.name for part in shares for cell in part]
    assert sorted(names) == sorted(cell.measure.name for cell in cells)
    loads = [sum(cell.measure.cost for cell in part) for part in shares]
    assert max(loads) - min(loads) <= max(cell.measure.cost for cell in cells)


def cells_of(store: Store) -> dict[str, str]:
    """Name of each cell that the store has, and its key."""
    records = store.records("score")
    return {str(record["identity"]): record["config"]["name"] for record in records}


def test_only_cells_that_are_missing_are_measured(
    evaluated: tuple[Store, dict, ArtifactRef], world: World, put: Put, tmp_path: Path
) -> None:
    store, refs, _ = evaluated
    before = cells_of(store)
    (tmp_path / "exam.jsonl").write_text('{"prompt": "The capital of Peru is", "answer": "Lima"}\n')
    exam = BenchmarkConfig("exam", str(tmp_path / "exam.jsonl"), licence="CC0-1.0")
    config = replace(CONFIG, benchmarks=(exam,))
    ref = make(store, scores_step(store, config, world.phase, **refs, lengths=LENGTHS))
    added = {key: name for key, name in cells_of(store).items() if key not in before}
    assert list(added.values()) == ["exam"] and rows_of(store, ref)["exam"]["value"] == 1.0
    # A corpus made anew, of whose items one file differs.
    corpus = tmp_path / "corpus"
    shutil.copytree(store.fetch(refs["corpus"]), corpus, ignore=shutil.ignore_patterns("*.json"))
    (corpus / "curation.json").write_text("{}")
    write_items(corpus, "spelling", [make_item("spelling", "dog", "Reverse dog:", " g o d")])
    before = cells_of(store)
    changed = refs | {"corpus": put_anew(store, corpus)}
    make(store, scores_step(store, config, world.phase, **changed, lengths=LENGTHS))
    added = {key: name for key, name in cells_of(store).items() if key not in before}
    assert sorted(added.values()) == ["spelling/direct", "spelling/think"]


def put_anew(store: Store, folder: Path) -> ArtifactRef:
    def produce(target: Path) -> dict[str, float]:
        shutil.copytree(folder, target, dirs_exist_ok=True)
        return {}

    return store.build(Identity("corpus", "2", {}), produce)


WORKER = """
import json, sys
from k2model.artifacts import ArtifactRef, Identity, Store, make
from k2model.documents.schema import make_item, write_items
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
    assert (folder / "items.parquet").read_bytes() == alone.read(expected, "items.parquet")


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
