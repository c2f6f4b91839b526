"""Trainings by real worker processes, run once a session: calm ones, and the same ones killed and resumed."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import ArtifactRef, Store
from k2model.training.world import World
from tests.training.job import Job, Spec, phase, sequences

CHILD = {
    "name": "mid_1",
    "parent": "pretrain",
    "steps": 10,
    "seed": 3,
    "sequence_length": 32,
    "global_batch": 2,
    "rope_theta": 3e4,
}
ADAMW = {"optimizer_name": "adamw", "precision": "fp32"}
MUON = {"optimizer_name": "muon", "precision": "fp32"}
KILLED_AFTER = 8
PAUSE = 0.05  # seconds a step takes at least in jobs to be killed


@dataclass
class Story:
    """`undisturbed`: pretrain twice, AdamW at ZeRO 0..3, Muon in fp32, mid_1. `resumed`: pretrain, mid_1."""

    undisturbed: list[ArtifactRef]
    resumed: list[ArtifactRef]
    killed_store: Path  # a copy as it was right after the kill in the first phase
    jobs: Path


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """In one job a worker is killed in the first phase and restarted by its agent, then all of it is killed in
    the second phase, which another job finishes."""
    calm, again, troubled, left = (tmp_path_factory.mktemp(n) for n in ("calm", "again", "troubled", "left"))
    stages = [tmp_path_factory.mktemp(f"zero-{stage}") for stage in range(4)]

    def spec(store: Path, **more: Any) -> Spec:
        sequences(Store.open(store), phase(**more.get("phase", {})))  # before two workers race to make them
        return {"store": str(store), **more}

    jobs = tmp_path_factory.mktemp("jobs")
    calm_job = Job(
        jobs / "calm",
        [spec(calm), spec(again, phase={"checkpoints": {"save_every": 5, "keep_last": 1}})]
        + [spec(store, phase={**ADAMW, "zero_stage": stage}) for stage, store in enumerate(stages)]
        + [spec(calm, phase=MUON)],
    )
    undisturbed = calm_job.result()

    parent = vars(undisturbed[0])
    calm_child = Job(jobs / "calm-child", [spec(calm, phase=CHILD, parent=parent)])
    # One worker dies and the agent restarts the job, then everything dies at once and a job is started anew.
    specs = [spec(troubled, pause=PAUSE), spec(troubled, phase=CHILD, parent=parent, pause=PAUSE)]
    job = Job(jobs / "troubled", specs, restarts=1)
    job.wait_for(f"{troubled}/checkpoint/*/checkpoints/step-{KILLED_AFTER:07d}/manifest.json")
    job.kill_worker(1)
    shutil.copytree(troubled, left, dirs_exist_ok=True)
    job.wait_for(f"{troubled}/checkpoint/*/manifest.json")
    job.wait_for(f"{troubled}/checkpoint/*/checkpoints/step-0000004/manifest.json")
    job.kill()
    job = Job(jobs / "again", [spec(troubled), spec(troubled, phase=CHILD, parent=parent)])
    return Story(undisturbed + calm_child.result(), job.result(), left, jobs)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """This process alone, joined once for all tests of a module."""
    with World().joined():
        yield World()
