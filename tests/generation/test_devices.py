"""Nothing is made on another device than the model's: on a device that is pretended, and where none is named.

That results there are the CPU's is shown with evaluation (tests/evals/test_devices.py).
"""

import torch

from k2model.generation import Engine, Request
from k2model.model.transformer import K2Model


def test_what_names_no_device_is_not_mixed_in(model: K2Model, requests: list[Request]) -> None:
    expected = dict(Engine(model, slots=8).run(requests[:10]))
    with torch.device("meta"):
        engine = Engine(model, slots=8)
        found = dict(engine.run(requests[:10]))
        scores = engine.score([([1, 2], [3]), ([1, 2], [4, 5])])
    assert found == expected
    assert [len(score.greedy) for score in scores] == [1, 2]
