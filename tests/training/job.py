"""A tiny phase in a real store, and real worker processes on it: what the training tests share.

Run as a module it is one worker, which calls `train_phase` as the elastic task does.
"""

import contextlib
import glob
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

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


def phase(**changes: Any) -> PhaseConfig:
    """PHASE with fields changed; `optimizer_name`, `zero_stage`, `micro_batch` and `precision` reach inside."""
    result = PHASE
    if (name := changes.pop("optimizer_name", None)) is not None:
        result = replace(result, optimizer=replace(result.optimizer, name=OptimizerName(name)))
    layout = {key: changes.pop(key) for key in ("zero_stage", "micro_batch") if key in changes}
    result = replace(result, parallelism=replace(result.parallelism, **layout))
    if "precision" in changes:
        changes["precision"] = Precision(changes["precision"])
    if "cadence" in changes:
        changes["cadence"] = Cadence(**changes["cadence"])
    return replace(result, **changes)


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


Spec = dict[str, Any]  # store, and as wanted: phase, model (changes), parent (a reference), pause (seconds a step)


def start(specs: list[Spec], workers: int = 2) -> "subprocess.Popen[str]":
    """Workers that train one spec after the other, in a process group of their own to be killed as one."""
    arguments = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={workers}"]
    return subprocess.Popen(
        [*arguments, "-m", "tests.training.job", json.dumps(specs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: "subprocess.Popen[str]", workers: int = 2) -> list[ArtifactRef]:
    """The references, one a spec, after checking that all workers returned the same."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, f"{out}\n{err}"
    refs: dict[int, list[ArtifactRef]] = defaultdict(list)
    for line in out.splitlines():
        if line.startswith("REF "):
            _, spec, ref = line.split(" ", 2)
            refs[int(spec)].append(ArtifactRef(**json.loads(ref)))
    assert all(len(group) == workers and group == [group[0]] * workers for group in refs.values())
    return [refs[spec][0] for spec in sorted(refs)]


def kill_when(path: str, process: "subprocess.Popen[str]", seconds: float = 120) -> None:
    """SIGKILL to launcher and workers as soon as a file matches the pattern: nobody gets to clean up."""
    deadline = time.monotonic() + seconds
    while not glob.glob(path):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def metrics(ref: ArtifactRef) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(ref.uri, "attachments/metrics.jsonl").read_text().splitlines()]


def run(spec: Spec) -> ArtifactRef:
    """What a worker does with one spec."""
    from k2model.training import train_phase

    store, config = Store.open(spec["store"]), phase(**spec.get("phase", {}))
    parent = ArtifactRef(**spec["parent"]) if spec.get("parent") else None
    rows = sequences(store, config)
    with slowed(spec.get("pause", 0.0)):
        return train_phase(store, replace(MODEL, **spec.get("model", {})), config, rows, parent)


@contextlib.contextmanager
def slowed(seconds: float) -> Iterator[None]:
    """Steps of a toy model take at least this long, so that a test can kill it between two of them."""
    from k2model.training.engine import Engine

    step = Engine.step

    def slow(self: Engine, batch: Any, lr: float) -> Any:
        time.sleep(seconds)
        return step(self, batch, lr)

    Engine.step = slow  # type: ignore[method-assign]
    try:
        yield
    finally:
        Engine.step = step  # type: ignore[method-assign]


if __name__ == "__main__":
    for number, given in enumerate(json.loads(sys.argv[1])):
        # One write a line: both workers share this pipe.
        os.write(1, f"REF {number} {json.dumps(vars(run(given)))}\n".encode())
