"""Tokens a second written for requests of mixed length: ours, transformers' `generate`, its continuous batching.

One random model, the same weights on both sides; prompts of 16 to 256 tokens, answers of 16 to 384, both log-uniform,
independent of each other: an evaluation that reasons writes more than it reads. 32 at a time, since evaluation takes
as many by itself, and 64 of them, so that slots are filled again. All three write greedily and have the same threads.

* ours: `k2model.generation.Engine`, built within the time, `--batch` slots.
* generate: batches of `--batch` prompts in the order in which they come, left padded. Each row ends at its own length
  (a `StoppingCriteria` by row, which costs what an end token costs), the batch with its longest.
* continuous: `ContinuousBatchingManager`, as `generate_batch` runs it but for a length of its own per request. Blocks
  of 32 positions, enough for `--batch` of the longest, and 512 tokens a step: what it takes by itself on a CPU (blocks
  for nearly all of the memory, which its attention reads) is some thirty times slower.

The three take turns, and a ratio is the median of those within a round. In fp32 the tokens must be equal, but where the
two likeliest tokens are within `TIE` nats; there a request's remainder counts as not compared, and is told. In bf16,
transformers' whole model is bf16, ours its matrix products; how many requests got equal tokens is told.

    python -m benchmarks.generation [--model laptop|50M|135M] [--precision fp32 bf16] [--peers generate continuous]
        [--requests 64] [--batch 32] [--rounds 3]
    python -m benchmarks.generation --tiny    # every part once on a few short requests: whether it runs, not how fast
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch

from k2model.export.hugging_face import llama_config, to_llama
from k2model.generation import Engine, Request
from k2model.model import K2Model
from k2model.recipe.laptop import laptop
from k2model.recipe.schema import ModelConfig

TIE = 1e-3
POSITIONS = 640
MODELS = {
    "laptop": replace(laptop().model, init_std=0.2),  # wide, as all here: logits that differ, so few ties
    "50M": ModelConfig(
        vocab_size=16_384, hidden_size=512, n_layers=12, n_heads=8, n_kv_heads=2, head_dim=64, ffn_size=1_408,
        init_std=0.05,
    ),
    "135M": ModelConfig(  # SmolLM2's, its embedding and head untied
        vocab_size=49_152, hidden_size=576, n_layers=30, n_heads=9, n_kv_heads=3, head_dim=64, ffn_size=1_536,
        init_std=0.05,
    ),
}  # fmt: skip
TINY = ModelConfig(
    vocab_size=512, hidden_size=64, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=16, ffn_size=128, init_std=0.2
)
PEERS = ("generate", "continuous")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Work:
    prompts: list[list[int]]
    lengths: list[int]  # of answers
    batch: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="50M")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="few and short requests to a tiny model, one round")
    options = parser.parse_args()
    if options.tiny:
        options.requests, options.batch, options.rounds = 6, 4, 1
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(0)
    model = K2Model(TINY if options.tiny else MODELS[options.model], 1e4, POSITIONS).eval()
    longest = (32, 24) if options.tiny else (256, 384)
    work = mixed(options.requests, options.batch, model.config.vocab_size, *longest)
    print(
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f}M parameters, {torch.get_num_threads()} threads, "
        f"{options.requests} requests, {options.batch} at a time: prompts {told(map(len, work.prompts))}, "
        f"answers {told(work.lengths)} tokens"
    )
    for precision in options.precision:
        compare(model, work, precision, options.peers, options.rounds)


def mixed(requests: int, batch: int, vocabulary: int, longest_prompt: int, longest_answer: int) -> Work:
    draw = torch.Generator().manual_seed(1)

    def log_uniform(low: int, high: int) -> list[int]:
        return (low * (high / low) ** torch.rand(requests, generator=draw)).round().int().tolist()

    lengths = log_uniform(16, longest_prompt)
    prompts = [torch.randint(0, vocabulary, (length,), generator=draw).tolist() for length in lengths]
    return Work(prompts, log_uniform(16, longest_answer), batch)


def told(numbers: Any) -> str:
    numbers = sorted(numbers)
    return f"{numbers[0]} to {numbers[-1]}, median {median(numbers):.0f}, sum {sum(numbers)}"


def compare(model: K2Model, work: Work, precision: str, peers: Sequence[str], rounds: int) -> None:
    dtype = PRECISIONS[precision]
    peer = as_transformers(model).to(dtype)
    sides: dict[str, Callable[[], list[list[int]]]] = {
        "ours": lambda: ours(model, work, dtype),
        "generate": lambda: generate(peer, work),
        "continuous": lambda: continuous(peer, work),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    busy: dict[str, list[float]] = {name: [] for name in sides}  # of the process: what else runs here does not count
    written: dict[str, list[list[int]]] = {}
    for _ in range(rounds):
        for name in ("ours", *peers):
            began, worked = time.perf_counter(), time.process_time()
            written[name] = sides[name]()
            seconds[name].append(time.perf_counter() - began)
            busy[name].append(time.process_time() - worked)
            assert [len(tokens) for tokens in written[name]] == work.lengths, f"{name} wrote another number of tokens"
    total = sum(work.lengths)
    for name in peers:
        check(model, work, written["ours"], written[name], name, precision)
        ratio, of_busy = (
            median(theirs / own for own, theirs in zip(spent["ours"], spent[name], strict=True))
            for spent in (seconds, busy)
        )
        print(f"CPU seconds: ours {median(busy['ours']):.1f}, {name} {median(busy[name]):.1f}, ratio {of_busy:.2f}")
        row = {
            "name": f"generation_{name}_{precision}",
            "ours": round(total / median(seconds["ours"]), 1),
            "peer": round(total / median(seconds[name]), 1),
            "ratio": round(ratio, 2),
            "unit": "tokens/s",
            "versions": versions(),
        }
        print(json.dumps(row), flush=True)


def as_transformers(model: K2Model) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    ids = {"bos": None, "eos": None, "pad": 0}
    peer = LlamaForCausalLM(LlamaConfig(**llama_config(model.config, model.rope_theta, POSITIONS, ids)))
    peer.load_state_dict(to_llama(model.state_dict(), model.config))
    return peer.eval()


def ours(model: K2Model, work: Work, precision: torch.dtype) -> list[list[int]]:
    requests = [Request(prompt, length) for prompt, length in zip(work.prompts, work.lengths, strict=True)]
    found = dict(Engine(model, precision, work.batch).run(requests))
    return [found[index].tokens for index in range(len(requests))]


def generate(peer: Any, work: Work) -> list[list[int]]:
    from transformers import StoppingCriteria, StoppingCriteriaList

    class OwnLength(StoppingCriteria):
        def __init__(self, ends: torch.Tensor) -> None:
            self.ends = ends

        def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> Any:
            return self.ends <= input_ids.shape[1]

    found = []
    for first in range(0, len(work.prompts), work.batch):
        prompts, lengths = (x[first : first + work.batch] for x in (work.prompts, work.lengths))
        longest = max(map(len, prompts))
        padding = [longest - len(prompt) for prompt in prompts]
        inputs = torch.tensor([[0] * n + prompt for n, prompt in zip(padding, prompts, strict=True)])
        mask = torch.arange(longest)[None] >= torch.tensor(padding)[:, None]
        ends = OwnLength(longest + torch.tensor(lengths))
        out = peer.generate(
            inputs, attention_mask=mask.long(), max_new_tokens=max(lengths), do_sample=False,
            stopping_criteria=StoppingCriteriaList([ends]),
        )  # fmt: skip
        found += [row[longest : longest + n].tolist() for row, n in zip(out, lengths, strict=True)]
    return found


def continuous(peer: Any, work: Work) -> list[list[int]]:
    from transformers import ContinuousBatchingConfig, GenerationConfig

    blocks = work.batch * -(-(max(map(len, work.prompts)) + max(work.lengths)) // 32)
    config = ContinuousBatchingConfig(
        max_requests_per_batch=work.batch, block_size=32, num_blocks=blocks, max_batch_tokens=512
    )
    own = GenerationConfig(do_sample=False, max_new_tokens=max(work.lengths), eos_token_id=-1)
    found: dict[str, list[int]] = {}
    with peer.continuous_batching_context_manager(
        generation_config=own, continuous_batching_config=config, block=True, timeout=5
    ) as manager:
        asked = zip(work.prompts, work.lengths, strict=True)
        names = [manager.add_request(prompt, max_new_tokens=length) for prompt, length in asked]
        while len(found) < len(names):
            result = manager.get_result(timeout=1)
            if result is not None and result.is_finished():
                found[result.request_id] = result.generated_tokens
            assert result is not None or manager.is_running(), "transformers' continuous batching has ended by itself"
    return [found[name] for name in names]


def check(
    model: K2Model, work: Work, own: Sequence[list[int]], theirs: Sequence[list[int]], name: str, precision: str
) -> None:
    """Equal tokens, but behind a tie. Raises AssertionError in fp32."""
    differ = [i for i, (a, b) in enumerate(zip(own, theirs, strict=True)) if a != b]
    ties, compared = [], sum(work.lengths)
    for i in differ:
        at = next(place for place, (a, b) in enumerate(zip(own[i], theirs[i], strict=True)) if a != b)
        compared -= len(own[i]) - at
        with torch.no_grad():
            logits = model(torch.tensor([work.prompts[i] + own[i][:at]]))[0, -1]
        ties.append(float(abs(logits[own[i][at]] - logits[theirs[i][at]])))
    told_ties = f"; the others' first difference is between tokens up to {max(ties):.1e} nats apart" if ties else ""
    print(f"{name}, {precision}: {len(own) - len(differ)} of {len(own)} requests have equal tokens{told_ties}; "
          f"{compared} of {sum(work.lengths)} tokens compared")  # fmt: skip
    assert precision != "fp32" or max(ties, default=0.0) < TIE, "the two sides do not write the same"


def versions() -> dict[str, str]:
    import transformers

    return {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}


if __name__ == "__main__":
    main()
