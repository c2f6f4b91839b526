"""Model-FLOPs utilisation: arithmetic the model needs, over what this machine was measured to do.

The peak is measured where training runs and while it would run (all workers at once), since data sheets
know neither a shared machine nor a clock under load. What recomputation adds is not counted, as usual.
"""

import time
from functools import cache

from k2model.model import count_parameters
from k2model.recipe.schema import ModelConfig, Precision

SIZE = {"cpu": 1024, "cuda": 8192}  # of square matrices: well inside a CPU's cache, large enough to fill a GPU
ROUNDS = 2


def step_flops(model: ModelConfig, tokens: int, attended: int) -> int:
    """Forward and backward operations of a step: 6 N tokens + 12 L H E attended.

    As `k2model.model.training_flops_per_token` (PaLM, arXiv:2204.02311, appendix B), but with the pairs of
    positions that documents really have: `attended` is the sum of their squared lengths.
    """
    multiplied = count_parameters(model) - model.vocab_size * model.hidden_size
    return 6 * multiplied * tokens + 12 * model.n_layers * model.n_heads * model.head_dim * attended


@cache
def measured_peak(precision: Precision) -> float:
    """Matrix-product FLOP/s of this worker's device, the best of a few products; under 0.1 s on a CPU.

    In the type that a phase of `precision` multiplies in: fp32 where torch has no kernel for bf16 (see
    `k2model.model.products`).
    """
    import torch

    from k2model.model.products import multiplies_bf16

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = SIZE[device]
    bf16 = precision is Precision.BF16 and multiplies_bf16(device)
    left = torch.randn(size, size, device=device).to(torch.bfloat16 if bf16 else torch.float32)
    best = float("inf")
    for _ in range(ROUNDS + 1):  # the first one warms up
        began = time.perf_counter()
        left @ left
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
