"""Evaluation where the model lies, against the CPU: on a device that is pretended, in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from k2model.artifacts import ArtifactRef, Store, make
from k2model.errors import TrainingError
from k2model.evals import scores_step
from k2model.evals.cells import results_of
from k2model.evals.scores import ScoreRow, load_scores
from k2model.export import load_exported
from k2model.generation import Engine, Request
from k2model.training.world import World
from tests.evals import conftest
from tests.evals.conftest import CONFIG, LENGTH
from tests.evals.test_step import inputs, phase_from
from tests.model.conftest import random_model
from tests.pretended import DEVICE, pretended

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9], [10, 11]]


def measured(uri: str, refs: dict[str, Any]) -> dict[str, Any]:
    """Every score of a phase, the parent's at both thetas among them, and what was answered."""
    store, phase = Store.open(uri), phase_from(LENGTH)
    own = {name: ArtifactRef(**ref) for name, ref in refs.items()}
    parent = phase_from(LENGTH, rope_theta=1e5)
    ref = make(
        store,
        scores_step(store, CONFIG, phase, **own, parent_export=own["export"], parent_phase=parent, lengths=[LENGTH]),
    )
    return {
        "rows": [asdict(row) for row in load_scores(store, [ref])],
        "results": [[one.score, one.generation, one.grade.value] for one in results_of(store, ref)],
    }


def refused(work: Callable[[], object]) -> str:
    try:
        return f"got {work()}"
    except RuntimeError as error:
        return str(error)


def main() -> None:
    """What both devices give, as JSON; `stores` have the same inputs."""
    task = json.loads(sys.stdin.read())
    torch.set_num_threads(1)
    model = random_model(seed=6)

    def drawn() -> list[list[list[int]]]:
        found = []
        for heat, top_p in ((0.0, 1.0), (1.0, 0.9)):
            asked = [Request(p, 8, frozenset({37, 16}), heat, top_p, seed) for seed, p in enumerate(PROMPTS)]
            found.append(
                [written.tokens for _, written in sorted(Engine(model, slots=3).run(asked), key=lambda x: x[0])]
            )
        return found

    found = {"cpu": {**measured(task["stores"][0], task["refs"]), "drawn": drawn()}}
    export = Path(task["export"])
    with pretended() as World.device:
        mine = torch.arange(4, device=DEVICE)
        found["refused"] = [
            refused(lambda: mine + torch.arange(4)),
            refused(lambda: mine.float().multinomial(1, generator=torch.Generator())),
            refused(mine.numpy),
        ]
        half = load_exported(export, dtype=torch.bfloat16, device=DEVICE)
        found["lies on"] = sorted({str(x.device) for x in (*half.parameters(), half.cos, half.sin)})
        there = measured(task["stores"][1], task["refs"])
        model.to(DEVICE)
        found["there"] = {**there, "drawn": drawn()}
    print(json.dumps(found))


@pytest.fixture(scope="module")
def found(
    world: conftest.World, put: Callable[[Store, str, Path], ArtifactRef], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    stores = [Store.open(tmp_path_factory.mktemp("store")) for _ in range(2)]
    refs = [{name: asdict(ref) for name, ref in inputs(store, world, put).items()} for store in stores]
    task = {"stores": [store.uri for store in stores], "refs": refs[0], "export": str(world.export)}
    assert refs[0].keys() == refs[1].keys()
    command = [sys.executable, "-c", "from tests.evals.test_devices import main; main()"]
    done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_pretended_device_refuses_what_an_accelerator_does(found: dict[str, Any]) -> None:
    mixed, drawn, numpy = found["refused"]
    assert mixed == "aten.add.Tensor was given tensors of privateuseone:0 and of the CPU's memory"
    assert drawn == "aten.multinomial.default was given tensors of privateuseone:0 and a generator of the CPU"
    assert numpy.startswith(".numpy() is not supported")


def test_an_export_is_loaded_to_the_device(found: dict[str, Any]) -> None:
    assert found["lies on"] == [str(DEVICE)]


def test_a_whole_evaluation_gives_the_scores_of_the_cpu(found: dict[str, Any]) -> None:
    there, cpu = ([ScoreRow(**row) for row in found[name]["rows"]] for name in ("there", "cpu"))
    for ours, theirs in zip(there, cpu, strict=True):
        near = pytest.approx(theirs.value, abs=0.02 if theirs.unit == "nats/token" else 0.0)
        assert (ours.score, ours.n, ours.value) == (theirs.score, theirs.n, near)
    assert {"retrieval/96@new_theta", "retrieval/96@parent_theta", "loss/prose", "code/next_line"} <= {
        row.score for row in there
    }
    right = [[one for one in found[name]["results"] if one[2] == "right"] for name in ("there", "cpu")]
    assert right[0] == right[1] and len(right[0]) > 10


def test_generation_is_the_same_drawn_or_not(found: dict[str, Any]) -> None:
    assert found["there"]["drawn"] == found["cpu"]["drawn"]
    greedy, drawn = found["there"]["drawn"]
    assert greedy != drawn and len({len(row) for row in greedy}) > 1  # rows left the batch on the way


def test_a_worker_computes_on_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = [World(rank=8 + place, size=16, local_rank=place) for place in (0, 1, 2)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert {worker.device for worker in workers} == {torch.device("cpu")}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [worker.device for worker in workers[:2]] == [torch.device("cuda:0"), torch.device("cuda:1")]
    with pytest.raises(TrainingError, match="worker 2 of this machine has no GPU: torch sees 2"):
        _ = workers[2].device
