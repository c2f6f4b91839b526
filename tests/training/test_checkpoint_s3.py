"""A phase whose checkpoints go to a real S3 service, killed by SIGKILL and taken up again; and a phase from it."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from k2model.artifacts import ArtifactRef, Store
from k2model.training import load_model_state, open_model_state
from k2model.training.checkpoint import list_checkpoints
from k2model.training.world import World
from tests.servers import S3Server
from tests.training.job import phase, run, sequences
from tests.training.workers import run_workers

KEEPING = {"save_every": 2, "keep_last": 1, "keep_every": 4}
CHILD = {"name": "mid_1", "parent": "pretrain", "steps": 2}


def train(world: World, store: str, environment: dict[str, str], die_before: int) -> dict[str, Any]:
    """One worker's part of the phase and of its child; SIGKILL before the step `die_before`, if any."""
    os.environ.update(environment)
    from k2model.training.engine import Engine

    step, taken = Engine.step, 0

    def counted(self: Engine, *arguments: Any, **named: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == die_before:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *arguments, **named)

    Engine.step = counted  # type: ignore[method-assign]
    ref, own = vars(run({"store": store, "phase": {"checkpoints": KEEPING}})), taken
    child = run({"store": store, "phase": CHILD, "parent": ref})
    return {"ref": ref, "taken": own, "child": child.digest}


def test_a_phase_on_s3_is_killed_and_taken_up(
    s3_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = {**s3_server.environment, "K2_HOME": str(tmp_path / "home")}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    remote, local = f"s3://{s3_server.bucket}/resume", str(tmp_path / "local")
    for uri in (remote, local):
        for config in (phase(), phase(**CHILD)):
            sequences(Store.open(uri), config)  # before two workers race to make them
    run_workers(2, tmp_path / "killed", train, remote, environment, 10, killed=True)
    again = run_workers(2, tmp_path / "again", train, remote, environment, 0)
    calm = run_workers(2, tmp_path / "calm", train, local, {}, 0)
    assert again[0]["ref"] == again[1]["ref"] and again[0]["ref"]["digest"] == calm[0]["ref"]["digest"]
    assert again[0]["child"] == calm[0]["child"], "it began with the weights that lie in a maker's place on S3"
    assert calm[0]["taken"] == 12 and 4 <= again[0]["taken"] <= 8, "it went on from a checkpoint"
    ref = ArtifactRef(**again[0]["ref"])
    files, _ = Store.open(remote).look_up(ref)
    assert list_checkpoints(files) == [(4, "checkpoints/step-0000004"), (8, "checkpoints/step-0000008")]
    assert {path for path in files.sizes("checkpoints") if "0000004" in path} == {
        f"checkpoints/step-0000004/{name}"
        for name in (*(f"rank-0000{rank}-of-00002.safetensors" for rank in (0, 1)), "state.json", "manifest.json")
    }
    state, fetched = open_model_state(Store.open(remote), ref), load_model_state(Store.open(remote).fetch(ref))
    assert {*state} == {*fetched} and all(torch.equal(state[name], fetched[name]) for name in fetched)
