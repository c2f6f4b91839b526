"""How a document is written in K2's special tokens, and which of its tokens are targets.

The one place that knows the ChatML frame, the three effort tags and the loss rule, so that what the
model is trained on and what it is asked at evaluation cannot drift apart. It only builds segments;
turning them into token ids is `k2model.tokens`.

A segment is a plain dict (it goes to Parquet and back unchanged): `kind` is `text`, `frame` or `special`,
`text` the text or the special token's name, `loss_mask` whether its tokens are targets. `frame` is what ChatML
writes around turns, roles and line feeds: it becomes tokens together with the `text` beside it, but nobody
wrote it, so nothing cleans, masks or judges it. A tag that occurs inside a `text` segment is ordinary text.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

BOS, EOS, PAD = "<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"
IM_START, IM_END = "<|im_start|>", "<|im_end|>"
TOOLS, TOOLS_END = "<tools>", "</tools>"
TOOL_CALLS, TOOL_CALLS_END = "<tool_calls>", "</tool_calls>"
THINK, THINK_END = "<think>", "</think>"

#: In a vocabulary that is learned here, the order is the token id; an adopted one has ids of its own.
SPECIAL_TOKENS: tuple[str, ...] = (
    BOS,
    EOS,
    PAD,
    IM_START,
    IM_END,
    THINK,
    THINK_END,
    "<think_fast>",
    "</think_fast>",
    "<think_faster>",
    "</think_faster>",
    TOOLS,
    TOOLS_END,
    TOOL_CALLS,
    TOOL_CALLS_END,
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
)
_SPECIAL = frozenset(SPECIAL_TOKENS)

#: Reasoning effort -> its opening and closing tag. Low effort leaves the trace empty.
EFFORTS: dict[str, tuple[str, str]] = {
    "low": ("<think_faster>", "</think_faster>"),
    "medium": ("<think_fast>", "</think_fast>"),
    "high": (THINK, THINK_END),
}


def trace_at(effort: str, medium: str, high: str) -> str:
    """The thinking before an answer at an effort. Raises `KeyError` for an unknown effort."""
    return {"low": "", "medium": medium, "high": high}[effort]


class Segment(TypedDict):
    kind: str
    text: str
    loss_mask: bool


#: A chat turn: `role` and `content`; for the assistant also `trace`, `tool_call` (JSON text) or several in
#: `tool_calls`, and `loss`, False where it is context and not learned; for the system `tools` (JSON text of their
#: definitions).
Message = Mapping[str, Any]


def special(name: str, loss_mask: bool = False) -> Segment:
    """The segment of one special token. Raises `ValueError` when there is no such token."""
    if name not in _SPECIAL:
        raise ValueError(f"'{name}' is not a special token; there are {', '.join(SPECIAL_TOKENS)}")
    return {"kind": "special", "text": name, "loss_mask": loss_mask}


def text(content: str, loss_mask: bool = False) -> Segment:
    return {"kind": "text", "text": content, "loss_mask": loss_mask}


def frame(content: str) -> Segment:
    """What ChatML writes around turns; never a target."""
    return {"kind": "frame", "text": content, "loss_mask": False}


def plain(content: str) -> list[Segment]:
    """`<bos> TEXT <eos>` with loss on all but bos, which is never a target."""
    return [special(BOS), text(content, loss_mask=True), special(EOS, loss_mask=True)]


def plain_prompt(content: str) -> list[Segment]:
    """`<bos> TEXT`: what a completion (a fact, a retrieval context, lines of code) is continued from. No targets."""
    return [special(BOS), text(content)]


def reasoning_prompt(prompt: str, think: bool) -> list[Segment]:
    """Up to where the model goes on: after `<think>`, or after an empty trace when not thinking."""
    opening = [special(BOS), text(prompt), special(THINK)]
    return opening if think else [*opening, special(THINK_END)]


def reasoning(prompt: str, trace: str, answer: str) -> list[Segment]:
    """`<bos> PROMPT <think> TRACE </think> ANSWER <eos>`; an empty `trace` is the direct form.

    Loss is on TRACE, `</think>`, ANSWER and `<eos>`; in the direct form on ANSWER and `<eos>`.
    """
    ending = [text(answer, loss_mask=True), special(EOS, loss_mask=True)]
    if not trace:
        return [*reasoning_prompt(prompt, think=False), *ending]
    return [
        *reasoning_prompt(prompt, think=True),
        text(trace, loss_mask=True),
        special(THINK_END, loss_mask=True),
        *ending,
    ]


def chat_prompt(messages: Sequence[Message], effort: str) -> list[Segment]:
    """The dialogue so far and the opening of the assistant's turn, its effort tag included.

    Nothing in a prompt is a target, earlier turns of the assistant neither. Raises `ValueError` like `chat`.
    """
    history = [segment for i, message in enumerate(messages) for segment in _turn(message, effort, first=i == 0)]
    opening = _assistant_opening(effort, first=not messages)
    return [special(BOS), *_context(history), *opening]


def chat(messages: Sequence[Message], effort: str) -> list[Segment]:
    """A whole dialogue in ChatML; loss on the assistant's tokens after its opening effort tag, in turns that count.

    Raises `ValueError` for an unknown effort or role.
    """
    turns = (_turn(message, effort, first=i == 0) for i, message in enumerate(messages))
    return [special(BOS), *(segment for turn in turns for segment in turn)]


def last_turn(messages: Sequence[Message], effort: str) -> list[Segment]:
    """A dialogue of which the assistant's last turn alone is learned: loss on it, earlier turns without their thinking.

    K2 makes T such samples of a conversation with T turns of the assistant. Raises `ValueError` like `chat`, and when
    the last turn is not the assistant's.
    """
    *before, last = messages
    if last["role"] != "assistant":
        raise ValueError(f"the last turn has role '{last['role']}'; expected assistant")
    shown = [{name: value for name, value in message.items() if name != "trace"} for message in before]
    return [*chat_prompt(shown, effort), *_assistant_reply(last, effort)]


def joined(segments: Iterable[Mapping[str, object]]) -> str:
    """What a person reads: the text of all segments, special tokens by name."""
    return "".join(str(segment["text"]) for segment in segments)


def _context(segments: Iterable[Segment]) -> list[Segment]:
    """Segments that are read and never a target."""
    return [{"kind": one["kind"], "text": one["text"], "loss_mask": False} for one in segments]


def _turn(message: Message, effort: str, first: bool) -> list[Segment]:
    role = message["role"]
    if role == "assistant":
        reply = _assistant_reply(message, effort)
        return [*_assistant_opening(effort, first), *(reply if message.get("loss", True) else _context(reply))]
    if role not in ("system", "user", "tool"):
        raise ValueError(f"a chat turn has role '{role}'; expected system, user, assistant or tool")
    said = [text(message["content"])] if message["content"] else []
    if tools := message.get("tools"):
        said += [*([frame("\n")] if said else []), special(TOOLS), text(tools), special(TOOLS_END)]
    return [*_turn_start(role, first), *said, special(IM_END)]


def _turn_start(role: str, first: bool) -> list[Segment]:
    return [*([] if first else [frame("\n")]), special(IM_START), frame(f"{role}\n")]


def _assistant_opening(effort: str, first: bool) -> list[Segment]:
    if effort not in EFFORTS:
        raise ValueError(f"'{effort}' is not a reasoning effort; expected one of {', '.join(EFFORTS)}")
    return [*_turn_start("assistant", first), special(EFFORTS[effort][0])]


def _assistant_reply(message: Message, effort: str) -> list[Segment]:
    reply = []
    if message.get("trace"):
        reply.append(text(message["trace"], loss_mask=True))
    reply.append(special(EFFORTS[effort][1], loss_mask=True))
    if message.get("content"):
        reply.append(text(message["content"], loss_mask=True))
    one = [message["tool_call"]] if message.get("tool_call") else []
    for call in message.get("tool_calls") or one:
        reply += [
            special(TOOL_CALLS, loss_mask=True),
            text(call, loss_mask=True),
            special(TOOL_CALLS_END, loss_mask=True),
        ]
    return [*reply, special(IM_END, loss_mask=True)]
