"""A tiny phase in a real store, and real worker processes on it: what the training tests share."""

import contextlib
import glob
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from k2model.artifacts import ArtifactRef, Identity, Store, make
from k2model.recipe.schema import (
    CheckpointConfig,
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
    SpikePolicy,
)
from k2model.tokens.rows import Rows, RowsIndex, write_rows

WORKERS = 2
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
    checkpoints=CheckpointConfig(save_every=4),
)


def phase(**changes: Any) -> PhaseConfig:
    """PHASE with fields changed; `optimizer_name`, `precision` and every field of the layout reach inside."""
    result = PHASE
    if (name := changes.pop("optimizer_name", None)) is not None:
        result = replace(result, optimizer=replace(result.optimizer, name=OptimizerName(name)))
    layout = {field.name: changes.pop(field.name) for field in fields(Parallelism) if field.name in changes}
    result = replace(result, parallelism=replace(result.parallelism, **layout))
    if "spikes" in changes:
        changes["spikes"] = SpikePolicy(**changes["spikes"])
    if "precision" in changes:
        changes["precision"] = Precision(changes["precision"])
    if "checkpoints" in changes:
        changes["checkpoints"] = CheckpointConfig(**changes["checkpoints"])
    return replace(result, **changes)


def sequences(
    store: Store,
    config: PhaseConfig,
    seed: int = 0,
    garbage: tuple[int, int] | None = None,
    part: tuple[int, int] | None = None,
) -> ArtifactRef:
    """A sequences artifact for the phase: rows of counting tokens with uneven numbers of targets.

    `garbage`: first and last step whose rows are random tokens instead. `part`: the rows are those of a longer phase,
    from its step `part[0]` on, which has `part[1]` steps.
    """
    first, whole = part or (0, config.steps)

    def produce(folder: Path) -> dict[str, float]:
        rows, length = whole * config.global_batch, config.sequence_length
        random = np.random.default_rng(seed)
        tokens = (random.integers(0, 60, (rows, 1)) + np.arange(length)) % 60
        if garbage is not None:
            bad = slice(garbage[0] * config.global_batch, (garbage[1] + 1) * config.global_batch)
            tokens[bad] = np.random.default_rng(seed + 1).integers(0, 60, tokens[bad].shape)
        loss_mask = random.random((rows, length)) < random.random((rows, 1))
        loss_mask[:, 0] = False
        own = slice(first * config.global_batch, (first + config.steps) * config.global_batch)
        tokens, loss_mask, rows = tokens[own], loss_mask[own], config.steps * config.global_batch
        pieces = [10] * (length // 10) + [length % 10] * (length % 10 > 0)
        sources = np.arange(len(pieces)) % 2
        packed = Rows(
            tokens=tokens.astype(np.uint32),
            loss_mask=loss_mask,
            pieces=np.full(rows, len(pieces)),
            length=np.tile(np.array(pieces, dtype=np.int32), rows),
            source=np.tile(sources.astype(np.uint8), rows),
        )
        index = RowsIndex(rows, length, rows, 1, ["odd", "even"], ["prose", "code"], vocab_size=64, pad=2)
        write_rows(folder, [packed], index)
        return {}

    shape: dict[str, Any] = {
        "steps": config.steps,
        "batch": config.global_batch,
        "length": config.sequence_length,
        "seed": seed,
    }
    shape |= {"garbage": list(garbage)} if garbage else {}
    shape |= {"part": list(part)} if part else {}
    return store.build(Identity("sequences", "1", shape), produce)


#: store, and as wanted: phase, model (changes), parent (a reference), pause (seconds a step), garbage (first and last
#: step of random rows), poison (steps before which a weight becomes NaN), hold (a step and a folder, see `held`)
Spec = dict[str, Any]


class Job:
    """An elastic job on a few workers that train one spec after the other, started like the Flyte task's.

    The agent is a process of its own, forked (as it forks its workers) from a server that has loaded
    torch once for all jobs of a test session.
    """

    def __init__(self, folder: Path, specs: list[Spec], restarts: int = 0, workers: int = WORKERS) -> None:
        self.folder, self.workers = folder, workers
        folder.mkdir(parents=True)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["k2model.training.attempt", "torch.distributed.launcher.api", __name__])
        self.agent = context.Process(target=_agent, args=(str(folder), specs, restarts, workers))
        self.agent.start()

    def wait_for(self, pattern: str) -> None:
        """Until a file matches."""
        deadline = time.monotonic() + 120
        while not glob.glob(pattern):
            assert self.agent.is_alive(), f"the job ended, see {self.folder}"
            assert time.monotonic() < deadline, f"{pattern} did not appear"
            time.sleep(0.005)

    def kill_worker(self, rank: int) -> None:
        os.kill(int((self.folder / f"worker-{rank}.pid").read_text()), signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL to the agent and all workers: nobody gets to clean up."""
        self.agent.kill()
        self.agent.join()
        for rank in range(self.workers):
            self.kill_worker(rank)

    def result(self) -> list[ArtifactRef]:
        """The references, one a spec, after checking that all workers returned the same."""
        self.agent.join(timeout=300)
        assert self.agent.exitcode == 0, (self.folder / "error.txt").read_text()
        by_rank = json.loads((self.folder / "result.json").read_text())
        assert len(by_rank) == self.workers and all(refs == by_rank[0] for refs in by_rank)
        return [ArtifactRef(**ref) for ref in by_rank[0]]


def _agent(folder: str, specs: list[Spec], restarts: int, workers: int) -> None:
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from k2model.training.rendezvous import one_node_backend

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=workers,
        start_method="fork",
        max_restarts=restarts,
        monitor_interval=0.05,
        rdzv_backend=one_node_backend(),
    )
    try:
        returned = elastic_launch(config, _worker)(folder, specs)
    except BaseException as error:
        Path(folder, "error.txt").write_text(f"{type(error).__name__}: {error}")
        raise
    Path(folder, "result.json").write_text(json.dumps([returned[rank] for rank in range(workers)]))


def _worker(folder: str, specs: list[Spec]) -> list[dict[str, Any]]:
    Path(folder, f"worker-{os.environ['RANK']}.pid").write_text(str(os.getpid()))
    os.environ["TORCH_EXTENSIONS_DIR"] = str(Path(folder, "extensions"))
    refs = [vars(run(spec)) for spec in specs]
    Path(folder, f"modules-{os.environ['RANK']}.txt").write_text("\n".join(sys.modules))
    return refs


def metrics(ref: ArtifactRef) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(ref.uri, "attachments/metrics.jsonl").read_text().splitlines()]


def run(spec: Spec) -> ArtifactRef:
    """What a worker does with one spec."""
    from k2model.training import checkpoint_step

    store, config = Store.open(spec["store"]), phase(**spec.get("phase", {}))
    parent = ArtifactRef(**spec["parent"]) if spec.get("parent") else None
    rows = sequences(store, config, garbage=spec.get("garbage"))
    with slowed(spec.get("pause", 0.0)), poisoned(spec.get("poison", ())), held(*spec.get("hold", (-1, ""))):
        return make(store, checkpoint_step(store, replace(MODEL, **spec.get("model", {})), config, rows, parent))


@contextlib.contextmanager
def slowed(seconds: float) -> Iterator[None]:
    """Steps of a toy model take at least this long, so that a test can kill it between two of them."""
    from k2model.training.engine import Engine

    step = Engine.step

    def slow(self: Engine, *arguments: Any, **named: Any) -> Any:
        time.sleep(seconds)
        return step(self, *arguments, **named)

    Engine.step = slow  # type: ignore[method-assign]
    try:
        yield
    finally:
        Engine.step = step  # type: ignore[method-assign]


def before_each_step(act: Callable[[Any, int], None]) -> Iterator[None]:
    """`act` is called with the training loop and the step that it is about to take."""
    from k2model.training.loop import TrainingLoop

    take = TrainingLoop._take

    def acting(self: TrainingLoop, step: int, *arguments: Any) -> None:
        act(self, step)
        take(self, step, *arguments)

    TrainingLoop._take = acting  # type: ignore[method-assign]
    try:
        yield
    finally:
        TrainingLoop._take = take  # type: ignore[method-assign]


@contextlib.contextmanager
def poisoned(steps: Collection[int]) -> Iterator[None]:
    """Before each of `steps` one weight of this worker becomes NaN, as a broken device would have it."""
    import torch

    def poison(loop: Any, step: int) -> None:
        if step in steps:
            with torch.no_grad():
                next(iter(loop.engine.deepspeed.module.parameters())).view(-1)[0] = torch.nan

    yield from before_each_step(poison)


@contextlib.contextmanager
def held(at: int, folder: str) -> Iterator[None]:
    """Before step `at` training leaves a file `step-<at>` in a folder, and waits there until it has a file `go`."""

    def hold(loop: Any, step: int) -> None:
        if step == at:
            Path(folder, f"step-{step}").touch()
            while not Path(folder, "go").exists():
                time.sleep(0.01)

    yield from before_each_step(hold)
