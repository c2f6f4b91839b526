"""A backend whose answers a test writes: counts tokens with a real tokenizer, and keeps what it was asked."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from k2model.evals.backend import Finish, Generation, Likelihood, Prompt, Sampling
from k2model.tokens import K2Tokenizer

Say = Callable[[Prompt, Sampling], Generation]


def said(answer: str, trace: str | None = None, thinking_tokens: int = 0) -> Generation:
    """An answer that came to an end."""
    return Generation(
        f"{trace or ''}{answer}", trace, answer, len(answer) + thinking_tokens, thinking_tokens, Finish.END
    )


def cut_off(text: str, thinking_tokens: int = 0) -> Generation:
    """What was written when there was no room any more, its trace open."""
    return Generation(text, text, None, thinking_tokens, thinking_tokens, Finish.LENGTH)


@dataclass
class Scripted:
    tokenizer: K2Tokenizer
    say: Say
    max_length: int = 10**6
    name: str = "scripted"
    asked: list[tuple[Prompt, Sampling]] = field(default_factory=list)
    calls: int = 0

    identity: ClassVar = {"kind": "scripted"}

    def tokens(self, prompt: Prompt) -> int:
        self.calls += 1
        return len(self.tokenizer.encode_segments(prompt.segments())[0])

    def generate(self, requests: Sequence[tuple[Prompt, Sampling]]) -> Iterator[tuple[int, Generation]]:
        """The last first, as a backend may."""
        self.asked += requests
        for index in reversed(range(len(requests))):
            yield index, self.say(*requests[index])

    def likelihoods(self, requests: Sequence[tuple[Prompt, str]]) -> list[Likelihood]:
        raise NotImplementedError

    def rolling(self, texts: Sequence[object], window: int | None = None) -> list[Likelihood]:
        raise NotImplementedError
