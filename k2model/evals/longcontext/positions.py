"""The loss by position: what a model gains from what is far back, and where its context ends.

`position_loss/<end>` is the loss of a text's tokens in the bucket that ends there, [0, 128), [128, 256), [256, 512)
..., predicted with all that stands before them. A model that reads its whole context gets better from bucket to bucket;
behind the length it was trained at the loss rises, and the phase that extends it brings that down. Later tokens are
others than earlier ones, and may be easier: `context_loss/<tokens>` is of the same last tokens of each text with more
and more before them, which takes that out. Every score has the same texts, so they compare; intervals are over texts.

Texts are cut at spaces, where a token begins, a few tokens before a bucket's border at most. Both go through
`Backend.likelihoods`, so any backend that tells likelihoods has them.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from k2model.errors import EvaluationError
from k2model.evals.answers import Answers
from k2model.evals.backend import Backend, Prompt
from k2model.evals.items import Grade, ItemResult
from k2model.evals.longcontext.haystack import fitted
from k2model.recipe.tasks import POSITION_LOSS, position_ends

CONTEXT_LOSS = "context_loss"


def losses_by_position(
    backend: Backend, texts: Mapping[str, str], length: int, answers: Answers | None = None
) -> list[ItemResult]:
    """The nats of every bucket up to `length` tokens in every text, by name, that is so long; what begins a text counts
    as its first token.

    answers: what was read before. Raises EvaluationError where no text is that long, or the model's context is shorter.
    """
    ends = position_ends(length)

    def requests(text: str) -> list[tuple[str, str]]:
        cuts = [0, *(_cut(backend, text, end) for end in ends)]
        return [(text[:before], text[before:after]) for before, after in pairwise(cuts)]

    return _losses(backend, texts, length, [f"{POSITION_LOSS}/{end}" for end in ends], requests, answers or Answers())


def losses_by_context(
    backend: Backend, texts: Mapping[str, str], length: int, answers: Answers | None = None
) -> list[ItemResult]:
    """The nats of the last 128 of the first `length` tokens of every text, with 128, 256 ... tokens before them, up to
    all there are. Raises EvaluationError as `losses_by_position` does."""
    last = position_ends(length)[0]
    contexts = position_ends(length - last)

    def requests(text: str) -> list[tuple[str, str]]:
        whole = text[: _cut(backend, text, length)]
        split = _cut(backend, whole, length - last)
        starts = [0 if one == contexts[-1] else _cut(backend, whole, length - last - one) for one in contexts]
        return [(whole[start:split], whole[split:]) for start in starts]

    return _losses(
        backend, texts, length, [f"{CONTEXT_LOSS}/{one}" for one in contexts], requests, answers or Answers()
    )


def heldout_texts(length: int, most: int) -> dict[str, str]:
    """Texts of the project's own that no source trains on: the `most` longest modules of the standard library that are
    held out, by name, cut to 8 characters for each of `length` tokens. The longest has about 144,000 characters; for
    greater lengths bring books."""
    from k2model.documents.standard_library import heldout_modules

    longest = sorted(heldout_modules(), key=lambda module: (-len(module.text), module.name))[:most]
    return {module.name: module.text[: 8 * length] for module in longest}


def _losses(
    backend: Backend, texts: Mapping[str, str], length: int, scores: Sequence[str],
    requests: Callable[[str], list[tuple[str, str]]], answers: Answers,
) -> list[ItemResult]:  # fmt: skip
    """A result for each score and text; `requests` gives for each score (what stands before, what is predicted)."""
    if length > backend.max_length:
        raise EvaluationError(
            f"{backend.name} has {backend.max_length} positions, and the loss is asked for at {length}; ask for less"
        )
    long = {name: text for name, text in texts.items() if backend.tokens(Prompt.of(text)) >= length}
    if not long:
        raise EvaluationError(f"none of {len(texts)} texts has {length} tokens of {backend.name}; bring longer ones")
    answers.expect(len(long))
    for name, text in long.items():
        if name not in answers:
            found = backend.likelihoods([(Prompt.of(before), behind) for before, behind in requests(text)])
            answers.put(name, {"nats": [-one.nats for one in found], "tokens": [one.tokens for one in found]})
    return [
        ItemResult(
            score, name, name, "", "", None, "", Grade.MEASURED, answers[name]["nats"][number],
            tokens=answers[name]["tokens"][number],
        )
        for number, score in enumerate(scores)
        for name in long
    ]  # fmt: skip


def _cut(backend: Backend, text: str, length: int) -> int:
    """Where the text may end to have at most `length` tokens: in front of a space between two words."""
    if backend.tokens(Prompt.of(text)) <= length:
        return len(text)
    end = fitted(lambda size: backend.tokens(Prompt.of(text[:size])), length, "the beginning of a text")
    between = (place for place in range(end, 0, -1) if text[place] == " " and text[place - 1].isalnum())
    return next(between, end)
