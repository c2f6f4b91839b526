"""A random model, and requests that differ in everything they can."""

import pytest
import torch

from k2model.generation import Request
from k2model.model.transformer import K2Model
from tests.model.conftest import random_model

ENDS = frozenset({5, 9, 13})


@pytest.fixture(scope="session")
def model() -> K2Model:
    return random_model(positions=400, seed=6)


@pytest.fixture(scope="session")
def prompts() -> list[list[int]]:
    """34 of 1 to 300 tokens, some longer than a chunk."""
    draw = torch.Generator().manual_seed(4)
    lengths = [1, 128, 129, 300, *torch.randint(1, 60, (30,), generator=draw).tolist()]
    return [torch.randint(0, 97, (length,), generator=draw).tolist() for length in lengths]


@pytest.fixture(scope="session")
def requests(prompts: list[list[int]]) -> list[Request]:
    """Greedy and drawn, with and without a nucleus, some with a trace and a budget for it."""
    return [
        Request(
            prompt,
            max_new_tokens=8 + 5 * (number % 7),
            ends=ENDS,
            temperature=0.7 * (number % 3 == 1) + 1.5 * (number % 3 == 2),
            top_p=0.8 if number % 2 else 1.0,
            seed=number,
            closing=2 if number % 4 == 0 else None,
            thinking_budget=6 if number % 8 == 0 else None,
        )
        for number, prompt in enumerate(prompts)
    ]
