"""A model small enough for exact tests, with grouped heads and gains that are not at their start."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from k2model.documents.markup import SPECIAL_TOKENS
from k2model.model.transformer import K2Model
from k2model.recipe.schema import ModelConfig

SMALL = ModelConfig(
    vocab_size=97, hidden_size=48, n_layers=3, n_heads=6, n_kv_heads=2, head_dim=16, ffn_size=80, init_std=0.2
)


def random_model(config: ModelConfig = SMALL, theta: float = 1e4, positions: int = 300, seed: int = 0) -> K2Model:
    torch.manual_seed(seed)
    model = K2Model(config, theta, positions)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.normal_(0.0, 0.3)
    return model.eval()


@pytest.fixture
def model() -> K2Model:
    return random_model()


def kept_for_backward(model: K2Model, loss_of: Callable[[K2Model], torch.Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass of `loss_of(model)`, parameters and tables aside."""
    own = {x.untyped_storage().data_ptr() for x in (*model.parameters(), model.cos, model.sin)}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in own:
            kept[memory.data_ptr()] = memory.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_of(model)
    assert loss.requires_grad
    return sum(kept.values())


def packed(lengths: list[int], total: int) -> torch.Tensor:
    """[1, total] document numbers, -1 behind the last."""
    numbers = [i for i, n in enumerate(lengths) for _ in range(n)]
    return torch.tensor([numbers + [-1] * (total - len(numbers))], dtype=torch.int32)


def byte_tokenizer(folder: Path) -> Path:
    """Writes a byte-level tokenizer without merges, made by tokenizers itself; returns its folder."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    names = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL_TOKENS])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
