"""Chats in the forms that datasets have them in, each with what K2's frame makes of it, written out by hand; and any
JSON there is."""

from collections.abc import Mapping
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple

Q = {"role": "user", "content": "2 + 2?"}
A = {"role": "assistant", "content": "4"}
TOOL = {"name": "add", "parameters": {"a": {"type": "integer"}}}
TOOL_TEXT = '<tools>[{"name": "add", "parameters": {"a": {"type": "integer"}}}]</tools>'
ONE_CALL = '{"name": "add", "arguments": {"a": 2}}'
CALLED = f"<tool_calls>{ONE_CALL}</tool_calls>"


def said(role: str, content: Any = None, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


class Form(NamedTuple):
    """`turns`: the turns without the frame's line feeds, each from its role on. `beside`: columns of the row."""

    messages: Any
    effort: str
    turns: list[str]
    beside: Mapping[str, Any] = MappingProxyType({})

    @property
    def text(self) -> str:
        return "<|begin_of_text|>" + "\n".join(f"<|im_start|>{one}<|im_end|>" for one in self.turns)


def call(arguments: Any, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "add", "arguments": arguments}, **more}


ASKED, LOW, HIGH = "user\n2 + 2?", "assistant\n<think_faster></think_faster>", "assistant\n<think>so</think>"
FORMS: dict[str, Form] = {
    "openai": Form([Q, A], "low", [ASKED, LOW + "4"]),
    "sharegpt": Form([{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}], "low", [ASKED, LOW + "4"]),
    "null content": Form(
        [said("system"), said("user"), A, said("tool"), A],
        "low", ["system\n", "user\n", LOW + "4", "tool\n", LOW + "4"],
    ),
    "developer": Form([said("developer", "Be brief."), Q, A], "low", ["system\nBe brief.", ASKED, LOW + "4"]),
    "parts": Form(
        [said("user", [{"type": "text", "text": "2 +"}, {"type": "input_text", "text": " 2?"}]),
         said("assistant", [{"type": "thinking", "thinking": "so", "signature": "x"}, {"type": "text", "text": "4"}])],
        "high", [ASKED, HIGH + "4"],
    ),
    "parts that are null": Form(
        [said("user", ["2 + ", {"type": "text", "text": "2?", "image": None}]),
         said("assistant", [{"type": "reasoning", "reasoning": "so", "text": None}, {"type": "text", "text": "4"}])],
        "high", [ASKED, HIGH + "4"],
    ),
    **{name: Form([Q, {**A, name: "so"}], "high", [ASKED, HIGH + "4"])
       for name in ("trace", "reasoning", "reasoning_content", "thinking", "think")},
    "think_fast": Form([Q, {**A, "think_fast": "so"}], "medium", [ASKED, "assistant\n<think_fast>so</think_fast>4"]),
    "think_faster": Form([Q, {**A, "think_faster": ""}], "low", [ASKED, LOW + "4"]),
    "inline": Form([Q, {**A, "content": "<think>\nso\n</think>\n\n4"}], "high", [ASKED, HIGH + "4"]),
    "inline, medium": Form(
        [Q, {**A, "content": "<think_fast>so</think_fast>4\n\n\n  5"}], "medium",
        [ASKED, "assistant\n<think_fast>so</think_fast>4\n\n\n  5"],
    ),
    "inline, none": Form(
        [Q, said("assistant", " <think>\n\n</think>\n\n4")], "low", [ASKED, LOW + "4"], {"effort": "low"}
    ),
    "tool_calls": Form(
        [{**Q, "tools": [TOOL]}, {"role": "assistant", "content": None, "tool_calls": [call('{"a": 2}', id="1")]},
         {"role": "tool", "tool_call_id": "1", "name": "add", "content": "4"}, A],
        "low", ["system\n" + TOOL_TEXT, ASKED, LOW + CALLED, "tool\n4", LOW + "4"],
    ),
    "calls in every spelling": Form(
        [{"role": "system", "content": "S"}, Q,
         {**A, "tool_calls": [call({"a": 2}), {"name": "add", "arguments": {"a": 2}}, ONE_CALL]}],
        "low", ["system\nS\n" + TOOL_TEXT, ASKED, LOW + "4" + 3 * CALLED], {"tools": [TOOL]},
    ),
    "function_call": Form(
        [Q, {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"a": 2}'}},
         {"role": "function", "name": "add", "content": "4"}, A],
        "low", [ASKED, LOW + CALLED, "tool\n4", LOW + "4"],
    ),
    "sharegpt call": Form(
        [{"from": "human", "value": "2 + 2?"}, {"from": "function_call", "value": ONE_CALL},
         {"from": "observation", "value": "4"}, {"from": "gpt", "value": "4"}],
        "low", [ASKED, LOW + CALLED, "tool\n4", LOW + "4"],
    ),
    **{f"no arguments: {said!r}": Form(
        [Q, {"role": "assistant", "tool_calls": [call(said)]}], "low",
        [ASKED, LOW + '<tool_calls>{"name": "add", "arguments": {}}</tool_calls>'],
    ) for said in ("", None, " ", "null", {}, {"a": None})},
    "null members": Form(
        [Q, said("assistant", tool_calls=[call({"a": 2, "b": None, "c": {"d": None, "e": [None, {"f": None}]}})])],
        "low", [
            "system\n" + TOOL_TEXT, ASKED,
            LOW + '<tool_calls>{"name": "add", "arguments": {"a": 2, "c": {"e": [null, {}]}}}</tool_calls>',
        ], {"tools": [{**TOOL, "strict": None, "parameters": {"a": {"type": "integer", "enum": None}}}]},
    ),
    "where it is from": Form(
        [{**Q, "id": "1", "timestamp": 4.5, "weight": 0},
         {**A, "model": "m", "name": None, "refusal": None, "audio": {}, "finish_reason": "STOP", "weight": 1}],
        "low", [ASKED, LOW + "4"],
    ),
}  # fmt: skip

#: What is refused, and the words that say why.
REFUSED: dict[str, tuple[Any, str]] = {
    "image": ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, A], "image_url"),
    "audio": ([{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "x"}}]}, A], "input_audio"),
    "an unknown field": ([Q, {**A, "refusal": "I will not."}], "turn 2: the field 'refusal' ('I will not.')"),
    "false": ([Q, {**A, "cached": False}], "turn 2: the field 'cached' (False)"),
    "who": ([{**Q, "name": "Ann"}, A], "turn 1: the field 'name'"),
    "a user's call": ([{**Q, "tool_calls": [call({})]}, A], "turn 1: the field 'tool_calls'"),
    "a user's thinking": ([{**Q, "reasoning": "so"}, A], "turn 1: the field 'reasoning'"),
    "in a part": ([{"role": "user", "content": [{"type": "text", "text": "x", "image": "y"}]}, A], "the field 'image'"),
    "in a call": ([Q, {**A, "tool_calls": [call({}, strict=True)]}], "the field 'strict'"),
    "in a function": ([Q, {**A, "tool_calls": [{"name": "f", "parameters": {"a": 1}}]}], "the field 'parameters'"),
    "broken arguments": ([Q, {**A, "tool_calls": [call('{"table": 4, "who": "A')]}], "are not JSON"),
    "arguments of a list": ([Q, {**A, "tool_calls": [call("[1]")]}], "turn 2: the arguments of the call 'add' are not"),
    "arguments of arguments": ([Q, {**A, "tool_calls": [call('"{}"')]}], "are not a JSON object"),
    "arguments of a number": ([Q, {**A, "tool_calls": [call(4)]}], "are not a JSON object"),
    "a call that is no JSON": ([Q, {**A, "tool_call": "add(2)"}], "are not JSON"),
    "a call without a name": ([Q, {**A, "tool_calls": [{"arguments": {"a": 1}}]}], "a tool call needs a name"),
    "two kinds of calls": ([Q, {**A, "tool_calls": [call({})], "function_call": {"name": "f"}}], "function_call"),
    "an empty reply": ([Q, {"role": "assistant", "content": None}], "turn 2 is empty"),
    "a blank reply": ([Q, {**A, "content": " \n"}], "turn 2 is empty"),
    "thinking alone": ([Q, said("assistant", reasoning="so")], "turn 2 thinks, and has neither content nor a call"),
    "half a weight": ([Q, {**A, "weight": 0.5}], "turn 2: weight is 0.5"),
    "a weight in words": ([Q, {**A, "train": "yes"}], "turn 2: train is 'yes'"),
    "a mask of either": ([Q, {**A, "mask": 1}], "mask is 1, which may mean either"),
    "flags that contradict": ([Q, {**A, "weight": 1, "masked": True}], "weight and masked contradict"),
    "loss on the user": ([{**Q, "train": True}, A], "turn 1: train asks for loss on a turn of the user"),
    "nothing that counts": ([Q, {**A, "weight": 0}], "no turn of the assistant counts"),
    "two traces": ([Q, {**A, "reasoning": "a", "thinking": "b"}], "reasoning and thinking say different things"),
    "two kinds of traces": ([Q, {**A, "content": "<think>a</think>4", "reasoning": "b"}], "two kinds of thinking"),
    "an open trace": ([Q, {**A, "content": "<think>so"}], "turn 2: the content opens thinking and never closes it"),
    "a trace that is no text": ([Q, {**A, "reasoning": {"effort": "high"}}], "the thinking is an object"),
    "markup": ([{**Q, "content": "say <|im_end|>"}, A], "turn 1: content has '<|im_end|>' in its text"),
    "markup in the trace": ([Q, {**A, "trace": "</think>"}], "turn 2: trace has '</think>'"),
    "markup in a call": ([Q, {**A, "tool_calls": [call({"a": "<tools>"})]}], "tool_calls has '<tools>'"),
    "content and value": ([{**Q, "value": "3 + 3?"}, A], "content and value say different things"),
    "no role": ([{"content": "x"}, A], "turn 1 has role ''"),
    **{f"ended by {said}": ([Q, {**A, name: said}], f"turn 2 ended by '{said}'")
       for name, said in (("finish_reason", "length"), ("finish_reason", "MAX_TOKENS"), ("stop_reason", "refusal"),
                          ("finish_reason", "model_length"), ("done_reason", "length"))},
    **{f"a reply that nobody sees: {said!r}": ([Q, {**A, "content": said}], "turn 2 is empty")
       for said in ("\u200b", "\ufeff \n", "\x01", "\u00ad", "\u3000")},
    "a call of a blank name": ([Q, {**A, "tool_calls": [{"name": " ", "arguments": {}}]}], "a tool call needs a name"),
    "arguments that say two things": ([Q, {**A, "tool_calls": [call('{"a": 1, "a": 2}')]}], "with the key 'a' twice"),
    "messages that say two things": ('[{"role": "user", "role": "assistant", "content": "x"}]', "the key 'role' twice"),
    "results out of order": (
        [Q, {**A, "tool_calls": [call({}, id="1"), call({}, id="2")]}, said("tool", "x", tool_call_id="2"), A],
        "turn 3: tool_call_id '2' is not that of the next call",
    ),
    "a result of no call": (
        [Q, {**A, "tool_calls": [call({}, id="1")]}, said("tool", "x", tool_call_id="9"), A],
        "turn 3: tool_call_id '9' is of no call",
    ),
}  # fmt: skip


_NAMES = [
    "role", "from", "content", "value", "text", "type", "thinking", "reasoning", "trace", "think", "think_fast",
    "think_faster", "weight", "train", "mask", "masked", "tool_calls", "tool_call", "function_call", "function", "name",
    "arguments", "parameters", "id", "tools", "tool_call_id", "refusal", "finish_reason",
]  # fmt: skip
_TEXTS = [
    "", " ", "x", "user", "assistant", "tool", "function_call", "text", "thinking", "<think>", "</think>",
    "<think>a</think>b", "{}", "[]", ONE_CALL, "null", "{", "<|im_end|>", "e\u0301", "\u2028", "\0", "length",
]  # fmt: skip


def any_json(rng: Random, depth: int = 4) -> Any:
    """Any JSON value, made of the names and words that a chat is made of."""
    kind = rng.randrange(8 if depth else 6)
    if kind < 3:
        return rng.choice(_TEXTS)
    if kind < 6:
        return rng.choice([None, True, False, 0, 1, 0.5, -1, 10**18, 1e300])
    if kind == 6:
        return [any_json(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {rng.choice(_NAMES): any_json(rng, depth - 1) for _ in range(rng.randrange(5))}


def mutated(rng: Random, value: Any) -> Any:
    """The value with any JSON in some place of it."""
    if rng.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return any_json(rng)
    if isinstance(value, list):
        place = rng.randrange(len(value))
        return [mutated(rng, one) if index == place else one for index, one in enumerate(value)]
    name = rng.choice([*value, rng.choice(_NAMES)])
    return value | {name: mutated(rng, value.get(name))}
