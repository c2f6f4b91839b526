"""A model cut over real processes against the same model on one: losses, every gradient, and what is kept for them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from k2model.model import shifted_targets
from k2model.model.parallel import WHOLE, Shard, tensor_dim
from k2model.model.transformer import K2Model
from k2model.recipe.schema import ModelConfig, Recompute
from tests.model.conftest import kept_for_backward
from tests.model.workers import together

CONFIG = ModelConfig(
    vocab_size=96, hidden_size=32, n_layers=2, n_heads=8, n_kv_heads=2, head_dim=8, ffn_size=48, init_std=0.1
)
LENGTH, Z_LOSS = 160, 0.1


@dataclass(frozen=True)
class Case:
    """How CONFIG, with heads changed, is cut."""

    tensor: int = 1
    context: int = 1
    heads: tuple[int, int] = (8, 2)  # query, kv
    recompute: Recompute = Recompute.NONE
    bf16_residual: bool = False
    bf16: bool = False
    documents: bool = True

    @property
    def config(self) -> ModelConfig:
        return replace(CONFIG, n_heads=self.heads[0], n_kv_heads=self.heads[1])


CASES = {
    "tensor 2": Case(tensor=2),
    "tensor 2, selectively recomputed": Case(tensor=2, recompute=Recompute.SELECTIVE),
    "tensor 4 of 4 kv heads": Case(tensor=4, heads=(8, 4)),
    "tensor 4 of 4 kv heads, recomputed": Case(tensor=4, heads=(8, 4), recompute=Recompute.FULL),
    "context 2": Case(context=2),
    "context 2, one document": Case(context=2, documents=False),
    "tensor 2 x context 2": Case(tensor=2, context=2),
    "tensor 2 x context 2, recomputed": Case(tensor=2, context=2, recompute=Recompute.FULL),
    "context 4 of 4 heads, 1 kv": Case(context=4, heads=(4, 1)),
    "context 4 of 4 heads, 2 kv": Case(context=4, heads=(4, 2)),
    "context 4 of 8 heads, 8 kv": Case(context=4, heads=(8, 8)),
    "tensor 2 x context 2, bf16": Case(tensor=2, context=2, bf16=True),
    "tensor 2 x context 2, bf16 residual, selectively recomputed": Case(
        tensor=2, context=2, bf16=True, bf16_residual=True, recompute=Recompute.SELECTIVE
    ),
}


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, targets and documents of two rows; documents run across every border of slices, targets are uneven."""
    random = torch.Generator().manual_seed(5)
    tokens = torch.randint(0, CONFIG.vocab_size, (2, LENGTH), generator=random)
    marks = torch.rand(2, LENGTH, generator=random) < 0.6
    marks[:, 3 * LENGTH // 4 :] = False  # the last of four slices has no target
    lengths = ([30, 70, 45], [15, 110, 3, 20])
    document = torch.full((2, LENGTH), -1)
    for row, sizes in enumerate(lengths):
        numbers = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        document[row, : len(numbers)] = numbers
    return tokens, shifted_targets(tokens, marks), document


def step(case: Case, tensor: Shard, context: Shard) -> dict[str, Any]:
    """Loss, logits and gradients of this worker's part."""
    torch.manual_seed(11)
    residual = torch.bfloat16 if case.bf16_residual else torch.float32
    model = K2Model(
        case.config, 1e4, LENGTH, tensor=tensor, context=context, recompute=case.recompute, residual=residual
    )
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:  # gains that are not at their start
            torch.nn.init.normal_(parameter, 0.0, 0.3, torch.Generator().manual_seed(len(name)))
    tokens, targets, document = batch()
    mine = (context.cut(tokens, 1), context.cut(targets, 1), document if case.documents else None)
    with torch.autocast("cpu", torch.bfloat16, enabled=case.bf16):
        loss, nats = model.loss(*mine, z_loss=Z_LOSS)
        with torch.no_grad():
            logits = model(mine[0], mine[2])
    loss.backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    marked = [n for n, p in model.named_parameters() if getattr(p, "tensor_model_parallel", False)]
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return {"loss": loss.detach(), "nats": nats, "logits": logits, "grads": grads, "marked": marked, "weights": weights}


def work(rank: int, case: Case) -> dict[str, Any]:
    """Ranks count tensor first, then context."""
    import torch.distributed as dist

    c, t = divmod(rank, case.tensor)
    ranks = torch.arange(case.context * case.tensor).view(case.context, case.tensor)
    rows = [dist.new_group(row.tolist()) for row in ranks]  # everyone forms all groups in one order
    columns = [dist.new_group(column.tolist()) for column in ranks.T]
    return step(case, Shard(t, case.tensor, rows[c]), Shard(c, case.context, columns[t]))


def whole(case: Case, name: str, parts: list[list[Tensor]], kind: str) -> Tensor:
    """A parameter or its gradient from [context][tensor] workers: gradients add up over context."""
    dim = tensor_dim(name)
    rows = [parts[c] for c in range(case.context)] if kind == "grads" else parts[:1]
    if dim is None:
        assert all(torch.equal(row[0], part) for row in rows for part in row), f"{name} differs between tensor workers"
        return torch.stack([row[0] for row in rows]).sum(dim=0)
    return torch.stack([torch.cat(row, dim=dim) for row in rows]).sum(dim=0)


@pytest.mark.parametrize("name", CASES)
def test_workers_together_equal_one(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    flat = together(tmp_path, case.tensor * case.context, work, case)
    grid = [flat[c * case.tensor : (c + 1) * case.tensor] for c in range(case.context)]
    alone = step(replace(case, recompute=Recompute.NONE), WHOLE, WHOLE)
    tolerance = 1e-6 if not case.bf16 else 2e-2

    def close(found: Tensor, wanted: Tensor, what: str) -> None:
        assert (found - wanted).norm() <= tolerance * wanted.norm(), what

    assert all(torch.equal(row[0]["nats"], worker["nats"]) for row in grid for worker in row)
    close(torch.stack([row[0]["loss"] for row in grid]).sum(), alone["loss"], "loss")
    close(torch.cat([row[0]["nats"] for row in grid], dim=1), alone["nats"], "nats")
    close(torch.cat([row[0]["logits"] for row in grid], dim=1).float(), alone["logits"].float(), "logits")
    for parameter in alone["grads"]:
        parts = {k: [[worker[k][parameter] for worker in row] for row in grid] for k in ("weights", "grads")}
        assert torch.equal(whole(case, parameter, parts["weights"], "weights"), alone["weights"][parameter]), parameter
        close(whole(case, parameter, parts["grads"], "grads"), alone["grads"][parameter], parameter)
    cut = [n for n in alone["grads"] if tensor_dim(n) is not None]
    assert all(worker["marked"] == (cut if case.tensor > 1 else []) for worker in flat)


def kept_by_a_block(rank: int, size: int) -> dict[str, int]:
    """Bytes that a block keeps for backward on this worker, by what is recomputed."""
    import torch.distributed as dist

    tensor = Shard(rank, size, dist.group.WORLD) if size > 1 else WHOLE
    tokens, targets, document = batch()

    def kept(layers: int, recompute: Recompute) -> int:
        config = replace(CONFIG, n_kv_heads=4, n_layers=layers)
        model = K2Model(config, 1e4, LENGTH, tensor=tensor, recompute=recompute)
        return kept_for_backward(model, lambda model: model.loss(tokens, targets, document)[0])

    return {recompute.value: kept(3, recompute) - kept(2, recompute) for recompute in Recompute}


def test_each_worker_keeps_its_share_for_backward(tmp_path: Path) -> None:
    alone = kept_by_a_block(0, 1)
    for worker in together(tmp_path, 4, kept_by_a_block, 4):
        assert {name: 4 * kept for name, kept in worker.items()} == alone


@pytest.mark.parametrize(
    ("tensor", "context", "message"),
    [
        (4, 1, "cannot share out n_kv_heads=2 evenly"),
        (3, 1, "cannot share out n_heads=8 evenly"),
        (1, 3, "cannot share out 8 query heads evenly"),
        (2, 8, "cannot share out 4 query heads evenly"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(tensor: int, context: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        K2Model(CONFIG, 1e4, LENGTH, tensor=Shard(0, tensor), context=Shard(0, context))


def test_positions_that_cannot_be_shared_out_are_refused() -> None:
    model = K2Model(CONFIG, 1e4, LENGTH, tensor=Shard(0, 2))
    with pytest.raises(ValueError, match="3 positions a worker cannot be shared out evenly over 2"):
        model(torch.zeros(1, 3, dtype=torch.int64))


def test_every_parameter_knows_how_it_is_cut() -> None:
    """The names of cut parameters end alike; one that was forgotten would be trained apart by each worker."""
    whole_model, part = K2Model(CONFIG, 1e4, LENGTH), K2Model(CONFIG, 1e4, LENGTH, tensor=Shard(1, 2))
    for (name, parameter), local in zip(whole_model.named_parameters(), part.parameters(), strict=True):
        dim = tensor_dim(name)
        expected = list(parameter.shape)
        if dim is not None:
            expected[dim] //= 2
        assert list(local.shape) == expected, name
