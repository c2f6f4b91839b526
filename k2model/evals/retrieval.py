"""`retrieval/<length>`: values recalled from a context of that nominal length, by teacher forcing.

All queries of a document stand behind each other with their true values, and one forward pass tells
for each whether the model's likeliest tokens are the value: what greedy generation would say given a
true history. A value of several tokens counts when all are right. Queries of one document share
their context, so the interval over documents times queries is a little too narrow.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from k2model.documents.markup import BOS, Segment, special, text
from k2model.errors import EvaluationError
from k2model.evals.generation import EvaluatedModel, matrix_products, padded
from k2model.evals.scores import Grade, Outcome, Sample, accuracy
from k2model.model.transformer import K2Model

TOKENS_PER_BATCH = 4096


@dataclass(frozen=True)
class Probe:
    """A document with its queries; `spans[q]` is where the value of query q stands among `ids`."""

    ids: list[int]
    queries: list[tuple[str, str]]
    spans: list[range]


def recall(evaluated: EvaluatedModel, score: str, length: int) -> Outcome:
    """`score` at a context of `length` tokens. Raises EvaluationError when the corpus has no items of this length."""
    samples = []
    for batch in _batches(probes(evaluated, length)):
        with matrix_products(evaluated.model):
            written = likeliest_values(evaluated.model, batch)
        for probe, values in zip(batch, written, strict=True):
            for (key, value), span, ids in zip(probe.queries, probe.spans, values, strict=True):
                right = ids == probe.ids[span.start : span.stop]
                grade = Grade.RIGHT if right else Grade.WRONG
                samples.append(Sample(score, f"… ? {key}", evaluated.tokenizer.decode(ids), f" {value}", grade))
    return Outcome([accuracy(evaluated.phase, samples)], samples)


def probes(evaluated: EvaluatedModel, length: int) -> list[Probe]:
    """The first `retrieval_documents` items of this length in tokens, each with `retrieval_queries` queries.

    Raises EvaluationError when the corpus has none.
    """
    items = evaluated.all_items("retrieval")
    wanted = [item for item in items if item["context"] == length][: evaluated.config.retrieval_documents]
    if not wanted:
        found = sorted({item["context"] for item in items})
        raise EvaluationError(
            f"{evaluated.corpus}/items/retrieval.parquet has no items of context {length}, only of {found}; "
            f"add a source with context={length} to the recipe's corpus"
        )
    made = []
    for item in wanted:
        queries = [(key, value) for key, value in json.loads(item["meta"])["queries"]]
        made.append(_probe(evaluated, item["prompt"], queries[: evaluated.config.retrieval_queries]))
    return made


@torch.no_grad()
def likeliest_values(model: K2Model, batch: Sequence[Probe]) -> list[list[list[int]]]:
    """Per document and query the likeliest tokens at the places of the value."""
    tokens_BT, _ = padded([probe.ids for probe in batch], model.device)
    hidden_BTD = model.hidden(tokens_BT)
    written = []
    for row, probe in enumerate(batch):
        before = torch.tensor([place - 1 for span in probe.spans for place in span], device=model.device)
        ids = model.head(hidden_BTD[row, before]).argmax(dim=-1)
        written.append([part.tolist() for part in ids.split([len(span) for span in probe.spans])])
    return written


def _probe(evaluated: EvaluatedModel, context: str, queries: list[tuple[str, str]]) -> Probe:
    segments: list[Segment] = [special(BOS), text(context)]
    for key, value in queries:
        segments += [text(f"? {key}"), text(f" {value}", loss_mask=True)]
    ids, loss_mask = evaluated.tokenizer.encode_segments(segments)
    return Probe(ids, queries, list(_runs(loss_mask)))


def _runs(marks: Sequence[bool]) -> Iterator[range]:
    """The stretches of consecutive True."""
    start = None
    for place, mark in enumerate([*marks, False]):
        if mark and start is None:
            start = place
        elif not mark and start is not None:
            yield range(start, place)
            start = None


def _batches(made: Sequence[Probe]) -> Iterator[list[Probe]]:
    size = max(1, TOKENS_PER_BATCH // max(len(probe.ids) for probe in made))
    for first in range(0, len(made), size):
        yield list(made[first : first + size])
