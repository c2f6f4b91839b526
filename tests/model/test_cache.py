"""Feeding a row in pieces through the cache gives what feeding it at once gives."""

from dataclasses import replace

import pytest
import torch

from k2model.model.attention import KVCache
from k2model.model.parallel import Shard
from k2model.model.transformer import K2Model
from tests.model.conftest import SMALL


def test_pieces_equal_the_whole(model: K2Model) -> None:
    tokens = torch.randint(0, 97, (2, 40))
    cache = KVCache(SMALL, batch=2, slots=40)
    with torch.no_grad():
        whole = model(tokens)
        pieces = [model(piece, cache=cache) for piece in tokens.split([17, 1, 1, 20, 1], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=2e-4, rtol=0)
    assert cache.lengths_B.tolist() == [40, 40]


def test_padded_prompts_of_different_lengths_are_exact(model: K2Model) -> None:
    lengths = [3, 11, 7]
    prompts = torch.randint(0, 97, (3, 11))
    following = torch.randint(0, 97, (3, 5))
    cache = KVCache(SMALL, batch=3, slots=16)
    with torch.no_grad():
        model(prompts, cache=cache)
        cache.set_lengths(torch.tensor(lengths))
        batched = torch.cat([model(following[:, i : i + 1], cache=cache) for i in range(5)], dim=1)
        for row, length in enumerate(lengths):
            alone = model(torch.cat((prompts[row : row + 1, :length], following[row : row + 1]), dim=1))
            torch.testing.assert_close(batched[row], alone[0, length:], atol=2e-4, rtol=0)


def test_dropped_rows_leave_the_others_as_they_were(model: K2Model) -> None:
    prompts = torch.randint(0, 97, (4, 9))
    cache = KVCache(SMALL, batch=4, slots=12)
    with torch.no_grad():
        model(prompts, cache=cache)
        cache.keep_rows(torch.tensor([3, 1]))
        step = model(torch.tensor([[5], [6]]), cache=cache)
        alone = model(torch.cat((prompts[[3, 1]], torch.tensor([[5], [6]])), dim=1))[:, -1:]
    torch.testing.assert_close(step, alone, atol=2e-4, rtol=0)


def test_documents_and_cache_together_are_refused(model: K2Model) -> None:
    with pytest.raises(ValueError, match="one document a row"):
        tokens = torch.zeros(1, 2, dtype=torch.int64)
        model(tokens, document_BT=tokens, cache=KVCache(SMALL, batch=1, slots=4))


@pytest.mark.parametrize("cut", ["context", "tensor"])
def test_generation_by_a_cut_model_is_refused(cut: str) -> None:
    model = K2Model(replace(SMALL, vocab_size=98), 1e4, 8, **{cut: Shard(0, 2)})
    with pytest.raises(ValueError, match="without `context` and `tensor`"):
        model(torch.zeros(1, 2, dtype=torch.int64), cache=KVCache(SMALL, batch=1, slots=4))
