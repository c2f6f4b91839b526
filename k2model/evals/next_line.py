"""`code/next_line`: which of four lines comes next, by likelihood.

The lines are compared by their mean log-probability per byte, so that neither a line's length nor
how the tokenizer cuts it decides. Prompt and line are encoded as one text, as in training; tokens
that all four encodings share (the prompt and the common indentation) are conditioned on, not scored.
"""

from collections.abc import Sequence
from itertools import takewhile

import torch
from torch import Tensor

from k2model.corpus.markup import joined, plain_prompt
from k2model.evals.generation import padded
from k2model.evals.outcome import Outcome, Sample, accuracy
from k2model.evals.subject import Subject, matrix_products
from k2model.model.cache import KVCache
from k2model.model.transformer import K2Model

SCORE = "code/next_line"


def pick_next_lines(subject: Subject) -> Outcome:
    """One row, and a sample per item whose generation is the line the model picked."""
    from k2model.corpus.families.next_line import CHOICES, choices_of

    samples = []
    items = sorted(subject.items("code"), key=lambda item: (len(item["prompt"]), item["id"]))
    step = max(1, subject.config.batch_size // CHOICES)
    for first in range(0, len(items), step):
        batch = items[first : first + step]
        choices = [choices_of(item) for item in batch]
        encoded = [
            [subject.words.encode_segments(plain_prompt(f"{item['prompt']}{line}\n"))[0] for line in lines]
            for item, (lines, _) in zip(batch, choices, strict=True)
        ]
        with matrix_products():
            scores = tail_log_probabilities(subject.model, encoded)
        for item, (lines, true), nats in zip(batch, choices, scores, strict=True):
            picked = max(range(len(lines)), key=lambda i: nats[i] / len(lines[i].encode()))
            prompt = joined(plain_prompt(item["prompt"]))
            samples.append(Sample(SCORE, prompt, lines[picked], item["answer"], picked == true))
    return Outcome([accuracy(subject.phase, samples, chance=1 / CHOICES)], samples)


@torch.no_grad()
def tail_log_probabilities(model: K2Model, items: Sequence[Sequence[Sequence[int]]]) -> list[list[float]]:
    """Per item and choice the log-probability of what follows the choices' common beginning.

    `items[i][c]` are the ids of choice c with everything before it. The common beginning is read
    once and its cache repeated for each choice.
    """
    heads = [common_prefix(choices) for choices in items]
    tails = [list(ids[len(head) :]) for head, choices in zip(heads, items, strict=True) for ids in choices]
    owners_C = torch.tensor([i for i, choices in enumerate(items) for _ in choices])
    head_BT, head_lengths_B = padded(heads)
    tail_CT, tail_lengths_C = padded(tails)
    cache = KVCache(model.config, len(items), head_BT.shape[1] + tail_CT.shape[1], model.compute_dtype())
    last_BD = model.hidden(head_BT, cache=cache)[torch.arange(len(items)), head_lengths_B - 1]
    cache.set_lengths(head_lengths_B)
    cache.keep_rows(owners_C)
    # The token at place t is predicted from the one before; the first from the end of the beginning.
    before_CTD = torch.cat((last_BD[owners_C][:, None], model.hidden(tail_CT[:, :-1], cache=cache)), dim=1)
    totals_C = _sum_log_probabilities(model.head(before_CTD), tail_CT, tail_lengths_C)
    sizes = [len(choices) for choices in items]
    return [part.tolist() for part in totals_C.split(sizes)]


def common_prefix(choices: Sequence[Sequence[int]]) -> list[int]:
    """The ids with which all choices begin, short of the last token of the shortest."""
    columns = zip(*(ids[: min(map(len, choices)) - 1] for ids in choices), strict=True)
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]


def _sum_log_probabilities(logits_CTV: Tensor, tokens_CT: Tensor, lengths_C: Tensor) -> Tensor:
    log_CT = logits_CTV.float().log_softmax(dim=-1).gather(-1, tokens_CT[:, :, None])[:, :, 0]
    real_CT = torch.arange(tokens_CT.shape[1]) < lengths_C[:, None]
    return torch.where(real_CT, log_CT, 0.0).sum(dim=1, dtype=torch.float64)
