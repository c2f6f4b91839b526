"""A model that is cut over 2 and 4 real workers writes and scores what the whole one does, read from its export."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from k2model.export import load_exported
from k2model.export.shards import read_weights
from k2model.export.step import write_export
from k2model.generation import Engine, Request
from k2model.model.parallel import Shard, tensor_dim
from k2model.recipe.laptop import laptop
from k2model.training.checkpoint import InMemory
from tests.model.conftest import SMALL, byte_tokenizer, random_model
from tests.model.workers import together

CONFIG = replace(SMALL, vocab_size=96, n_heads=8, n_kv_heads=4)
ENDS = frozenset({5, 9, 13})


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    (folder / "tokenizer").mkdir()
    state = InMemory(random_model(CONFIG, seed=3).state_dict())
    write_export(folder, state, CONFIG, laptop().phase("pretrain"), byte_tokenizer(folder / "tokenizer"))
    return folder


def asked() -> tuple[list[Request], list[tuple[list[int], list[int]]]]:
    draw = torch.Generator().manual_seed(2)
    texts = [torch.randint(0, 96, (n,), generator=draw).tolist() for n in (1, 140, 7, 30, 3, 19)]
    requests = [Request(text, 12, ENDS, 0.9 * (number % 2), 0.9, number) for number, text in enumerate(texts)]
    return requests, [(texts[3], texts[0]), (texts[3], texts[2]), (texts[0], texts[1])]


def work(rank: int, folder: str, size: int) -> dict[str, Any]:
    import torch.distributed as dist

    tensor = Shard(rank, size, dist.group.WORLD if size > 1 else None)
    model = load_exported(folder, max_positions=200, tensor=tensor)
    requests, pairs = asked()
    engine = Engine(model, slots=4)
    found = dict(engine.run(requests))
    # A worker that has memory for fewer slots decides for all.
    tight = dict(Engine(model, slots=4, cache_bytes=None if rank else 400_000).run(requests))
    return {
        "tokens": [found[number].tokens for number in sorted(found)],
        "nats": [nat for number in sorted(found) for nat in found[number].log_probabilities],
        "tight": [tight[number].tokens for number in sorted(tight)],
        "scores": [nat for score in engine.score(pairs) for nat in score.log_probabilities],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


@pytest.mark.parametrize("size", [2, 4])
def test_the_same_tokens_and_likelihoods(export: Path, tmp_path: Path, size: int) -> None:
    alone = work(0, str(export), 1)
    workers = together(tmp_path, size, work, str(export), size)
    for found in workers:
        assert found["tokens"] == found["tight"] == alone["tokens"]
        for name in ("nats", "scores"):
            torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(alone[name]), atol=1e-4, rtol=0)
        assert found["nats"] == workers[0]["nats"]  # all go on from the same bits
        assert found["parameters"] < alone["parameters"] / size * 1.02


def test_each_worker_reads_its_own_parts(export: Path) -> None:
    from k2model.export.architecture import Architecture

    found = Architecture(CONFIG, 1e4, 200, tied=False)
    whole = read_weights(export, found, torch.float32)
    for rank in range(4):
        part = read_weights(export, found, torch.float32, tensor=Shard(rank, 4))
        for name, tensor in whole.items():
            dim = tensor_dim(name)
            expected = tensor if dim is None else Shard(rank, 4).cut(tensor, dim)
            assert torch.equal(part[name], expected), name
    with pytest.raises(ValueError, match="cannot share out n_kv_heads=4 evenly"):
        load_exported(export, tensor=Shard(0, 8))
