"""The project's own model as a backend: a `K2Model` with its tokenizer over the engine, on the device it lies on."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import compress, takewhile

import torch

from k2model.documents.markup import BOS, IM_END, Segment, special, text
from k2model.evals.backend import Finish, Generation, Likelihood, Prompt, Sampling
from k2model.generation import Engine, Request, Score, Written
from k2model.model.transformer import K2Model
from k2model.tokens import K2Tokenizer

PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16"}


class OwnModel:
    """A model whose matrix products run in `precision`; norms and the stream between blocks are in fp32.

    `batch_size`: texts that are read or written side by side. Results do not depend on it (docs/generation.md). Over a
    model that is cut by tensor parallelism, all workers of its group ask the same and get the same.
    """

    def __init__(
        self,
        model: K2Model,
        tokenizer: K2Tokenizer,
        name: str = "model",
        precision: torch.dtype = torch.bfloat16,
        batch_size: int = 32,
    ) -> None:
        """Raises ValueError for a precision that is neither fp32 nor bf16."""
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision}; expected torch.float32 or torch.bfloat16")
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.precision, self.batch_size = precision, batch_size
        self.ends = frozenset((tokenizer.eos, tokenizer.special(IM_END)))

    @cached_property
    def engine(self) -> Engine:
        """Made when it is first used: on a CPU it holds the weights once more."""
        return Engine(self.model, self.precision, self.batch_size, self.tokenizer.decode)

    @property
    def max_length(self) -> int:
        return self.model.max_positions

    @property
    def identity(self) -> dict[str, str]:
        return {"kind": "own", "precision": PRECISIONS[self.precision], "torch": torch.__version__}

    def tokens(self, prompt: Prompt) -> int:
        return len(self._encoded(prompt))

    def generate(self, requests: Sequence[tuple[Prompt, Sampling]]) -> Iterator[tuple[int, Generation]]:
        asked = [self._request(prompt, sampling) for prompt, sampling in requests]
        for index, written in self.engine.run(asked):
            prompt, sampling = requests[index]
            yield index, self._generation(prompt, sampling, written)

    def likelihoods(self, requests: Sequence[tuple[Prompt, str]]) -> list[Likelihood]:
        """Prompt and text are encoded as one, as in training: where a token spans their border, it counts as the
        text's. Requests of which one goes on where another ends, as queries of a document with the answers before them,
        are read as one."""
        encoded: list[tuple[list[int], int]] = []
        for prompt, behind in requests:
            before = self._encoded(prompt)
            ids = self.tokenizer.encode_segments([*prompt.segments(), text(behind)])[0] if behind else before
            shared = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(before, ids, strict=False)))
            encoded.append((ids, shared))
        found: dict[int, Likelihood] = {}
        chains = _chains(encoded)
        starts = [min(encoded[number][1] for number in chain) for chain in chains]
        pairs = [
            (encoded[chain[-1]][0][:at], encoded[chain[-1]][0][at:]) for chain, at in zip(chains, starts, strict=True)
        ]
        for chain, at, score in zip(chains, starts, self.engine.score(pairs), strict=True):
            for number in chain:
                own = slice(encoded[number][1] - at, len(encoded[number][0]) - at)
                found[number] = _likelihood([Score(score.log_probabilities[own], score.greedy[own])])
        return [found[number] for number in range(len(requests))]

    def rolling(self, texts: Sequence[str | Sequence[Segment]], window: int | None = None) -> list[Likelihood]:
        """A string behind a begin-of-text token. The last window reaches back as far as the others, so that it predicts
        with as much before it."""
        length = min(window or self.max_length, self.max_length)
        pairs: list[tuple[list[int], list[int]]] = []
        owners: list[tuple[int, list[bool]]] = []  # of each pair: its text, and which of its tokens are targets
        for owner, one in enumerate(texts):
            document = [special(BOS), text(one, loss_mask=True)] if isinstance(one, str) else one
            ids, targets = self.tokenizer.encode_segments(document)
            for first in range(1, len(ids), length):
                last = min(first + length, len(ids))
                if any(targets[first:last]):
                    pairs.append((ids[max(0, last - 1 - length) : first], ids[first:last]))
                    owners.append((owner, targets[first:last]))
        found: list[list[Score]] = [[] for _ in texts]
        for score, (owner, targets) in zip(self.engine.score(pairs), owners, strict=True):
            nats, greedy = (list(compress(each, targets)) for each in (score.log_probabilities, score.greedy))
            found[owner].append(Score(nats, greedy))
        return [_likelihood(scores) for scores in found]

    def _encoded(self, prompt: Prompt) -> list[int]:
        return self.tokenizer.encode_segments(prompt.segments())[0]

    def _request(self, prompt: Prompt, sampling: Sampling) -> Request:
        return Request(
            self._encoded(prompt),
            sampling.max_new_tokens,
            self.ends,
            sampling.temperature,
            sampling.top_p,
            sampling.seed,
            sampling.stop,
            self.tokenizer.special(prompt.closing) if prompt.closing else None,
            sampling.thinking_budget,
        )

    def _generation(self, prompt: Prompt, sampling: Sampling, written: Written) -> Generation:
        """What was written, taken apart. The closing tag is a token: the same letters as plain text do not count."""
        ids = written.tokens
        said = ids[:-1] if ids[-1] in self.ends else ids
        decode, finish = self.tokenizer.decode, Finish.END if written.ended else Finish.LENGTH
        if not prompt.closing:
            answer = before_stop(decode(said), sampling.stop)
            return Generation(answer, None, answer, len(ids), 0, finish)
        tag = self.tokenizer.special(prompt.closing)
        if tag not in said:
            trace = decode(said)
            return Generation(trace, trace, None, len(ids), len(said), finish)
        place = said.index(tag)
        trace, answer = decode(said[:place]), before_stop(decode(said[place + 1 :]), sampling.stop)
        return Generation(trace + prompt.closing + answer, trace, answer, len(ids), place, finish)


def before_stop(answer: str, stops: Sequence[str]) -> str:
    """An answer up to the first of the texts that end it."""
    return answer[: min((answer.index(stop) for stop in stops if stop in answer), default=len(answer))]


def _chains(encoded: Sequence[tuple[list[int], int]]) -> list[list[int]]:
    """Requests, by number, of which each begins the next: its prompt and text stand before the next one's text. Sorted,
    what begins another stands right before those that it begins."""
    chains: list[list[int]] = []
    for number in sorted(range(len(encoded)), key=lambda number: (encoded[number][0], number)):
        (ids, first), last = encoded[number], encoded[chains[-1][-1]][0] if chains else None
        if last is not None and len(last) <= first and ids[: len(last)] == last:
            chains[-1].append(number)
        else:
            chains.append([number])
    return chains


def _likelihood(scores: Sequence[Score]) -> Likelihood:
    nats = [nat for score in scores for nat in score.log_probabilities]
    return Likelihood(sum(nats), len(nats), all(greedy for score in scores for greedy in score.greedy))
