"""A checkpoint written by one layout and read by another, bit for bit, by real worker processes.

The reference is what DeepSpeed's own gathering getters say about the engine.
"""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts.files import LocalFiles
from k2model.training.world import World
from tests.training.job import MODEL, phase
from tests.training.workers import run_workers

ODD = replace(MODEL, vocab_size=67, hidden_size=18, ffn_size=35)  # sizes that ZeRO has to pad
STAGES, SIZES = (0, 1, 2, 3), (1, 2, 4)
LAYOUTS = [(stage, size) for size in SIZES for stage in STAGES]


def config(stage: int) -> Any:
    return phase(optimizer_name="adamw", precision="fp32", zero_stage=stage)


def gathered(engine: Any) -> dict[str, Any]:
    """The whole state, by DeepSpeed's collectives. On every worker."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    state = {}
    for name, parameter in engine.deepspeed.module.named_parameters():
        zero = engine.parallelism.zero_stage > 0
        state[name] = safe_get_full_fp32_param(parameter) if zero else parameter.data
        for slot in ("exp_avg", "exp_avg_sq"):
            own = None if zero else engine.optimizer.state[parameter][slot]
            whole = safe_get_full_optimizer_state(parameter, slot) if zero else own
            state[f"optimizer.{name.removeprefix('model.')}.{slot}"] = whole
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}


def folder_of(root: str, stage: int, size: int) -> Path:
    return Path(root, f"zero-{stage}-by-{size}")


def write(world: World, root: str) -> list[int]:
    """At every stage: two steps, then a checkpoint and the reference beside it. Values in this worker's files."""
    import torch
    from safetensors.torch import save_file

    from k2model.model import shifted_targets
    from k2model.training.batch import Batch
    from k2model.training.checkpoint import Progress
    from k2model.training.engine import Engine
    from k2model.training.layout import Layout
    from k2model.training.saver import Saver

    sizes = []
    for stage in STAGES:
        engine = Engine(ODD, config(stage), Layout.of(world, config(stage).parallelism))
        torch.manual_seed(world.rank)
        tokens = torch.randint(0, 67, (4 // world.size, 16))
        nothing = torch.zeros_like(tokens)
        batch = Batch(tokens, shifted_targets(tokens, torch.ones_like(tokens)), nothing, nothing, 0, 0)
        for _ in range(2):
            engine.step(batch, lr=1e-2, targets=4 * 15, sources=1)
        if world.first:
            engine.state.pieces()  # a collective in here would wait for ever: the others do not call it
        folder = folder_of(root, stage, world.size)
        progress = Progress("pretrain", 2, 0, world.size, engine.state.optimizer_steps, "identity", "rows")
        Saver(LocalFiles(folder), world, config(stage).checkpoints).save("final", engine.state, progress)
        reference = gathered(engine)
        if world.first:
            save_file(reference, folder / "reference.safetensors")
        sizes.append(sum(piece.tensor.numel() for piece in engine.state.pieces()))
    return sizes


def read(world: World, root: str) -> list[tuple[int, int]]:
    """Every checkpoint into an engine, such that over all sizes each stage reads each other's. Those compared."""
    import torch
    from safetensors.torch import load_file

    from k2model.training.checkpoint import read_checkpoint
    from k2model.training.engine import Engine
    from k2model.training.layout import Layout
    from k2model.training.state import TrainingState

    compared = []
    for stage, size in LAYOUTS:
        folder = folder_of(root, stage, size)
        found = read_checkpoint(LocalFiles(folder / "final"), world)
        wanted = load_file(folder / "reference.safetensors")
        own_stage = (stage + SIZES.index(size) + SIZES.index(world.size)) % len(STAGES)
        start = TrainingState(found.tensors, found.progress.optimizer_steps, found.uri)
        own = replace(config(own_stage), seed=5)
        engine = Engine(ODD, own, Layout.of(world, own.parallelism), start)
        got = gathered(engine)
        assert got.keys() == wanted.keys()
        differing = [name for name in wanted if not torch.equal(got[name], wanted[name])]
        assert not differing, (stage, size, own_stage, differing)
        assert engine.state.optimizer_steps == 2
        compared.append((stage, own_stage))
    return compared


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, list[list[int]]]]:
    root = tmp_path_factory.mktemp("layouts")
    sizes = {size: run_workers(size, root / f"write-{size}", write, str(root)) for size in SIZES}
    return root, sizes


def test_any_layout_reads_what_any_layout_wrote(written: tuple[Path, Any]) -> None:
    root, _ = written
    pairs = set()
    for size in SIZES:
        for compared in run_workers(size, root / f"read-{size}", read, str(root)):
            assert len(compared) == len(LAYOUTS)
            pairs |= {tuple(pair) for pair in compared}
    assert pairs == set(product(STAGES, STAGES))


@pytest.mark.parametrize(("stage", "size"), LAYOUTS)
def test_workers_write_disjoint_complete_and_equal_shares(
    written: tuple[Path, dict[int, list[list[int]]]], stage: int, size: int
) -> None:
    from safetensors import safe_open

    root, sizes = written
    folder = folder_of(str(root), stage, size) / "final"
    with safe_open(folder.parent / "reference.safetensors", "pt") as file:
        whole = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  not a dict
    seen: dict[str, list[tuple[int, int]]] = {name: [] for name in whole}
    held = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            places = {name: json.loads(place) for name, place in file.metadata().items() if name != "format"}
            assert all(places[name]["shape"] == whole[name] for name in places)
            lengths = {name: file.get_slice(name).get_shape()[0] for name in file.keys()}  # noqa: SIM118
        for name, length in lengths.items():
            seen[name].append((places[name]["start"], places[name]["start"] + length))
        held.append(sum(lengths.values()))
    assert len(held) == size and held == [sizes[size][rank][stage] for rank in range(size)]
    for name, ranges in seen.items():
        elements = 1
        for length in whole[name]:
            elements *= length
        borders = [0, *(end for _, end in sorted(ranges))]
        assert [start for start, _ in sorted(ranges)] == borders[:-1] and borders[-1] == elements, name
    padding = 1 if stage == 0 else size * len(whole)
    assert max(held) - min(held) <= padding
