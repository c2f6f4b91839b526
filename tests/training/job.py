"""A tiny phase in a real store, and real worker processes on it: what the training tests share.

Run as a module it is one worker: `python -m tests.training.job <spec.json>` calls `train_phase` as the
elastic task does.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from k2model.artifacts import ArtifactRef, Identity, Store
from k2model.recipe.schema import (
    Cadence,
    MixtureEntry,
    ModelConfig,
    OptimizerConfig,
    OptimizerName,
    Packing,
    Parallelism,
    PhaseConfig,
    PhaseKind,
    Precision,
    ScheduleConfig,
    ScheduleShape,
)

MODEL = ModelConfig(
    vocab_size=64, hidden_size=16, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=8, ffn_size=32, init_std=0.02
)
PHASE = PhaseConfig(
    name="pretrain",
    kind=PhaseKind.PRETRAIN,
    parent="",
    sequence_length=16,
    rope_theta=1e4,
    global_batch=4,
    steps=12,
    optimizer=OptimizerConfig(OptimizerName.MUON, lr=5e-3),
    schedule=ScheduleConfig(ScheduleShape.LINEAR, warmup_steps=3, final_fraction=0.1),
    mixture=(MixtureEntry("toy", 1.0),),
    packing=Packing.BEST_FIT,
    parallelism=Parallelism(workers_per_node=2),
    cadence=Cadence(save_every=4),
)


def phase(**changes: object) -> PhaseConfig:
    """PHASE with fields changed; `optimizer_name`, `zero_stage`, `micro_batch` and `precision` reach inside."""
    result = PHASE
    if (name := changes.pop("optimizer_name", None)) is not None:
        result = replace(result, optimizer=replace(result.optimizer, name=OptimizerName(name)))
    layout = {key: changes.pop(key) for key in ("zero_stage", "micro_batch") if key in changes}
    result = replace(result, parallelism=replace(result.parallelism, **layout))
    if "precision" in changes:
        changes["precision"] = Precision(changes["precision"])
    if "cadence" in changes:
        changes["cadence"] = Cadence(**changes["cadence"])  # type: ignore[arg-type]
    return replace(result, **changes)  # type: ignore[arg-type]


def sequences(store: Store, config: PhaseConfig, seed: int = 0) -> ArtifactRef:
    """A sequences artifact for the phase: rows of counting tokens with uneven numbers of targets."""

    def produce(folder: Path) -> dict[str, float]:
        from k2model.tokens.sequences import SEQUENCES_FILE, Row, _write

        rows, length = config.steps * config.global_batch, config.sequence_length
        random = np.random.default_rng(seed)
        tokens = (random.integers(0, 60, (rows, 1)) + np.arange(length)) % 60
        document = np.repeat(np.arange(length) // 10, rows).reshape(length, rows).T
        loss = random.random((rows, length)) < random.random((rows, 1))
        loss[:, 0] = False
        row = Row(tokens.astype(np.uint32), loss, document.astype(np.int32), np.zeros((rows, length), np.uint8))
        _write(row, folder / SEQUENCES_FILE, ["toy"], 64)
        (folder / "composition.json").write_text("{}")
        return {}

    shape = {"steps": config.steps, "batch": config.global_batch, "length": config.sequence_length, "seed": seed}
    return store.build(Identity("sequences", "1", shape), produce)


def command(spec: dict[str, object], workers: int) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={workers}"]
    return [sys.executable, *(launcher if workers > 1 else []), "-m", "tests.training.job", json.dumps(spec)]


def start(spec: dict[str, object], workers: int = 2) -> "subprocess.Popen[str]":
    """Worker processes in a process group of their own, so that all of them can be killed at once."""
    return subprocess.Popen(
        command(spec, workers), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process: "subprocess.Popen[str]") -> tuple[list[ArtifactRef], str]:
    """(the references the workers returned, their stderr); raises when they failed."""
    out, err = process.communicate(timeout=120)
    if process.returncode:
        raise RuntimeError(f"workers failed:\n{out}\n{err}")
    refs = [ArtifactRef(**json.loads(line[4:])) for line in out.splitlines() if line.startswith("REF ")]
    return refs, err


def train(spec: dict[str, object], workers: int = 2) -> tuple[ArtifactRef, str]:
    refs, err = finish(start(spec, workers))
    assert len(refs) == workers and all(ref == refs[0] for ref in refs)
    return refs[0], err


def kill(process: "subprocess.Popen[str]") -> None:
    """SIGKILL to launcher and workers: nobody gets to clean up."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_for(path: Path, process: "subprocess.Popen[str]", seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.005)


def worker(spec: dict[str, object]) -> None:
    from k2model.training import train_phase

    store = Store.open(str(spec["store"]))
    config = phase(**spec.get("phase", {}))  # type: ignore[arg-type]
    parent = ArtifactRef(**spec["parent"]) if spec.get("parent") else None  # type: ignore[arg-type]
    model = replace(MODEL, **spec.get("model", {}))  # type: ignore[arg-type]
    if (pause := spec.get("pause")) is not None:
        _pause_in_steps(float(pause))  # type: ignore[arg-type]
    ref = train_phase(store, model, config, sequences(store, config), parent)
    print("REF " + json.dumps(vars(ref)), flush=True)


def _pause_in_steps(seconds: float) -> None:
    """Slow the steps of a toy model down, so that a test has time to kill it between two of them."""
    from k2model.training import engine

    step = engine.Engine.step

    def slow(self, *args):  # type: ignore[no-untyped-def]
        time.sleep(seconds)
        return step(self, *args)

    engine.Engine.step = slow  # type: ignore[method-assign]


if __name__ == "__main__":
    worker(json.loads(sys.argv[1]))
