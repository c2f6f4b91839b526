"""Peak memory of the lean forms against the naive ones: loss, attention and a whole model at long context.

Each form runs forward and backward in a process of its own; counted is the peak of its resident memory above what it
held before, inputs and parameters included. fp32 on CPU threads. Time is printed as an aside, not compared.

    python -m benchmarks.memory
"""

import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

VOCABULARY, POSITIONS, HIDDEN = 250_000, 2048, 128
CONTEXT, HEAD_DIM = 32_768, 32
DOCUMENT = 1024  # the whole model's row is packed with documents of this length

COMPARISONS = {
    "loss at vocabulary 250k": ("lean_loss", "whole_logits"),
    "attention at 32k, one document": ("block_attention", "masked_attention"),
    "training step at 32k": ("recomputed_model", "plain_model"),
}
PEERS = {
    "whole_logits": "logits of all positions, then F.cross_entropy",
    "masked_attention": "scaled_dot_product_attention with a boolean mask",
    "plain_model": "the same model without recomputation",
}
Step = Callable[[], None]


def lean_loss() -> Step:
    head, hidden, targets = _head()
    return lambda: head(hidden, targets)[0].backward()


def whole_logits() -> Step:
    from torch.nn import functional as F

    head, hidden, targets = _head()
    return lambda: F.cross_entropy(head(hidden), targets, reduction="sum").backward()


def _head():
    import torch

    from k2model.model.loss import Head
    from k2model.model.parallel import WHOLE

    head = Head(HIDDEN, VOCABULARY, WHOLE)
    torch.nn.init.normal_(head.weight, 0.0, 0.02)
    return head, torch.randn(POSITIONS, HIDDEN, requires_grad=True), torch.randint(0, VOCABULARY, (POSITIONS,))


def block_attention() -> Step:
    import torch

    from k2model.model.attention import BlockAttention

    document, inputs = torch.zeros(1, CONTEXT, dtype=torch.int32), _heads()
    return lambda: BlockAttention.causal(CONTEXT, document)(*inputs).sum().backward()


def masked_attention() -> Step:
    import torch
    from torch.nn import functional as F

    document, inputs = torch.zeros(1, CONTEXT, dtype=torch.int32), _heads()

    def step() -> None:
        visible = torch.ones(CONTEXT, CONTEXT, dtype=torch.bool).tril_()
        visible &= document[0][:, None] == document[0]
        F.scaled_dot_product_attention(*inputs, attn_mask=visible).sum().backward()

    return step


def _heads():
    import torch

    return [
        torch.randn(1, 1, CONTEXT, HEAD_DIM, requires_grad=True) for _ in range(3)
    ]  # one head is enough to wait for


def recomputed_model() -> Step:
    return _model("full")


def plain_model() -> Step:
    return _model("none")


def _model(recompute: str) -> Step:
    import torch

    from k2model.model import K2Model
    from k2model.recipe.schema import ModelConfig, Recompute

    config = ModelConfig(
        vocab_size=1024, hidden_size=128, n_layers=4, n_heads=4, n_kv_heads=2, head_dim=HEAD_DIM, ffn_size=384
    )
    model = K2Model(config, 1e6, CONTEXT, recompute=Recompute(recompute))
    tokens = torch.randint(0, config.vocab_size, (1, CONTEXT))
    document = torch.arange(CONTEXT)[None] // DOCUMENT
    return lambda: model.loss(tokens, tokens.roll(-1, dims=1), document)[0].backward()


def measure(form: str) -> tuple[float, float]:
    """(MB of peak, seconds), in a fresh process."""
    out = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", form],
        check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent,
    ).stdout  # fmt: skip
    peak, seconds = json.loads(out)
    return peak, seconds


def run_form(form: str) -> None:
    """In the process of one form: prints what `measure` reads."""
    step = globals()[form]()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    before, start = pages * resource.getpagesize(), time.perf_counter()
    step()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(json.dumps([peak / 1e6, seconds]))


def main() -> None:
    versions = {"torch": version("torch"), "python": platform.python_version()}
    print(f"{'':32} {'ours MB':>9} {'peer MB':>9} {'ratio':>6}   seconds ours/peer")
    lines = []
    for name, (ours, peer) in COMPARISONS.items():
        (our_peak, our_time), (peer_peak, peer_time) = measure(ours), measure(peer)
        ratio = our_peak / peer_peak
        print(
            f"{name:32} {our_peak:9.0f} {peer_peak:9.0f} {ratio:6.3f}   {our_time:.1f}/{peer_time:.1f}   {PEERS[peer]}"
        )
        lines.append(
            {
                "name": f"memory: {name}",
                "ours": round(our_peak, 1),
                "peer": round(peer_peak, 1),
                "ratio": round(ratio, 4),
                "unit": "MB of peak resident memory",
                "versions": versions,
            }
        )
    for line in lines:
        print(json.dumps(line))


if __name__ == "__main__":
    run_form(sys.argv[1]) if len(sys.argv) > 1 else main()
