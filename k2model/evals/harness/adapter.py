"""A backend as a model of lm-evaluation-harness: what its tasks ask of a model, put to the backend as it is.

A request's stops, sampling and length are its own, whatever stands in the batch beside it. Text is put behind one
begin-of-text token, which the backend writes. Of what a model wrote, the harness is given the answer alone: a trace
that was never closed gives it none. It has no cache of requests or answers.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm_eval.api.model import LM

from k2model.documents.markup import Message, joined
from k2model.errors import EvaluationError, nearest
from k2model.evals.backend import Backend, Generation, Likelihood, Prompt, Sampling
from k2model.evals.questions import seed_of
from k2model.recipe.evaluation import Mode

MAX_NEW_TOKENS = 256  # the harness's own default
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # in the harness's order
_KNOWN = (*_LENGTHS, "until", "do_sample", "temperature", "top_p")


class Chat(str):
    """A dialogue as the harness hands it on: a string, which reads as a model sees it, with its turns."""

    turns: tuple[Message, ...]

    @classmethod
    def of(cls, turns: Sequence[Message], effort: Mode) -> "Chat":
        chat = cls(joined(Prompt(effort, tuple(turns)).segments()))
        chat.turns = tuple(turns)
        return chat


class HarnessModel(LM):
    """mode: how a context that is no chat is put. effort: of chats. seed: of sampled answers; each has a stream of its
    own, of this seed, its context and how often it has been asked before in one call."""

    def __init__(self, backend: Backend, mode: Mode = Mode.COMPLETION, effort: Mode = Mode.HIGH, seed: int = 0) -> None:
        super().__init__()
        self.backend, self.mode, self.effort, self.seed = backend, mode, effort, seed

    def prompt(self, context: str) -> Prompt:
        if isinstance(context, Chat):
            return Prompt(self.effort, context.turns)
        return Prompt.of(str(context), self.mode)

    def sampling(self, asked: Mapping[str, Any], seed: int = 0) -> Sampling:
        """Of the harness's generation settings. Raises EvaluationError for one that no backend has."""
        if unknown := [key for key in asked if key not in _KNOWN]:
            raise EvaluationError(
                f"generation setting '{unknown[0]}' is none of a backend's; {nearest(unknown[0], _KNOWN)}"
            )
        temperature = float(asked.get("temperature") or 0.0) if asked.get("do_sample", True) else 0.0
        until = asked.get("until") or []
        length = next((int(asked[key]) for key in _LENGTHS if asked.get(key) is not None), MAX_NEW_TOKENS)
        stops = (until,) if isinstance(until, str) else tuple(until)
        return Sampling(length, temperature, float(asked.get("top_p") or 1.0), seed, tuple(filter(None, stops)))

    def written(self, requests: Sequence[tuple[str, Sampling]]) -> Iterator[tuple[int, Generation]]:
        """What a backend writes to (context, sampling), each as soon as it has ended."""
        yield from self.backend.generate([(self.prompt(context), sampling) for context, sampling in requests])

    def scored(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """Of each continuation behind its context. White space at a context's end is the continuation's, as the harness
        has it, since words are tokens with the space before them."""
        requests = []
        for context, continuation in pairs:
            if not isinstance(context, Chat):
                bare = context.rstrip()
                context, continuation = (bare, context[len(bare) :] + continuation) if bare else (context, continuation)
            requests.append((self.prompt(context), continuation))
        return self.backend.likelihoods(requests)

    # What the harness calls.

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        return [(one.nats, one.greedy) for one in self.scored([request.args[:2] for request in requests])]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        return [one.nats for one in self.backend.rolling([request.args[0] for request in requests])]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        asked: dict[str, int] = {}
        sent = []
        for request in requests:
            context, settings = request.args[:2]
            repeat = asked[context] = asked.get(context, -1) + 1
            sent.append((context, self.sampling(settings, seed_of(self.seed, str(context), repeat))))
        answers = {index: said.answer or "" for index, said in self.written(sent)}
        return [answers[index] for index in range(len(sent))]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Raises EvaluationError for a task that begins the assistant's answer: thinking comes before it."""
        if not add_generation_prompt:
            raise EvaluationError(
                f"a task begins the assistant's turn with {chat_history[-1]['content'][:60]!r}, which leaves no place "
                "for thinking; leave its gen_prefix out"
            )
        return Chat.of(chat_history, self.effort)

    @property
    def tokenizer_name(self) -> str:
        return self.backend.name

    def chat_template(self, chat_template: bool | str = False) -> str:
        return f"{self.backend.name} at effort {self.effort.value}"
