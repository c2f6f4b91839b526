"""The project's own model as a backend: a `K2Model` with its tokenizer, on the device it lies on.

Shape suffixes: C texts, T their longest length.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from k2model.documents.markup import IM_END, text
from k2model.evals.backend import Finish, Generation, Likelihood, Prompt, Sampling
from k2model.evals.generation import generate, padded
from k2model.evals.likelihood import TOKENS_PER_BATCH
from k2model.model.transformer import K2Model
from k2model.tokens import K2Tokenizer

PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16"}


class OwnModel:
    """A model whose matrix products run in `precision`; norms and the stream between blocks are in fp32.

    `batch_size`: requests that are generated side by side.
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

    @property
    def max_length(self) -> int:
        return self.model.max_positions

    @property
    def identity(self) -> dict[str, str]:
        return {"kind": "own", "precision": PRECISIONS[self.precision], "torch": torch.__version__}

    def tokens(self, prompt: Prompt) -> int:
        return len(self._encoded(prompt))

    def generate(self, requests: Sequence[tuple[Prompt, Sampling]]) -> Iterator[tuple[int, Generation]]:
        for index, (prompt, sampling) in enumerate(requests):
            self._check(len(self._encoded(prompt)) + sampling.max_new_tokens, f"request {index}")
        for index, (prompt, sampling) in enumerate(requests):
            yield index, self._reading(prompt, sampling, self._written(prompt, sampling))

    def likelihoods(self, requests: Sequence[tuple[Prompt, str]]) -> list[Likelihood]:
        """Prompt and text are encoded as one, as in training: where a token spans their border, it counts as the
        text's."""
        encoded = []
        for index, (prompt, behind) in enumerate(requests):
            before = self._encoded(prompt)
            ids = self.tokenizer.encode_segments([*prompt.segments(), text(behind)])[0] if behind else before
            self._check(len(ids) - 1, f"request {index}")
            shared = next((i for i, pair in enumerate(zip(before, ids, strict=False)) if pair[0] != pair[1]), None)
            encoded.append((ids, min(len(before), len(ids)) if shared is None else shared))
        return self._scored(encoded)

    def rolling(self, texts: Sequence[str]) -> list[Likelihood]:
        """The last window reaches back as far as the others, so that it predicts with as much before it."""
        windows, owners = [], []
        for owner, one in enumerate(texts):
            ids = [self.tokenizer.bos, *self.tokenizer.encode(one)]
            for first in range(1, len(ids), self.max_length):
                last = min(first + self.max_length, len(ids))
                start = max(0, last - 1 - self.max_length)
                windows.append((ids[start:last], first - start))
                owners.append(owner)
        totals = [Likelihood(0.0, 0, True) for _ in texts]
        for owner, one in zip(owners, self._scored(windows), strict=True):
            before = totals[owner]
            totals[owner] = Likelihood(before.nats + one.nats, before.tokens + one.tokens, before.greedy and one.greedy)
        return totals

    def _encoded(self, prompt: Prompt) -> list[int]:
        return self.tokenizer.encode_segments(prompt.segments())[0]

    def _check(self, length: int, what: str) -> None:
        if length > self.max_length:
            raise ValueError(
                f"{what} takes {length} positions of a model that has {self.max_length}: "
                "compare `tokens` with `max_length` before asking"
            )

    def _written(self, prompt: Prompt, sampling: Sampling) -> list[int]:
        ids, budget = self._encoded(prompt), sampling.thinking_budget
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.precision is torch.bfloat16):
            if prompt.closing and budget is not None and budget < sampling.max_new_tokens:
                tag = self.tokenizer.special(prompt.closing)
                written = self._continued(ids, replace(sampling, max_new_tokens=budget))
                if tag in written or (written and written[-1] in self.ends):
                    written = self._continued(ids, sampling)
                    return written
                written = [*written, tag]
                left = sampling.max_new_tokens - len(written)
                return written + (
                    self._continued(ids + written, replace(sampling, max_new_tokens=left)) if left else []
                )
            return self._continued(ids, sampling)

    def _continued(self, ids: Sequence[int], sampling: Sampling) -> list[int]:
        return generate(
            self.model, [ids], sampling.max_new_tokens, self.ends, temperature=sampling.temperature, seed=sampling.seed
        )[0]

    def _reading(self, prompt: Prompt, sampling: Sampling, ids: list[int]) -> Generation:
        """What was written, taken apart. The closing tag is a token: the same letters as plain text do not count."""
        finish = Finish.END if ids and ids[-1] in self.ends else Finish.LENGTH
        said = ids[:-1] if finish is Finish.END else ids
        tag = self.tokenizer.special(prompt.closing) if prompt.closing else None
        place = said.index(tag) if tag in said else None
        closed = tag is None or place is not None
        trace_ids = said[:place] if tag is not None else []
        head = said[: place + 1] if place is not None else []
        answer = self.tokenizer.decode(said[len(head) :]) if closed else None
        if answer is not None:
            found = [answer.index(stop) for stop in sampling.stop if stop in answer]
            if found:
                answer, finish = answer[: min(found)], Finish.END
        trace = self.tokenizer.decode(trace_ids) if tag is not None else None
        whole = self.tokenizer.decode(said) if answer is None else self.tokenizer.decode(head) + answer
        return Generation(whole, trace, answer, len(ids), len(trace_ids), finish)

    @torch.no_grad()
    def _scored(self, encoded: Sequence[tuple[list[int], int]]) -> list[Likelihood]:
        """Of each (ids, n) the tokens behind the first n."""
        results = [Likelihood(0.0, 0, True)] * len(encoded)
        order = sorted(range(len(encoded)), key=lambda i: -len(encoded[i][0]))
        while order:
            size = max(1, TOKENS_PER_BATCH // len(encoded[order[0]][0]))
            batch, order = order[:size], order[size:]
            tokens_CT, _ = padded([encoded[i][0] for i in batch], self.model.device)
            with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.precision is torch.bfloat16):
                hidden_CTD = self.model.hidden(tokens_CT[:, :-1]) if tokens_CT.shape[1] > 1 else None
                for row, i in enumerate(batch):
                    ids, n = encoded[i]
                    if len(ids) == n or hidden_CTD is None:
                        continue
                    log_NV = self.model.head(hidden_CTD[row, n - 1 : len(ids) - 1]).float().log_softmax(-1)
                    wanted = tokens_CT[row, n : len(ids)]
                    nats = float(log_NV.gather(-1, wanted[:, None]).sum(dtype=torch.float64))
                    results[i] = Likelihood(nats, len(ids) - n, bool((log_NV.argmax(-1) == wanted).all()))
        return results
