"""Generation against Hugging Face's, one prompt at a time."""

from pathlib import Path

import pytest
import torch

from k2model.evals.generation import generate
from k2model.export.step import write_export
from k2model.model.transformer import K2Model
from k2model.recipe.laptop import laptop
from k2model.training.checkpoint import InMemory
from tests.model.conftest import SMALL, byte_tokenizer, random_model

STOPS = {5, 9, 13}


@pytest.fixture(scope="module")
def model() -> K2Model:
    return random_model(positions=128, seed=6)


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    lengths = torch.randint(1, 30, (17,), generator=torch.Generator().manual_seed(4)).tolist()
    return [torch.randint(0, 97, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in lengths]


def test_greedy_equals_hugging_face(model: K2Model, prompts: list[list[int]], tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    phase = laptop().phase("pretrain")
    (tmp_path / "tokenizer").mkdir()
    write_export(tmp_path, InMemory(model.state_dict()), SMALL, phase, byte_tokenizer(tmp_path / "tokenizer"))
    reference = LlamaForCausalLM.from_pretrained(tmp_path)
    ours = generate(model, prompts, 24, STOPS, batch_size=6)
    for prompt, written in zip(prompts[:8], ours, strict=False):
        out = reference.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=24,
            do_sample=False,
            eos_token_id=sorted(STOPS),
        )
        assert written == out[0, len(prompt) :].tolist()
    assert len({len(written) for written in ours[:8]}) > 2  # rows did stop at different places


def test_every_batch_size_gives_the_same(model: K2Model, prompts: list[list[int]]) -> None:
    alone = generate(model, prompts, 25, STOPS, batch_size=1)
    assert generate(model, prompts, 25, STOPS, batch_size=64) == alone
    assert [len(row) <= 25 for row in alone] == [True] * len(prompts)


def test_sampling_is_a_function_of_the_seed_alone(model: K2Model, prompts: list[list[int]]) -> None:
    drawn = generate(model, prompts, 12, STOPS, batch_size=64, temperature=1.0, seed=1)
    assert generate(model, prompts, 12, STOPS, batch_size=1, temperature=1.0, seed=1) == drawn
    assert generate(model, prompts, 12, STOPS, batch_size=64, temperature=1.0, seed=2) != drawn
    assert generate(model, prompts, 12, STOPS, temperature=1e-4, seed=3) == generate(model, prompts, 12, STOPS)


def test_sampling_follows_the_distribution(model: K2Model) -> None:
    drawn = generate(model, [[1, 2, 3]] * 3000, 1, set(), batch_size=3000, temperature=2.0)
    with torch.no_grad():
        expected = (model(torch.tensor([[1, 2, 3]]))[0, -1] / 2.0).softmax(-1)
    share = torch.bincount(torch.tensor(drawn)[:, 0], minlength=97) / 3000
    assert (share - expected).abs().max() < 5 * 0.5 / 3000**0.5


def test_impossible_requests_are_refused(model: K2Model) -> None:
    with pytest.raises(ValueError, match="a prompt has no tokens"):
        generate(model, [[1], []], 4, STOPS)
    with pytest.raises(ValueError, match="positions asked of a model built for 128"):
        generate(model, [[1] * 120], 40, set())
