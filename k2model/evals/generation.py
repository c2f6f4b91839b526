"""Batched generation with a key-value cache.

Generation is greedy or sampled, in plain torch. Prompts of similar length share a batch, and rows that have finished
leave it, so a few long answers do not cost as much as a batch of them. Beam search and top-p are left out.

Shape suffixes: B rows of a batch, T their longest length, V vocabulary, D hidden.
"""

from collections.abc import Sequence, Set

import torch
from torch import Tensor

from k2model.model.attention import KVCache
from k2model.model.transformer import K2Model

COMPACT_BELOW = 0.75  # share of a batch's rows still generating at which the others are dropped


@torch.no_grad()
def generate(
    model: K2Model,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    stops: Set[int],
    batch_size: int = 128,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[list[int]]:
    """What follows each prompt, in the prompts' order, a stop token included where one was reached.

    Args:
        prompts: token ids, at least one each.
        stops: ids that end a row.
        temperature: 0 picks the likeliest token. Otherwise a token is drawn, from a random stream of
            each prompt's own, so that a result depends neither on batch size nor on the other prompts. The
            streams are the CPU's on every device.

    Raises:
        ValueError: an empty prompt, or prompt and continuation exceed the model's positions.
    """
    if any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("a prompt has no tokens; every prompt needs at least the begin-of-text token")
    by_length = sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), index))
    results: list[list[int]] = [[] for _ in prompts]
    for first in range(0, len(prompts), batch_size):
        indices = by_length[first : first + batch_size]
        choose = _Choice(temperature, seed, indices)
        rows = _generate_batch(model, [prompts[i] for i in indices], max_new_tokens, stops, choose)
        for index, row in zip(indices, rows, strict=True):
            results[index] = row
    return results


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """(tokens [B, longest] int64, right-padded with zeros; lengths [B]), written on the CPU and moved at once."""
    lengths_B = torch.tensor([len(row) for row in rows], device="cpu")
    tokens_BT = torch.zeros(len(rows), int(lengths_B.max()), dtype=torch.int64, device="cpu")
    for row, ids in zip(tokens_BT, rows, strict=True):
        row[: len(ids)] = torch.as_tensor(ids, device="cpu")
    return tokens_BT.to(device), lengths_B.to(device)


class _Choice:
    """Picks the next token of each row; `rows` are indices into the batch's prompts."""

    def __init__(self, temperature: float, seed: int, prompt_indices: Sequence[int]) -> None:
        self.temperature = temperature
        self.streams = [torch.Generator("cpu").manual_seed(seed * 1_000_003 + index) for index in prompt_indices]

    def __call__(self, logits_BV: Tensor, rows: Sequence[int]) -> Tensor:
        if self.temperature == 0.0:
            return logits_BV.argmax(dim=-1)
        weights_BV = (logits_BV.float() / self.temperature).softmax(dim=-1).cpu()
        draws = [
            torch.multinomial(weights_V, 1, generator=self.streams[row])
            for weights_V, row in zip(weights_BV, rows, strict=True)
        ]
        return torch.cat(draws).to(logits_BV.device)


def _generate_batch(
    model: K2Model, prompts: Sequence[Sequence[int]], max_new_tokens: int, stops: Set[int], choose: _Choice
) -> list[list[int]]:
    device = model.device
    tokens_BT, lengths_B = padded(prompts, device)
    cache = KVCache(model.config, len(prompts), tokens_BT.shape[1] + max_new_tokens, model.compute_dtype(), device)
    last_BD = model.hidden(tokens_BT, cache=cache)[torch.arange(len(prompts), device=device), lengths_B - 1]
    cache.set_lengths(lengths_B)
    generated: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))  # the prompt of each row still in the batch
    running = set(rows)
    for step in range(max_new_tokens):
        chosen_B = choose(model.head(last_BD), rows)
        for row, token in zip(rows, chosen_B.tolist(), strict=True):
            if row in running:
                generated[row].append(token)
                if token in stops:
                    running.discard(row)
        if not running or step == max_new_tokens - 1:
            break
        if len(running) <= COMPACT_BELOW * len(rows):
            kept = torch.tensor([place for place, row in enumerate(rows) if row in running], device=device)
            rows = [row for row in rows if row in running]
            cache.keep_rows(kept)
            chosen_B = chosen_B[kept]
        last_BD = model.hidden(chosen_B[:, None], cache=cache)[:, -1]
    return generated
