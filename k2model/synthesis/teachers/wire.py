"""The OpenAI-compatible form of a request and of its response. Nothing here knows a network.

A message is read as rows of chats are (`k2model.documents.messages`).
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

from k2model.documents.json_text import BadMessages
from k2model.documents.messages import WHOLE, opens_thinking, read_reply, says_something
from k2model.errors import RecordError
from k2model.plain import NotPlain, from_plain
from k2model.synthesis.config import EndpointConfig
from k2model.synthesis.conversation import Reply, Request, ToolCall, Turn, Usage

BYTES_PER_TOKEN = 4  # an estimate, for rates and for responses without a usable usage
MESSAGE_TOKENS = 8  # that a chat template may add to a turn
#: What servers say of a reply that reached its limit, and of one that was taken back; in lower case.
CUT_OFF = frozenset({"length", "max_tokens", "max_output_tokens", "max_completion_tokens", "max_length", "model_length",
                     "token_limit", "context_length", "model_context_window_exceeded"})  # fmt: skip
FILTERED = frozenset({"content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content",
                      "spii", "refusal", "guardrail_intervened"})  # fmt: skip
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # half of a character as JSON escapes it: alone it is no text


class BadResponse(ValueError):
    """A response of status 200 that is not a completion."""


class Answer(NamedTuple):
    """What a response says: `reply` is kept in the record, as JSON. `usage_wrong`: what it says of tokens is missing or
    impossible, so that `usage` is an estimate."""

    reply: dict[str, Any]
    usage: Usage
    usage_wrong: bool = False


def body(config: EndpointConfig, request: Request) -> dict[str, Any]:
    """A teacher's request, but for the headers. `request.exact` is not in it."""
    sent: dict[str, Any] = {
        "model": config.model,
        "messages": _messages(request.turns),
        "temperature": config.temperature,
        "top_p": config.top_p,
        "max_tokens": config.max_tokens,
    }
    if config.send_effort:
        sent["reasoning_effort"] = request.effort
    if request.tools:
        sent["tools"] = [_tool(json.loads(tool)) for tool in request.tools]
    return sent


def fingerprint(sent: Mapping[str, Any], sample: int) -> str:
    """sha256 of what is sent: everything that bears on the answer, and nothing of where it is asked for."""
    return hashlib.sha256(f"{json.dumps(sent, sort_keys=True)}\n{sample}".encode()).hexdigest()


def most_usage(sent: Mapping[str, Any]) -> Usage:
    """No call can use more: a token of a byte-level vocabulary is a byte at least."""
    asked, turns = (sent["prompt"], 1) if "prompt" in sent else (sent["messages"], len(sent["messages"]))
    content = json.dumps([asked, sent.get("tools", [])], ensure_ascii=False)
    return Usage(len(content.encode("utf-8", "replace")) + MESSAGE_TOKENS * turns, sent["max_tokens"])


def likely_tokens(sent: Mapping[str, Any]) -> int:
    """Of prompt and answer together, for the rate limit."""
    prompt, answer = most_usage(sent)
    return prompt // BYTES_PER_TOKEN + answer // 2


def first_choice(content: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(Response, its first choice). Halves of characters, as a server writes where it cuts a text, are U+FFFD in it.
    Raises `BadResponse` with what is wrong."""
    try:
        response = json.loads(content)
        if _HALF.search(content):
            whole = json.dumps(response, ensure_ascii=False).encode("utf-16", "surrogatepass")
            response = json.loads(whole.decode("utf-16", "replace"))
    except (ValueError, RecursionError) as error:
        raise BadResponse(f"not JSON: {content[:80]!r}") from error
    try:
        choice = response["choices"][0]
        if not isinstance(choice, dict):
            raise TypeError
    except (KeyError, IndexError, TypeError) as error:
        raise BadResponse(f"no choices[0] in {content[:80]!r}") from error
    return response, choice


def other_name(response: Mapping[str, Any], sent: Mapping[str, Any]) -> str:
    """The name in which a response answers where it is not the one that was asked; "" where it is, or has none."""
    name = str(response.get("model") or sent["model"])
    return name if name != sent["model"] else ""


def usage_of(response: Mapping[str, Any], sent: Mapping[str, Any], written: str) -> tuple[Usage, bool]:
    """What a call took, and whether that is an estimate from what was `written`, since the response does not say it or
    says what cannot be."""
    most, reported = most_usage(sent), _usage(response.get("usage"))
    if reported and all(0 <= count <= limit for count, limit in zip(reported, most, strict=True)):
        return reported, False
    size = len(written.encode("utf-8", "replace"))
    return Usage(most.prompt_tokens // BYTES_PER_TOKEN, -(-size // BYTES_PER_TOKEN)), True


def read(content: str, sent: Mapping[str, Any]) -> Answer:
    """The reply in a response's text. Raises `BadResponse` with what is wrong."""
    response, choice = first_choice(content)
    try:
        reply = reply_in(choice.get("message"))
    except BadMessages as error:
        raise BadResponse(f"no choices[0].message in {content[:80]!r}: {error}") from error
    written = "".join([reply.content, reply.trace, *(call.text for call in reply.calls)])
    kept = reply._asdict() | {"calls": [call._asdict() for call in reply.calls]}
    return Answer(kept, *usage_of(response, sent, written))


def read_whole(content: str, sent: Mapping[str, Any]) -> Answer:
    """As `read`, of a reply that is to be learned: in the record `fault` says why it may not be, "" where it may.

    cut_off: it reached its limit, in its thinking or behind it. filtered, refused: it was taken back, or stands for
    one. empty_reply: nothing but thinking. unexpected_calls: of tools that were not offered. Raises `BadResponse` where
    the server does not say that the reply is whole: what may be half a text is asked for again, never learned.
    """
    answer = read(content, sent)
    _, choice = first_choice(content)
    fault, detail = _fault(choice, answer, sent)
    return answer._replace(reply=answer.reply | {"fault": fault, "detail": detail})


def _fault(choice: Mapping[str, Any], answer: Answer, sent: Mapping[str, Any]) -> tuple[str, str]:
    """(Fault, what was seen), both "" where the reply is whole."""
    said, reply, usage = choice.get("finish_reason"), reply_of(answer.reply), answer.usage
    reason = said.lower() if isinstance(said, str) else ""
    refusal = choice["message"].get("refusal")
    if reason in FILTERED:
        return "filtered", f"finish_reason {said}"
    if refusal:
        return "refused", str(refusal)
    if reason in CUT_OFF:
        return "cut_off", f"finish_reason {said} at max_tokens {sent['max_tokens']}"
    if not answer.usage_wrong and usage.completion_tokens >= sent["max_tokens"]:
        return "cut_off", f"{usage.completion_tokens} tokens at max_tokens {sent['max_tokens']}"
    if reason not in WHOLE:
        raise BadResponse(f"finish_reason {said!r} does not say that the reply is whole")
    if opens_thinking(reply.content):  # one that is closed is no longer in the content
        return "cut_off", "thinking without an end"
    if reply.calls and not sent.get("tools"):
        return "unexpected_calls", reply.calls[0].text
    if not says_something(reply.content) and not reply.calls:
        return "empty_reply", f"finish_reason {said}"
    return "", ""


class _Called(TypedDict):
    name: str
    arguments: str


class _Kept(TypedDict):
    content: str
    trace: str
    calls: list[_Called]


def reply_of(kept: Mapping[str, Any]) -> Reply:
    """A reply as a record keeps it. Raises RecordError for one of another form."""
    try:
        found = from_plain(_Kept, kept)
    except NotPlain as error:
        raise RecordError(
            f"the record of calls holds a reply that is none ({error}); restore it, or move it away to ask everything "
            "again"
        ) from error
    calls = tuple(ToolCall(call["name"], call["arguments"]) for call in found["calls"])
    return Reply(found["content"], found["trace"], calls)


def _messages(turns: tuple[Turn, ...]) -> list[dict[str, Any]]:
    """Turns as messages; calls are numbered, and results answer them in order."""
    messages: list[dict[str, Any]] = []
    waiting: list[str] = []
    for turn in turns:
        message: dict[str, Any] = {"role": turn.role, "content": turn.content}
        if turn.calls:
            named = [(f"call_{len(messages)}_{i}", call) for i, call in enumerate(turn.calls)]
            waiting = [name for name, _ in named]
            message["tool_calls"] = [
                {"id": name, "type": "function", "function": call._asdict()} for name, call in named
            ]
        if turn.role == "tool" and waiting:
            message["tool_call_id"] = waiting.pop(0)
        messages.append(message)
    return messages


def _tool(definition: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": definition["name"], "description": definition.get("description", "")}
    return {"type": "function", "function": function | {"parameters": definition["inputSchema"]}}


def reply_in(message: Any) -> Reply:
    """What a message says. Raises `BadMessages` for one that is none."""
    content, trace, calls = read_reply(message)
    return Reply(content, trace, tuple(ToolCall(call.name, call.said_arguments) for call in calls))


def _usage(reported: Any) -> Usage | None:
    """None when it is missing or not of whole numbers."""
    counts = [reported.get(name) for name in Usage._fields] if isinstance(reported, dict) else [None]
    return Usage(*counts) if all(type(count) is int for count in counts) else None
