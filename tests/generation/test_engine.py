"""What the engine writes: against Hugging Face, one prompt at a time, and by the rules of a request."""

import math
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from k2model.errors import NotFinite
from k2model.export.step import write_export
from k2model.generation import Engine, Request
from k2model.generation.slots import Slots
from k2model.model.transformer import K2Model
from k2model.recipe.laptop import laptop
from k2model.training.checkpoint import InMemory
from tests.generation.conftest import ENDS
from tests.model.conftest import SMALL, byte_tokenizer


def written(engine: Engine, requests: Sequence[Request]) -> list[list[int]]:
    found = dict(engine.run(requests))
    return [found[number].tokens for number in range(len(requests))]


def test_greedy_equals_hugging_face(model: K2Model, prompts: list[list[int]], tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    phase = laptop().phase("pretrain")
    (tmp_path / "tokenizer").mkdir()
    write_export(tmp_path, InMemory(model.state_dict()), SMALL, phase, byte_tokenizer(tmp_path / "tokenizer"))
    reference = LlamaForCausalLM.from_pretrained(tmp_path)
    found = dict(Engine(model, slots=5).run([Request(prompt, 24, ENDS) for prompt in prompts[:10]]))
    for number, prompt in enumerate(prompts[:10]):
        out = reference.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=24,
            do_sample=False,
            eos_token_id=sorted(ENDS),
            return_dict_in_generate=True,
            output_logits=True,
        )
        own = found[number]
        assert own.tokens == out.sequences[0, len(prompt) :].tolist()
        assert own.ended == (own.tokens[-1] in ENDS)
        logits = torch.cat(out.logits).log_softmax(-1)
        nats = logits.gather(-1, torch.tensor(own.tokens)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(own.log_probabilities), nats, atol=1e-4, rtol=0)
    assert len({len(one.tokens) for one in found.values()}) > 2  # they did end at different places


def test_bf16_is_what_autocast_gives(model: K2Model, prompts: list[list[int]]) -> None:
    (own,) = dict(Engine(model, torch.bfloat16).run([Request(prompts[3], 20)])).values()
    ids = torch.tensor([prompts[3] + own.tokens])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = model(ids)[0].float().log_softmax(-1)
    nats = expected[len(prompts[3]) - 1 : -1].gather(-1, torch.tensor(own.tokens)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(own.log_probabilities), nats, atol=0.1, rtol=0)


def test_sampling_follows_the_distribution(model: K2Model) -> None:
    requests = [Request([1, 2, 3], 1, temperature=2.0, seed=seed) for seed in range(3000)]
    drawn = torch.tensor(written(Engine(model, slots=128), requests))[:, 0]
    with torch.no_grad():
        expected = (model(torch.tensor([[1, 2, 3]]))[0, -1] / 2.0).softmax(-1)
    share = torch.bincount(drawn, minlength=97) / 3000
    assert (share - expected).abs().max() < 5 * 0.5 / 3000**0.5


def test_a_nucleus_holds_the_likeliest_alone(model: K2Model) -> None:
    with torch.no_grad():
        shares = model(torch.tensor([[1, 2, 3]]))[0, -1].softmax(-1).sort(descending=True)
    kept = int((shares.values.cumsum(0) < 0.5).sum()) + 1
    requests = [Request([1, 2, 3], 1, temperature=1.0, top_p=0.5, seed=seed) for seed in range(400)]
    drawn = {tokens[0] for tokens in written(Engine(model, slots=128), requests)}
    assert kept > 1
    assert drawn == set(shares.indices[:kept].tolist())
    narrow = [Request([1, 2, 3], 1, temperature=1.0, top_p=1e-9, seed=seed) for seed in range(5)]
    assert written(Engine(model), narrow) == [[int(shares.indices[0])]] * 5


def test_a_spent_budget_closes_the_trace_and_writing_goes_on(model: K2Model) -> None:
    free = written(Engine(model), [Request([1, 2, 3], 12)])[0]
    closing = next(token for token in range(97) if token not in free)
    asked = [Request([1, 2, 3], 12, closing=closing, thinking_budget=budget) for budget in (0, 4, 12, None)]
    none, four, twelve, never = written(Engine(model), asked)
    assert none[0] == closing
    assert four[:5] == [*free[:4], closing]
    assert four[5:] == written(Engine(model), [Request([1, 2, 3, *four[:5]], 7)])[0]
    assert twelve == never == free


def test_stop_texts_are_found_wherever_tokens_are_cut(model: K2Model) -> None:
    """Over bytes as tokens: of a stop of several, one inside a character, one that stands in the trace."""
    free = written(Engine(model), [Request([7, 8], 30)])[0]

    def decode(ids: Sequence[int]) -> str:
        return "".join(f"{token:02d}" for token in ids)  # two letters a token

    inside = decode(free[5:8])[1:-1]  # begins and ends within a token
    engine = Engine(model, decode=decode)
    ((_, found),) = engine.run([Request([7, 8], 30, stop=("never", inside))])
    first = next(n for n in range(1, 31) if inside in decode(free[:n]))
    assert found.tokens == free[:first]
    assert found.ended
    closing = next(token for token in range(97) if token not in free)
    ((_, traced),) = engine.run([Request([7, 8], 30, stop=(inside,), closing=closing)])
    assert traced.tokens == free
    assert not traced.ended


def test_what_makes_no_sense_is_refused_before_anything_is_written(model: K2Model) -> None:
    engine = Engine(model)
    for request, words in (
        (Request([], 4), "request 1: its prompt has no tokens"),
        (Request([1] * 390, 40), "takes 430 positions of a model built for 400"),
        (Request([1], 0), "max_new_tokens=0 must be at least 1"),
        (Request([1], 1, temperature=-1.0), "temperature=-1.0 must be at least 0"),
        (Request([1], 1, top_p=0.0), "top_p=0.0 above 0"),
        (Request([1], 1, stop=("x",)), "build Engine with `decode`"),
        (Request([1], 1, thinking_budget=-1), "thinking_budget=-1 must be at least 0"),
    ):
        with pytest.raises(ValueError, match=words):
            engine.run([Request([1], 1), request])
    with pytest.raises(ValueError, match="empty, which ends every answer"):
        Engine(model, decode=str).run([Request([1], 1, stop=("",))])


def test_memory_for_keys_and_values_is_bounded(
    model: K2Model, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound that holds one of the longest texts: as others become shorter, more are written side by side."""
    shapes: list[tuple[int, int]] = []
    empty = Slots._empty

    def counted(self: Slots, number: int, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
        shapes.append((number, positions))
        return empty(self, number, positions)

    monkeypatch.setattr(Slots, "_empty", counted)
    position = 2 * SMALL.n_layers * SMALL.n_kv_heads * SMALL.head_dim * 4
    bound = 340 * position
    narrow = dict(Engine(model, slots=8, cache_bytes=bound).run(requests))
    assert all(number * positions * position <= bound for number, positions in shapes)
    numbers = [number for number, _ in shapes]
    assert numbers == sorted(numbers)
    assert numbers[0] == 1 < 3 < numbers[-1]
    assert narrow == dict(Engine(model, slots=8).run(requests))
    with pytest.raises(ValueError, match="raise it, cut the model over more workers"):
        list(Engine(model, cache_bytes=100 * position).run(requests))


def test_a_model_of_no_numbers_is_told_and_not_read(model: K2Model) -> None:
    broken = deepcopy(model)
    torch.nn.init.constant_(broken.head.weight, math.nan)
    with pytest.raises(NotFinite, match="its weights, or what it computes of them, are no finite numbers"):
        dict(Engine(broken).run([Request([5, 6, 7], 4, ENDS)]))
