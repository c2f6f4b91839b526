"""Scores by likelihood: `loss/<domain>` on held-out documents, and the likeliest of an item's choices.

Losses: every phase reads the same documents, up to `loss_tokens` tokens a domain shared evenly among its sources, in
windows of the length it trains with. Windows overlap by one token so that each target is predicted once, with as much
context as the phase can use.

Choices (the next line of code, those of a benchmark) are compared by their mean log-probability per byte, so that
neither a choice's length nor how the tokenizer cuts it decides. Prompt and choice are encoded as one text, as in
training; tokens that all encodings share (the prompt and a common indentation) are conditioned on, not scored.

Shape suffixes: B windows or items of a batch, T their longest length, N targets, C choices, V vocabulary, D hidden.
"""

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from k2model.documents.markup import Segment, joined, plain_prompt
from k2model.documents.schema import choices_of
from k2model.errors import EvaluationError
from k2model.evals.checks import chance
from k2model.evals.generation import EvaluatedModel, matrix_products, padded
from k2model.evals.questions import gap, prompt_of
from k2model.evals.scores import Grade, Outcome, Sample, accuracy, loss
from k2model.model.attention import KVCache
from k2model.model.loss import IGNORED
from k2model.model.transformer import K2Model
from k2model.recipe.tasks import LOSS, Task
from k2model.tokens.shards import open_shard

if TYPE_CHECKING:
    from k2model.documents.schema import Item

TOKENS_PER_BATCH = 4096


class Window(NamedTuple):
    """A part of a document: its ids and which of them are targets, the first never."""

    document: int
    ids: list[int]
    targets: list[bool]


def heldout_loss(evaluated: EvaluatedModel, domain: str, sources: Sequence[str]) -> Outcome:
    """The loss of one domain in nats per target. Raises EvaluationError when its sources hold nothing out."""
    documents = [document for source in sources for document in _documents(evaluated, source, len(sources))]
    if not any(any(targets[1:]) for _, targets in documents):
        raise EvaluationError(
            f"{evaluated.tokens}/heldout has no targets in domain '{domain}' (sources {', '.join(sources)}); "
            "raise `documents` of these sources in the recipe's corpus"
        )
    parts = [w for i, (ids, targets) in enumerate(documents) for w in windows(i, ids, targets, evaluated.window)]
    with matrix_products(evaluated.model):
        nats, counts = window_losses(evaluated.model, parts, len(documents))
    scored = [(n, c) for n, c in zip(nats, counts, strict=True) if c]
    return Outcome([loss(evaluated.phase, f"{LOSS}/{domain}", [n for n, _ in scored], [c for _, c in scored])])


def windows(document: int, ids: Sequence[int], targets: Sequence[bool], length: int) -> Iterator[Window]:
    """Parts of at most `length` tokens, each starting with the last token of the one before."""
    for first in range(0, max(1, len(ids) - 1), length - 1):
        part = slice(first, first + length)
        marks = [False, *targets[part][1:]]
        if any(marks):
            yield Window(document, list(ids[part]), marks)


@torch.no_grad()
def window_losses(model: K2Model, parts: Sequence[Window], documents: int) -> tuple[list[float], list[int]]:
    """Per document the sum of nats (fp64) over its targets, and their number. Only targets reach the head.

    `documents`: how many there are; `Window.document` is below it.
    """
    nats, counts = np.zeros(documents), np.zeros(documents, dtype=np.int64)
    for batch in _batches(parts):
        tokens_BT, _ = padded([window.ids for window in batch], model.device)
        marks_BT, _ = padded([window.targets for window in batch], model.device)
        places = marks_BT[:, 1:].nonzero(as_tuple=True)
        logits_NV = model.head(model.hidden(tokens_BT)[:, :-1][places]).float()
        each_N = F.cross_entropy(logits_NV, tokens_BT[:, 1:][places], ignore_index=IGNORED, reduction="none")
        owners_N = np.array([window.document for window in batch])[places[0].cpu().numpy()]
        np.add.at(nats, owners_N, each_N.cpu().double().numpy())
        np.add.at(counts, owners_N, 1)
    return nats.tolist(), counts.tolist()


def _documents(evaluated: EvaluatedModel, source: str, n_sources: int) -> Iterator[tuple[list[int], list[bool]]]:
    """Ids and targets of held-out documents in a fixed random order, the last cut to the source's share."""
    shard = open_shard(evaluated.tokens, "heldout", source)
    room = evaluated.config.loss_tokens // n_sources
    for index in np.random.default_rng(0).permutation(len(shard)).tolist():
        tokens, targets = shard.document(index)
        yield tokens[:room].tolist(), targets[:room].tolist()
        room -= len(tokens)
        if room <= 0:
            return


def _batches(parts: Sequence[Window]) -> Iterator[list[Window]]:
    """Windows of similar length together, at most TOKENS_PER_BATCH tokens with their padding."""
    batch: list[Window] = []
    for window in sorted(parts, key=lambda w: (-len(w.ids), w.document)):
        if batch and (len(batch) + 1) * len(batch[0].ids) > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def pick_choices(evaluated: EvaluatedModel, task: Task) -> Outcome:
    """One row, and a sample per item whose generation is the choice the model picked.

    Raises EvaluationError when there are no items.
    """
    (score,) = task.scores
    items = sorted(evaluated.asked(task), key=lambda item: (len(item["prompt"]), item["id"]))
    candidates = [_candidates(evaluated, task, item) for item in items]
    samples: list[Sample] = []
    for batch in _that_fit_together(evaluated, candidates):
        picked: list[int | None] = [None] * len(batch)
        if batch[0].head + batch[0].tail <= evaluated.model.max_positions:
            with matrix_products(evaluated.model):
                nats = tail_log_probabilities(evaluated.model, [one.encoded for one in batch])
            picked = [one.likeliest(own) for one, own in zip(batch, nats, strict=True)]
        for one, chosen in zip(batch, picked, strict=True):
            choices, right = choices_of(one.item)
            grade = Grade.TOO_LONG if chosen is None else Grade.RIGHT if chosen == right else Grade.WRONG
            said = "" if chosen is None else choices[chosen]
            samples.append(Sample(score, joined(one.prompt), said, one.item["answer"], grade))
    group = task.benchmark.group if task.benchmark else None
    return Outcome([accuracy(evaluated.phase, samples, chance=chance(task, items), group=group)], samples)


class _Candidates(NamedTuple):
    """An item with the ids of its prompt and each choice together: `head` of them shared, at most `tail` of its own."""

    item: "Item"
    prompt: list[Segment]
    encoded: list[list[int]]
    head: int
    tail: int

    def likeliest(self, nats: Sequence[float]) -> int:
        """The index of the choice with the largest mean log-probability per byte."""
        choices, _ = choices_of(self.item)
        return max(range(len(choices)), key=lambda i: nats[i] / len(choices[i].encode()))


def _candidates(evaluated: EvaluatedModel, task: Task, item: "Item") -> _Candidates:
    """A family's choices are lines, those of a benchmark follow as an answer in a text does."""
    prompt = prompt_of(evaluated, task, item)
    before = str(prompt[-1]["text"])
    texts = [f"{gap(before)}{one}" if task.benchmark else f"{one}\n" for one in choices_of(item)[0]]
    encoded = [evaluated.tokenizer.encode_segments(plain_prompt(before + text))[0] for text in texts]
    head = len(common_prefix(encoded))
    return _Candidates(item, prompt, encoded, head, max(map(len, encoded)) - head)


def _that_fit_together(evaluated: EvaluatedModel, candidates: Sequence[_Candidates]) -> Iterator[list[_Candidates]]:
    """Batches of as many choices as the config says, in order; an item that the model has no room for is one alone."""
    size = max(1, evaluated.config.batch_size // max(len(one.encoded) for one in candidates))
    positions = evaluated.model.max_positions
    batch: list[_Candidates] = []
    for one in candidates:
        several = [*batch, one]
        padded_to = max(each.head for each in several) + max(each.tail for each in several)
        if batch and (len(batch) == size or padded_to > positions):
            yield batch
            batch = []
        batch.append(one)
    yield batch


@torch.no_grad()
def tail_log_probabilities(model: K2Model, items: Sequence[Sequence[Sequence[int]]]) -> list[list[float]]:
    """Per item and choice the log-probability (nats, fp64) of what follows the choices' common beginning.

    `items[i][c]` are the ids of choice c with everything before it. The common beginning is read
    once and its cache repeated for each choice.
    """
    heads = [common_prefix(choices) for choices in items]
    tails = [list(ids[len(head) :]) for head, choices in zip(heads, items, strict=True) for ids in choices]
    device = model.device
    owners_C = torch.tensor([i for i, choices in enumerate(items) for _ in choices], device=device)
    head_BT, head_lengths_B = padded(heads, device)
    tail_CT, tail_lengths_C = padded(tails, device)
    cache = KVCache(model.config, len(items), head_BT.shape[1] + tail_CT.shape[1], model.compute_dtype(), device)
    last_BD = model.hidden(head_BT, cache=cache)[torch.arange(len(items), device=device), head_lengths_B - 1]
    cache.set_lengths(head_lengths_B)
    cache.keep_rows(owners_C)
    # The token at place t is predicted from the one before; the first from the end of the beginning.
    before_CTD = last_BD[owners_C][:, None]
    if tail_CT.shape[1] > 1:  # not where every choice is one token, as letters are
        before_CTD = torch.cat((before_CTD, model.hidden(tail_CT[:, :-1], cache=cache)), dim=1)
    totals_C = _sum_log_probabilities(model.head(before_CTD), tail_CT, tail_lengths_C)
    sizes = [len(choices) for choices in items]
    return [part.tolist() for part in totals_C.split(sizes)]


def common_prefix(choices: Sequence[Sequence[int]]) -> list[int]:
    """The ids with which all choices begin, short of the last token of the shortest."""
    columns = zip(*(ids[: min(map(len, choices)) - 1] for ids in choices), strict=True)
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]


def _sum_log_probabilities(logits_CTV: Tensor, tokens_CT: Tensor, lengths_C: Tensor) -> Tensor:
    log_CT = logits_CTV.float().log_softmax(dim=-1).gather(-1, tokens_CT[:, :, None])[:, :, 0]
    real_CT = torch.arange(tokens_CT.shape[1], device=tokens_CT.device) < lengths_C[:, None]
    return torch.where(real_CT, log_CT, 0.0).sum(dim=1, dtype=torch.float64)
