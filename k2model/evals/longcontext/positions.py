"""The loss by position: what a model gains from what is far back, and where its context ends.

Of every text that is long enough the tokens in [0, 128), [128, 256), [256, 512) ... are predicted with all that stands
before them. A model that reads its whole context gets better from bucket to bucket; behind the length it was trained at
the loss rises, and the phase that extends it brings that down. Later tokens are others than earlier ones, and may be
easier: `loss_by_context` predicts the same last tokens of each text with more and more before them, which takes that
out. Both go through `Backend.likelihoods`, so any backend that tells likelihoods has them.

Texts are cut at spaces, where a token begins, a few tokens before a bucket's border at most. Every bucket has the same
texts, so their losses are of one sample; intervals are over texts.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from k2model.errors import EvaluationError
from k2model.evals.backend import Backend, Prompt
from k2model.evals.longcontext.haystack import fitted
from k2model.evals.scores import mean_interval

FIRST = 128  # tokens of the first bucket; each next border is twice as far


class PositionLoss(NamedTuple):
    """Mean nats a token, with its 95% interval over `texts`, of the tokens from `start` to `end`, exclusive."""

    start: int
    end: int
    nats: float
    low: float
    high: float
    tokens: int
    texts: int


def borders(length: int, first: int = FIRST) -> tuple[int, ...]:
    """0, first, twice that and so on up to `length`, which is the last."""
    found = [0]
    while (following := max(first, 2 * found[-1])) < length:
        found.append(following)
    return (*found, length)


def loss_by_position(backend: Backend, texts: Sequence[str], length: int, first: int = FIRST) -> list[PositionLoss]:
    """By bucket of positions, up to `length` tokens (one for the beginning of the text counts as the first).

    Raises EvaluationError where no text is that long, or the model's context is shorter.
    """
    marks = borders(length, first)
    rows: dict[tuple[int, int], list[tuple[float, int]]] = {pair: [] for pair in pairwise(marks)}
    for text in _long_enough(backend, texts, length):
        cuts = [0, *(_cut(backend, text, mark) for mark in marks[1:])]
        requests = [(Prompt.of(text[:before]), text[before:after]) for before, after in pairwise(cuts)]
        for bucket, found in zip(rows.values(), backend.likelihoods(requests), strict=True):
            bucket.append((-found.nats, found.tokens))
    return [_row(start, end, found) for (start, end), found in rows.items()]


def loss_by_context(backend: Backend, texts: Sequence[str], length: int, first: int = FIRST) -> list[PositionLoss]:
    """Of the last `first` tokens of the first `length` of each text, with `first`, twice that ... tokens before them,
    up to all there are: a row's `start` is how many stand before, its `end` these and those predicted.

    Raises EvaluationError as `loss_by_position` does.
    """
    contexts = borders(length - first, first)[1:]
    rows: dict[int, list[tuple[float, int]]] = {context: [] for context in contexts}
    for text in _long_enough(backend, texts, length):
        whole = text[: _cut(backend, text, length)]
        split = _cut(backend, whole, length - first)
        starts = [
            0 if context == contexts[-1] else _cut(backend, whole, length - first - context) for context in contexts
        ]
        requests = [(Prompt.of(whole[start:split]), whole[split:]) for start in starts]
        for row, found in zip(rows.values(), backend.likelihoods(requests), strict=True):
            row.append((-found.nats, found.tokens))
    return [_row(context, context + first, found) for context, found in rows.items()]


def heldout_texts(length: int) -> Iterator[str]:
    """Texts of the project's own that no source trains on: whole modules of the standard library, cut to about 8
    characters a token and left out where they are shorter than `length` characters. For greater lengths bring books."""
    from k2model.documents.standard_library import heldout_modules

    for module in heldout_modules():
        if len(module.text) >= length:
            yield module.text[: 8 * length]


def _long_enough(backend: Backend, texts: Sequence[str], length: int) -> list[str]:
    if length > backend.max_length:
        raise EvaluationError(
            f"{backend.name} has {backend.max_length} positions, and the loss is asked for at {length}; ask for less"
        )
    found = [text for text in texts if backend.tokens(Prompt.of(text)) >= length]
    if not found:
        raise EvaluationError(f"none of {len(texts)} texts has {length} tokens of {backend.name}; bring longer ones")
    return found


def _cut(backend: Backend, text: str, length: int) -> int:
    """Where the text may end to have at most `length` tokens: in front of a space between two words."""
    if backend.tokens(Prompt.of(text)) <= length:
        return len(text)
    end = fitted(lambda size: backend.tokens(Prompt.of(text[:size])), length, "the beginning of a text")
    between = (place for place in range(end, 0, -1) if text[place] == " " and text[place - 1].isalnum())
    return next(between, end)


def _row(start: int, end: int, found: Sequence[tuple[float, int]]) -> PositionLoss:
    nats, tokens = [nats for nats, _ in found], [count for _, count in found]
    return PositionLoss(start, end, *mean_interval(nats, tokens), sum(tokens), len(found))
