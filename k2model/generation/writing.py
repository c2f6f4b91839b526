"""What is asked of the engine, and a request's way to its end: which token may follow, and when it is done.

All of it is about token ids but the texts that end an answer. Those are looked for in the decoded text of the last
tokens, as many as a stop text has bytes, since each token adds a byte at least: so they are found wherever a tokenizer
cuts them. What stands in an open trace ends nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random


@dataclass(frozen=True)
class Request:
    """prompt: token ids, at least one. ends: ids that end the text. closing: the id that ends the open trace with which
    the text begins; None where none is open. Others as in `k2model.evals.backend.Sampling`."""

    prompt: Sequence[int]
    max_new_tokens: int
    ends: frozenset[int] = frozenset()
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    closing: int | None = None
    thinking_budget: int | None = None

    @property
    def room(self) -> int:
        """Positions that it takes."""
        return len(self.prompt) + self.max_new_tokens

    def problem(self) -> str | None:
        """What is wrong with it; None when nothing is."""
        if not self.prompt:
            return "its prompt has no tokens; every prompt needs at least the begin-of-text token"
        if self.max_new_tokens < 1:
            return f"max_new_tokens={self.max_new_tokens} must be at least 1"
        if self.temperature < 0.0 or not 0.0 < self.top_p <= 1.0:
            return f"temperature={self.temperature} must be at least 0, top_p={self.top_p} above 0 and at most 1"
        if "" in self.stop:
            return "a text of `stop` is empty, which ends every answer before it begins"
        if self.thinking_budget is not None and self.thinking_budget < 0:
            return f"thinking_budget={self.thinking_budget} must be at least 0; None means no bound"
        return None


@dataclass(frozen=True)
class Written:
    """tokens: what was written, the end token or the tokens of a stop text included. log_probabilities: of each, in
    nats at temperature 1. ended: by an end token or a stop text, not by length."""

    tokens: list[int]
    log_probabilities: list[float]
    ended: bool


@dataclass
class Writing:
    """A request in a slot. `read`: how many tokens of its prompt are in the cache."""

    index: int
    request: Request
    slot: int
    decode: Callable[[Sequence[int]], str]
    read: int = 0
    tokens: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    behind: int = 0  # tokens of the trace and its closing tag, once it is closed

    def __post_init__(self) -> None:
        self.stream = Random(self.request.seed)
        self.open = self.request.closing is not None

    @cached_property
    def reach(self) -> int:
        """Bytes of the longest stop text: tokens it can lie in."""
        return max((len(stop.encode()) for stop in self.request.stop), default=0)

    @property
    def waiting(self) -> bool:
        """Whether its prompt is not read to the end."""
        return self.read < len(self.request.prompt)

    @property
    def forced(self) -> int | None:
        """The token that has to come next, where the budget of an open trace is spent."""
        spent = self.open and len(self.tokens) == self.request.thinking_budget
        return self.request.closing if spent else None

    def add(self, token: int, log_probability: float) -> Written | None:
        """Take the next token; what was written when that ends it."""
        self.tokens.append(token)
        self.log_probabilities.append(log_probability)
        ended = token in self.request.ends
        if self.open and token == self.request.closing:
            self.open, self.behind = False, len(self.tokens)
        elif self.reach and not self.open and not ended:
            last = self.decode(self.tokens[max(self.behind, len(self.tokens) - self.reach) :])
            ended = any(stop in last for stop in self.request.stop)
        if ended or len(self.tokens) == self.request.max_new_tokens:
            return Written(self.tokens, self.log_probabilities, ended)
        return None
