"""What is written and scored for one request does not depend on what is asked beside it: equal bits in fp32."""

import random

import pytest
import torch

from k2model.generation import Engine, Request, Score
from k2model.generation.decoder import spans
from k2model.model.transformer import K2Model


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_tokens_and_log_probabilities_at_batch_1_8_and_32(model: K2Model, requests: list[Request]) -> None:
    alone = dict(Engine(model, slots=1).run(requests))
    assert dict(Engine(model, slots=8).run(requests)) == alone
    assert dict(Engine(model, slots=32).run(requests)) == alone
    assert len({tuple(one.tokens) for one in alone.values()}) == len(requests)
    drawn = [number for number, one in enumerate(requests) if one.temperature]
    again = [Request(**{**requests[number].__dict__, "seed": 1000 + number}) for number in drawn]
    assert any(
        one.tokens != alone[number].tokens
        for number, (_, one) in zip(drawn, sorted(Engine(model).run(again)), strict=True)
    )


def test_neighbours_and_order(model: K2Model, requests: list[Request]) -> None:
    order = list(range(len(requests)))
    whole = dict(Engine(model, slots=8).run(requests))
    random.Random(0).shuffle(order)
    mixed = dict(Engine(model, slots=8).run([requests[number] for number in order]))
    assert [mixed[order.index(number)] for number in range(len(order))] == [whole[number] for number in sorted(whole)]
    some = dict(Engine(model, slots=8).run(requests[::3]))
    assert [some[number] for number in sorted(some)] == [whole[number] for number in sorted(whole)][::3]


def test_likelihoods_at_batch_1_8_and_32_and_alone(model: K2Model, prompts: list[list[int]]) -> None:
    pairs = [(prompts[number % 5], prompts[number][: 1 + number]) for number in range(34)]
    batched = [Engine(model, slots=slots).score(pairs) for slots in (1, 8, 32)]
    engine = Engine(model)
    alone = [engine.score([pair])[0] for pair in pairs]
    assert batched[0] == batched[1] == batched[2] == alone
    for (before, behind), score in zip(pairs, alone, strict=True):
        with torch.no_grad():
            expected = model(torch.tensor([before + behind]))[0].log_softmax(-1)[len(before) - 1 : -1]
        nats = expected.gather(-1, torch.tensor(behind)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(score.log_probabilities), nats, atol=1e-4, rtol=0)
        assert score.greedy == (expected.argmax(-1) == torch.tensor(behind)).tolist()


def test_nothing_to_score(model: K2Model) -> None:
    engine = Engine(model)
    assert engine.score([]) == []
    assert engine.score([([1, 2], [])]) == [Score([], [])]
    with pytest.raises(ValueError, match="request 1: there is nothing before its text"):
        engine.score([([1], [2]), ([], [3])])


def test_neighbouring_slots_are_read_together_where_that_is_cheaper() -> None:
    assert spans({0: 20, 1: 30, 2: 17}, call=128) == [(range(0, 3), 32)]
    assert spans({0: 20, 1: 3000, 2: 17}, call=128) == [(range(0, 1), 32), (range(1, 2), 3008), (range(2, 3), 32)]
    assert spans({0: 20, 1: 3000, 9: 17}, call=10**6) == [(range(0, 10), 3008)]
