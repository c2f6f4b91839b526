"""A model behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp) as a backend.

Chats go to `/chat/completions`, everything else to `/completions`; how likely a text is, the server tells where it
echoes a prompt with its log-probabilities. Its tokenizer is not here: how long a prompt is, its `usage` tells. A key
comes from the environment alone. A server that answers in another model's name is refused.

Not covered: streaming; closing a trace for the model (`thinking_budget`), which the protocol has no means for; and
rolling likelihood beyond the context, for which texts would have to be cut into tokens here.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from pathlib import Path
from types import TracebackType
from typing import Any

from k2model.documents.json_text import BadMessages
from k2model.documents.markup import (
    EFFORTS,
    EOS,
    IM_END,
    THINK,
    THINK_END,
    TOOL_CALLS,
    TOOL_CALLS_END,
    Message,
    Segment,
)
from k2model.errors import EvaluationError, TeacherError, nearest
from k2model.evals.backend import Finish, Generation, Likelihood, Prompt, Sampling
from k2model.evals.backends.reading import generation, take_apart
from k2model.recipe.evaluation import Mode
from k2model.synthesis.config import EndpointConfig
from k2model.synthesis.conversation import Request, ToolCall, Turn, Unanswered
from k2model.synthesis.teachers import wire
from k2model.synthesis.teachers.client import Client
from k2model.synthesis.teachers.endpoint import CHAT

COMPLETIONS, MODELS = "/completions", "/models"
FINISHED = {"length": Finish.LENGTH}  # every other reason is an end of the model's own, but for
BROKEN_OFF = ("abort", "content_filter", "error")  # a server's, of what the model was writing
FINISHED |= dict.fromkeys(BROKEN_OFF, Finish.LENGTH)


class EndpointModel:
    """`config`: address, model, limits and retries; what it says of sampling is not used. A context manager: leaving it
    ends the connection.

    record: a JSONL file of all calls, which a later run finds its answers in. max_length: None = what the server's list
    of models states. vllm: whether the server knows vLLM's additions to the protocol (`chat_template_kwargs`,
    `skip_special_tokens`). opens_trace: whether its chat template opens the trace, as K2's does, and its text comes
    without being taken apart: then a text without the closing tag is a trace that was never closed, however it ended.
    """

    def __init__(
        self,
        config: EndpointConfig,
        record: Path | None = None,
        max_length: int | None = None,
        vllm: bool = True,
        opens_trace: bool = False,
    ) -> None:
        """Raises EvaluationError for an address or key that cannot be used, or a server without that model."""
        self.config, self.name, self.vllm, self.opens_trace = config, config.model, vllm, opens_trace
        self._lengths: dict[str, int] = {}
        self._echoes: dict[str, dict[str, Any]] = {}
        try:
            self._client = Client(config, record)
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="endpoint")
            self._thread.start()
            self._session = self._client.session()
            self._start(self._session.__aenter__()).result()
            self.max_length = max_length or self._stated_length()
        except TeacherError as error:
            raise EvaluationError(str(error)) from error

    def __enter__(self) -> "EndpointModel":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; nothing can be asked then."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(TeacherError):  # was raised where it was met
            self._start(self._session.__aexit__(None, None, None)).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def identity(self) -> dict[str, Any]:
        return {"kind": "endpoint", "model": self.config.model, "vllm": self.vllm}

    def run_statistics(self) -> dict[str, Any]:
        """Calls, retries, tokens spent, and what failed how often."""
        return self._client.run_statistics()

    def tokens(self, prompt: Prompt) -> int:
        """By a request for one token, whose `usage` tells; each prompt once."""
        key = json.dumps([prompt.mode.value, prompt.turns], sort_keys=True)
        if key not in self._lengths:
            path, sent = self._request(prompt, Sampling(1))
            (answer,) = self._answers([self._ask(path, sent)])
            self._lengths[key] = _prompt_tokens(answer, self.name)
        return self._lengths[key]

    def generate(self, requests: Sequence[tuple[Prompt, Sampling]]) -> Iterator[tuple[int, Generation]]:
        """A prompt that the server has no room for is an EvaluationError with what the server says of it."""
        built = [(prompt, sampling, *self._request(prompt, sampling)) for prompt, sampling in requests]
        running = {self._start(self._ask(path, sent)): index for index, (_, _, path, sent) in enumerate(built)}
        left: list[Unanswered] = []
        for done in as_completed(running):
            index = running[done]
            try:
                kept = done.result().reply
            except Unanswered as failure:
                left.append(failure)
                continue
            prompt, sampling, *_ = built[index]
            yield index, self._read(prompt, sampling, kept)
        self._raise(left, len(requests))

    def likelihoods(self, requests: Sequence[tuple[Prompt, str]]) -> list[Likelihood]:
        """Prompt and text are sent as one: where a token spans their border, it counts as the text's."""
        pairs = []
        for prompt, behind in requests:
            if prompt.chat:
                raise EvaluationError(f"{self.name}: a server tells no likelihoods behind a chat; ask for completions")
            pairs.append((_text(prompt), _text(prompt) + behind))
        echoes = self._echo([text for pair in pairs for text in pair if text])
        return [_behind(echoes.get(before), echoes.get(whole), whole, self.name) for before, whole in pairs]

    def rolling(self, texts: Sequence[str | Sequence[Segment]], window: int | None = None) -> list[Likelihood]:
        """Raises EvaluationError for a text that is longer than a window, and for documents in K2's markup."""
        whole = [text for text in texts if isinstance(text, str)]
        if len(whole) < len(texts):
            raise EvaluationError(
                f"{self.name}: a server takes texts, and no document in K2's markup, of which some tokens alone count; "
                "evaluate the weights"
            )
        echoes, room = self._echo([text for text in whole if text]), min(window or self.max_length, self.max_length)
        if longest := max((one["tokens"] for one in echoes.values() if one["tokens"] > room), default=0):
            raise EvaluationError(
                f"{self.name}: a text of {longest} tokens is longer than a window of {room}, and cannot be cut into "
                "windows without its tokenizer; evaluate the weights"
            )
        return [_behind(None, echoes.get(text), text, self.name) for text in whole]

    def _start(self, asked: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(asked, self._loop)

    async def _ask(self, path: str, sent: Mapping[str, Any]) -> wire.Answer:
        return await self._client.ask(path, sent, self._reading)

    def _reading(self, content: str, sent: Mapping[str, Any]) -> wire.Answer:
        """The first choice and the usage, as a record keeps them."""
        response, choice = wire.first_choice(content)
        if answering := wire.other_name(response, sent):
            raise TeacherError(
                f"{self.config.base_url} was asked as '{self.config.model}' and answers as '{answering}': these would "
                "be another model's scores. Name the model that is meant, as the server names it"
            )
        written = choice.get("text") or (choice.get("message") or {}).get("content") or ""
        usage, wrong = wire.usage_of(response, sent, str(written))
        return wire.Answer({"choice": choice, "usage": response.get("usage")}, usage, wrong)

    def _answers(self, asked: Sequence[Coroutine[Any, Any, Any]]) -> list[dict[str, Any]]:
        """What is kept of each answer. Raises EvaluationError when one is missing."""
        answers, left = [], []
        for future in [self._start(one) for one in asked]:
            try:
                answers.append(future.result().reply)
            except Unanswered as failure:
                left.append(failure)
        self._raise(left, len(asked))
        return answers

    def _raise(self, left: Sequence[Unanswered], of: int) -> None:
        if left:
            raise EvaluationError(
                f"{self.config.base_url}: {len(left)} of {of} requests to '{self.name}' got no answer, the last with: "
                f"{left[-1].detail or left[-1].reason}. What was answered is kept; ask again for the rest"
            )

    def _request(self, prompt: Prompt, sampling: Sampling) -> tuple[str, dict[str, Any]]:
        if sampling.thinking_budget is not None and (prompt.closing or prompt.chat):
            raise EvaluationError(
                f"{self.name}: a server cannot be told to close a trace (thinking_budget={sampling.thinking_budget}); "
                "evaluate the weights, or leave the budget out"
            )
        drawing: dict[str, Any] = {
            "model": self.config.model, "temperature": sampling.temperature, "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
        }  # fmt: skip
        if sampling.temperature > 0:
            drawing["seed"] = sampling.seed
        if prompt.chat:
            return CHAT, _chat(self.config, prompt, self.vllm) | drawing
        sent = drawing | {"prompt": _text(prompt)}
        if prompt.mode is Mode.COMPLETION and sampling.stop:
            sent["stop"] = list(sampling.stop)
        if prompt.mode is not Mode.COMPLETION and self.vllm:
            sent["skip_special_tokens"] = False  # the tag that closes a trace is one
        return COMPLETIONS, sent

    def _read(self, prompt: Prompt, sampling: Sampling, kept: Mapping[str, Any]) -> Generation:
        choice = kept["choice"]
        finish = FINISHED.get(choice.get("finish_reason"), Finish.END)
        tokens = _count(kept, "completion_tokens")
        if not prompt.chat:
            text = str(choice.get("text") or "")
            if prompt.mode is not Mode.COMPLETION:
                text = text.removesuffix(EOS).removesuffix(IM_END)
            parts = (None, text) if prompt.mode is Mode.COMPLETION else take_apart(text, prompt.closing)
            return generation(text, parts, sampling.stop, finish, tokens)
        text, parts = self._parts(prompt, choice, finish)
        details = (kept.get("usage") or {}).get("completion_tokens_details") or {}
        return generation(text, parts, sampling.stop, finish, tokens, details.get("reasoning_tokens"))

    def _parts(
        self, prompt: Prompt, choice: Mapping[str, Any], finish: Finish
    ) -> tuple[str, tuple[str | None, str | None]]:
        """The whole text of a chat's answer, and its trace and answer. A text without a tag that was cut off may be an
        open trace, so it has no answer."""
        closing = EFFORTS[prompt.mode.value][1]
        try:
            reply = wire.reply_in(choice.get("message"))
        except BadMessages as error:
            raise EvaluationError(f"{self.name}: the answer to a chat holds no message ({error})") from error
        calls = "".join(f"{TOOL_CALLS}{call.text}{TOOL_CALLS_END}" for call in reply.calls)
        content = reply.content + calls
        if reply.trace:
            unclosed = not content and (finish is Finish.LENGTH or choice["message"].get("content") is None)
            answer = None if unclosed else content
            return reply.trace + closing + (answer or ""), (reply.trace, answer)
        trace, answer = take_apart(content, closing if self.opens_trace or closing in content else "")
        if trace is None and finish is Finish.LENGTH:
            trace, answer = content, None
        return content, (trace, answer)

    def _echo(self, texts: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What the server says of the tokens of each text: `names`, `nats`, the `best` at their place, how many
        `tokens`."""
        new = [text for text in dict.fromkeys(texts) if text not in self._echoes]
        base = {"model": self.config.model, "temperature": 0.0, "max_tokens": 1, "echo": True, "logprobs": 1}
        kept = self._answers([self._ask(COMPLETIONS, base | {"prompt": text}) for text in new])
        self._echoes |= {
            text: _echoed(one, text, self.name, self.config.base_url) for text, one in zip(new, kept, strict=True)
        }
        return {text: self._echoes[text] for text in texts}

    def _stated_length(self) -> int:
        """What the server's list says of the model's context. Raises EvaluationError when it does not have the model,
        or does not say."""
        said = self._start(self._client.get(MODELS)).result()
        listed = said.get("data") if isinstance(said, dict) else None
        models = {one["id"]: one for one in listed or () if isinstance(one, dict) and isinstance(one.get("id"), str)}
        if models and self.name not in models:
            raise EvaluationError(f"{self.config.base_url} has no model '{self.name}'; {nearest(self.name, models)}")
        length = models.get(self.name, {}).get("max_model_len")
        if not length:
            raise EvaluationError(
                f"{self.config.base_url} does not say how long the context of '{self.name}' is; give max_length"
            )
        return int(length)


def _text(prompt: Prompt) -> str:
    """A prompt that is no chat, as a server's tokenizer reads it: it puts the token that begins a text itself."""
    return prompt.text + {Mode.THINK: THINK, Mode.DIRECT: THINK + THINK_END}.get(prompt.mode, "")


def _chat(config: EndpointConfig, prompt: Prompt, vllm: bool) -> dict[str, Any]:
    effort = prompt.mode.value
    tools = [tool for turn in prompt.turns if turn.get("tools") for tool in json.loads(turn["tools"])]
    request = Request(tuple(map(_turn, prompt.turns)), effort, tuple(json.dumps(tool) for tool in tools))
    sent = wire.body(config, request)
    return sent | {"chat_template_kwargs": {"reasoning_effort": effort}} if vllm else sent


def _turn(message: Message) -> Turn:
    one = [message["tool_call"]] if message.get("tool_call") else []
    calls = [json.loads(call) for call in message.get("tool_calls") or one]
    named = tuple(ToolCall(call["name"], json.dumps(call.get("arguments", {}))) for call in calls)
    return Turn(message["role"], message.get("content") or "", calls=named)


def _count(kept: Mapping[str, Any], field: str) -> int:
    count = (kept.get("usage") or {}).get(field)
    return count if type(count) is int else 0


def _prompt_tokens(kept: Mapping[str, Any], name: str) -> int:
    if not (count := _count(kept, "prompt_tokens")):
        raise EvaluationError(f"{name}: the server does not say how long a prompt is (usage.prompt_tokens)")
    return count


def _echoed(kept: Mapping[str, Any], text: str, name: str, url: str) -> dict[str, Any]:
    """Raises EvaluationError where the server did not echo the prompt with its log-probabilities."""
    found, count = kept["choice"].get("logprobs") or {}, _prompt_tokens(kept, name)
    nats, best, names = (found.get(field) or [] for field in ("token_logprobs", "top_logprobs", "tokens"))
    if min(len(nats), len(best), len(names)) < count or text not in str(kept["choice"].get("text")):
        raise EvaluationError(
            f"{url} does not tell how likely a prompt is (`echo` with `logprobs` on {COMPLETIONS}), which tasks that "
            f"compare likelihoods need of '{name}'. vLLM does; or evaluate the weights themselves"
        )
    return {"names": names[:count], "nats": nats[:count], "best": best[:count], "tokens": count}


def _behind(before: Mapping[str, Any] | None, whole: Mapping[str, Any] | None, text: str, name: str) -> Likelihood:
    """Of the tokens of `whole`, which is `text`, that are not those of `before`; None = of no text at all."""
    if whole is None:
        return Likelihood(0.0, 0, True)
    if before is not None:
        pairs = enumerate(zip(before["names"], whole["names"], strict=False))
        shared = min(before["tokens"], whole["tokens"])
        start = next((place for place, pair in pairs if pair[0] != pair[1]), shared)
    else:
        start = 1 if whole["nats"][0] is None else 0  # the token that the server puts before a text
        if start and text.startswith(whole["names"][0] or text):
            raise EvaluationError(
                f"{name}: the server puts no token before a text, so nothing tells how likely its first one is; "
                "evaluate the weights, or a model whose tokenizer begins with one"
            )
    nats, best = whole["nats"][start:], whole["best"][start:]
    greedy = all(mine >= max(top.values(), default=mine) for mine, top in zip(nats, best, strict=True))
    return Likelihood(float(sum(nats)), len(nats), greedy)
