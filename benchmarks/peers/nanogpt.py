"""A loop in nanoGPT's form: documents concatenated and cut into blocks, causal attention over all of a block,
torch's fused AdamW, autocast, DistributedDataParallel. The model is the same Llama shape in plain torch.

As in nanoGPT documents of a block see each other, which spares it every mask.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.peers import loop
from benchmarks.peers.job import join
from benchmarks.peers.workload import MODEL, OPTIMIZER, ROPE_THETA, ROWS, SEQUENCE, WORKERS, Measured, Trial, documents
from k2model.recipe.schema import Precision

IGNORED = -1  # nanoGPT's ignore_index


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        queries, keys = MODEL.n_heads * MODEL.head_dim, MODEL.n_kv_heads * MODEL.head_dim
        self.attention_norm = nn.RMSNorm(MODEL.hidden_size, MODEL.rms_norm_eps)
        self.query_key_value = nn.Linear(MODEL.hidden_size, queries + 2 * keys, bias=False)
        self.output = nn.Linear(queries, MODEL.hidden_size, bias=False)
        self.mlp_norm = nn.RMSNorm(MODEL.hidden_size, MODEL.rms_norm_eps)
        self.gate = nn.Linear(MODEL.hidden_size, MODEL.ffn_size, bias=False)
        self.up = nn.Linear(MODEL.hidden_size, MODEL.ffn_size, bias=False)
        self.down = nn.Linear(MODEL.ffn_size, MODEL.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self._attention(self.attention_norm(x), cos, sin)
        normed = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))

    def _attention(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        heads = self.query_key_value(x).view(*x.shape[:2], -1, MODEL.head_dim).transpose(1, 2)
        query, key, value = heads.split([MODEL.n_heads, MODEL.n_kv_heads, MODEL.n_kv_heads], dim=1)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        return self.output(attended.transpose(1, 2).reshape(*x.shape[:2], -1))


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = heads.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(heads.dtype)


class Llama(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(MODEL.vocab_size, MODEL.hidden_size)
        self.blocks = nn.ModuleList(Block() for _ in range(MODEL.n_layers))
        self.norm = nn.RMSNorm(MODEL.hidden_size, MODEL.rms_norm_eps)
        self.head = nn.Linear(MODEL.hidden_size, MODEL.vocab_size, bias=False)
        frequencies = ROPE_THETA ** (-torch.arange(0, MODEL.head_dim, 2) / MODEL.head_dim)
        angles = torch.outer(torch.arange(SEQUENCE), frequencies)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=MODEL.init_std)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1), ignore_index=IGNORED)


def blocks(trial: Trial) -> tuple[Tensor, Tensor]:
    """(inputs, targets), each [blocks, SEQUENCE]."""
    found = documents(trial)
    ids = np.concatenate([document.tokens for document in found])
    target = np.concatenate([document.target for document in found])
    count = (len(ids) - 1) // SEQUENCE
    following = np.where(target, ids, IGNORED)[1 : count * SEQUENCE + 1]
    return (
        torch.from_numpy(ids[: count * SEQUENCE].reshape(count, SEQUENCE)),
        torch.from_numpy(following.reshape(count, SEQUENCE)),
    )


def run(trial: Trial) -> Measured:
    join()
    torch.manual_seed(0)
    model = Llama()
    parallel = nn.parallel.DistributedDataParallel(model)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": OPTIMIZER.weight_decay},
        {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=OPTIMIZER.lr, betas=(OPTIMIZER.beta1, OPTIMIZER.beta2), fused=True)
    inputs, targets = blocks(trial)

    def batches() -> Iterator[tuple[tuple[Any, ...], int]]:
        mine = torch.arange(dist.get_rank(), len(inputs), WORKERS)
        for rows in mine.split(ROWS // WORKERS):
            yield (inputs[rows], targets[rows]), int((targets[rows] != IGNORED).sum())

    def losses(batch: tuple[Any, ...]) -> Tensor:
        mixed = trial.precision is Precision.BF16
        with torch.autocast("cpu", torch.bfloat16) if mixed else contextlib.nullcontext():
            return parallel(*batch)

    def update() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZER.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    try:
        return loop.run(trial, batches(), losses, update)
    finally:
        dist.destroy_process_group()
