"""`loss/<domain>`: nats per target on held-out documents, up to `loss_tokens` tokens a domain.

Every phase reads the same documents, in windows of the length it trains with: windows overlap by one
token so that each target is predicted once, with as much context as the phase can use. A domain's
tokens are shared evenly among its sources.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from k2model.evals.errors import EvaluationError
from k2model.evals.generation import padded
from k2model.evals.outcome import Outcome, loss
from k2model.evals.subject import Subject, matrix_products
from k2model.model.loss import IGNORED
from k2model.model.transformer import K2Model
from k2model.tokens.shards import open_shard

TOKENS_PER_BATCH = 4096


class Window(NamedTuple):
    """A part of a document: its ids and which of them are targets, the first never."""

    document: int
    ids: list[int]
    targets: list[bool]


def heldout_loss(subject: Subject, domain: str, sources: Sequence[str]) -> Outcome:
    """The loss of one domain. Raises EvaluationError when its sources hold nothing out."""
    documents = [document for source in sources for document in _documents(subject, source, len(sources))]
    if not any(any(targets[1:]) for _, targets in documents):
        raise EvaluationError(
            f"{subject.tokens}/heldout has no targets in domain '{domain}' (sources {', '.join(sources)}); "
            "raise `documents` of these sources in the recipe's corpus"
        )
    parts = [w for i, (ids, targets) in enumerate(documents) for w in windows(i, ids, targets, subject.window)]
    with matrix_products():
        nats, counts = window_losses(subject.model, parts, len(documents))
    scored = [(n, c) for n, c in zip(nats, counts, strict=True) if c]
    return Outcome([loss(subject.phase, f"loss/{domain}", [n for n, _ in scored], [c for _, c in scored])])


def windows(document: int, ids: Sequence[int], targets: Sequence[bool], length: int) -> Iterator[Window]:
    """Parts of at most `length` tokens, each starting with the last token of the one before."""
    for first in range(0, max(1, len(ids) - 1), length - 1):
        part = slice(first, first + length)
        marks = [False, *targets[part][1:]]
        if any(marks):
            yield Window(document, list(ids[part]), marks)


@torch.no_grad()
def window_losses(model: K2Model, parts: Sequence[Window], documents: int) -> tuple[list[float], list[int]]:
    """Per document the sum of nats over its targets, and their number. Only targets reach the head."""
    nats, counts = np.zeros(documents), np.zeros(documents, dtype=np.int64)
    for batch in _batches(parts):
        tokens_BT, _ = padded([window.ids for window in batch])
        marks_BT, _ = padded([window.targets for window in batch])
        places = marks_BT[:, 1:].nonzero(as_tuple=True)
        logits_NV = model.head(model.hidden(tokens_BT)[:, :-1][places]).float()
        each_N = F.cross_entropy(logits_NV, tokens_BT[:, 1:][places], ignore_index=IGNORED, reduction="none")
        owners_N = np.array([window.document for window in batch])[places[0].numpy()]
        np.add.at(nats, owners_N, each_N.double().numpy())
        np.add.at(counts, owners_N, 1)
    return nats.tolist(), counts.tolist()


def _documents(subject: Subject, source: str, n_sources: int) -> Iterator[tuple[list[int], list[bool]]]:
    """Ids and targets of held-out documents in a fixed random order, the last cut to the source's share."""
    shard = open_shard(subject.tokens, "heldout", source)
    room = subject.config.loss_tokens // n_sources
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
