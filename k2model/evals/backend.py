"""What evaluation asks of a model, whatever it is served by: the project's own, transformers, a server.

A backend renders a prompt in its own tokens, generates, and says how likely a text is. It never cuts a prompt: whoever
asks compares `tokens` with `max_length` first, and counts what does not fit. What a backend gives for one request does
not depend on the others it was asked with.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from k2model.documents.markup import EFFORTS, THINK_END, Message, Segment, chat_prompt, plain_prompt, reasoning_prompt
from k2model.errors import NotFinite
from k2model.recipe.evaluation import Mode


@dataclass(frozen=True)
class Prompt:
    """A text to go on from, in `turns` the one of a user; or, in the modes of a chat, the dialogue so far."""

    mode: Mode
    turns: tuple[Message, ...]

    @classmethod
    def of(cls, text: str, mode: Mode = Mode.COMPLETION) -> "Prompt":
        """One text, or one turn of a user."""
        return cls(mode, ({"role": "user", "content": text},))

    @property
    def chat(self) -> bool:
        return self.mode.value in EFFORTS

    @property
    def text(self) -> str:
        """Of a prompt that is no chat. Raises ValueError when it is one."""
        if self.chat or len(self.turns) != 1:
            raise ValueError(f"a prompt of mode {self.mode.value} with {len(self.turns)} turns is not one text")
        return str(self.turns[0]["content"])

    @property
    def closing(self) -> str:
        """The tag behind which the answer stands in what is written; "" where all of it is the answer."""
        if self.chat:
            return EFFORTS[self.mode.value][1]
        return THINK_END if self.mode is Mode.THINK else ""

    def segments(self) -> list[Segment]:
        """In K2's markup, up to where the model goes on."""
        if self.chat:
            return chat_prompt(self.turns, self.mode.value)
        if self.mode is Mode.COMPLETION:
            return plain_prompt(self.text)
        return reasoning_prompt(self.text, think=self.mode is Mode.THINK)


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn.

    temperature: 0 takes the likeliest token. seed: of this request's own random stream. stop: texts that end an answer;
    what stands in a trace is no answer, so none ends there. thinking_budget: tokens after which an open trace is closed
    for the model, which then writes its answer; None = never.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    thinking_budget: int | None = None


class Finish(str, Enum):
    END = "end"  # by the model's own end token, or a text of `stop`
    LENGTH = "length"  # it had written as much as it may


@dataclass(frozen=True)
class Generation:
    """What a model wrote.

    text: all of it, tags included, without the end token and the text that stopped it. trace: its thinking, without
    tags; None where the prompt opens none. answer: what stands behind the trace; None where a trace was not closed:
    such a text is never read as an answer. tokens: that were generated, `thinking_tokens` of them in the trace.
    """

    text: str
    trace: str | None
    answer: str | None
    tokens: int
    thinking_tokens: int
    finish: Finish

    @property
    def complete(self) -> bool:
        return self.finish is Finish.END and self.answer is not None


@dataclass(frozen=True)
class Likelihood:
    """Of a text behind a prompt: the sum of its tokens' log-probabilities in nats, their number, and whether each of
    them was the likeliest.

    Raises NotFinite for a sum that is no number, which no score is made of.
    """

    nats: float
    tokens: int
    greedy: bool

    def __post_init__(self) -> None:
        if math.isnan(self.nats):
            raise NotFinite


class Backend(Protocol):
    """A model to be asked.

    identity: what of it bears on results beside the model itself: its kind, the precision, versions; JSON.
    max_length: tokens of a prompt and what is written behind it together.
    """

    name: str
    max_length: int

    @property
    def identity(self) -> Mapping[str, Any]: ...

    def tokens(self, prompt: Prompt) -> int:
        """How long a prompt is."""

    def generate(self, requests: Sequence[tuple[Prompt, Sampling]]) -> Iterator[tuple[int, Generation]]:
        """(Number of the request, what was written), each as soon as it has ended, in any order.

        Raises ValueError for a request that exceeds `max_length`.
        """

    def likelihoods(self, requests: Sequence[tuple[Prompt, str]]) -> list[Likelihood]:
        """Of each text behind its prompt. Requests with equal prompts, or that go on where another ends, may
        share the reading of it.

        Raises ValueError for a request that exceeds `max_length`, EvaluationError where the backend tells no
        likelihoods.
        """

    def rolling(self, texts: Sequence[str | Sequence[Segment]], window: int | None = None) -> list[Likelihood]:
        """Of whole texts, each target predicted once, with as much before it as a window has.

        texts: a string is all targets, from its first token on; of a document in K2's markup the tokens of segments
        with `loss_mask` are, and `tokens` counts those. window: how many tokens are read at most and predicted, the
        last window reaching back as far as the others; `max_length` where None.

        Raises EvaluationError where the backend tells no likelihoods.
        """
