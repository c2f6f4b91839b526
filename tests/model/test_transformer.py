"""The architecture: what a position may see, how it starts, and what it refuses."""

import math

import pytest
import torch

from k2model.model.transformer import K2Model, ZeroCentredRMSNorm
from k2model.recipe.laptop import laptop
from tests.model.conftest import SMALL, packed, random_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_document_does_not_notice_its_neighbours(model: K2Model, dtype: torch.dtype) -> None:
    document = packed([130, 70, 50], 270)
    tokens = torch.randint(0, 97, (1, 270))
    changed = tokens.clone()
    changed[:, :130] = (tokens[:, :130] + 1) % 97
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        before, after = model(tokens, document), model(changed, document)
    assert torch.equal(before[:, 130:], after[:, 130:])
    assert not torch.equal(before[:, :130], after[:, :130])


def test_a_packed_document_equals_the_document_alone(model: K2Model) -> None:
    document = packed([100, 150], 260)
    tokens = torch.randint(0, 97, (1, 260))
    with torch.no_grad():
        row, alone = model(tokens, document), model(tokens[:, 100:250])
    torch.testing.assert_close(row[:, 100:250], alone, atol=2e-4, rtol=0)


def test_later_tokens_are_not_seen(model: K2Model) -> None:
    tokens = torch.randint(0, 97, (2, 200))
    changed = tokens.clone()
    changed[:, 150:] = 3
    with torch.no_grad():
        assert torch.equal(model(tokens)[:, :150], model(changed)[:, :150])


def test_padding_gives_numbers_and_gradients(model: K2Model) -> None:
    document = torch.full((2, 20), -1, dtype=torch.int32)
    document[0, :7] = 0
    logits = model(torch.randint(0, 97, (2, 20)), document)
    logits.square().mean().backward()
    assert logits.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_norm_by_hand() -> None:
    norm = ZeroCentredRMSNorm(2, eps=0.5)
    norm.weight.data = torch.tensor([0.0, 1.0])  # gains 1 and 2
    root = math.sqrt((9 + 16) / 2 + 0.5)
    torch.testing.assert_close(norm(torch.tensor([[3.0, 4.0]])), torch.tensor([[3 / root, 8 / root]]))


def test_initialisation_has_megatrons_scales() -> None:
    config = laptop().model
    torch.manual_seed(0)
    model = K2Model(config, 1e4, 8)
    block = model.blocks[1]
    scaled = config.init_std / math.sqrt(2 * config.n_layers)
    for weight, std in (
        (model.embedding.weight, config.init_std),
        (model.head.weight, config.init_std),
        (block.attention.query.weight, config.init_std),
        (block.mlp.up.weight, config.init_std),
        (block.attention.output.weight, scaled),
        (block.mlp.down.weight, scaled),
    ):
        assert weight.std().item() == pytest.approx(std, rel=0.03)
    assert block.mlp_norm.weight.abs().max() == 0
    assert not torch.equal(model.embedding.weight, model.head.weight)


def test_theta_matters_at_late_positions_only_gradually() -> None:
    tokens = torch.randint(0, 97, (1, 200))
    low, high = random_model(theta=1e4), random_model(theta=1e6)
    with torch.no_grad():
        difference = (low(tokens) - high(tokens)).abs().amax(dim=-1)[0]
    assert difference[0] == 0 and difference[-1] > 1e-3


def test_rows_beyond_the_tables_are_refused(model: K2Model) -> None:
    with pytest.raises(ValueError, match="301 positions asked of a model built for 300"):
        model(torch.zeros(1, 301, dtype=torch.int64))


def test_the_same_seed_gives_the_same_model() -> None:
    first, second = random_model(SMALL, seed=3), random_model(SMALL, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
