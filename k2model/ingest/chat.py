"""Chat rows as other datasets write them, brought into the turns that `k2model.documents.markup` writes in K2's frame.

Read are `role`/`content` (OpenAI, Hugging Face) and `from`/`value` (ShareGPT), as lists or JSON text; a trace in
`trace`, `reasoning_content`, or K2's own `think`, `think_fast`, `think_faster`, which also tell the effort; tool calls
as `tool_call` (JSON text) or `tool_calls`; definitions of tools in the first message or a column of their own. A
dialogue has one effort. Images and other parts that are no text are refused.
"""

import json
from collections.abc import Mapping
from typing import Any

from k2model.documents.markup import EFFORTS, Segment, chat
from k2model.ingest.batch import definitions

_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "function": "tool",
          "observation": "tool", "developer": "system"}  # fmt: skip
_EFFORT_OF_TRACE = {opening.strip("<>"): effort for effort, (opening, _) in EFFORTS.items()}
_TRACES = ("trace", "reasoning_content", *_EFFORT_OF_TRACE)


class BadMessages(ValueError):
    """Why turns cannot be written; becomes the detail of a quarantined row."""


def dialogue(messages: Any, tools: str | None, effort: str | None, default: str) -> tuple[list[Segment], str]:
    """Segments of a dialogue, and its first user turn. Raises `BadMessages`.

    tools: JSON text of their definitions. effort: what the row says; `default` counts when neither it nor the traces
    say anything.
    """
    if isinstance(messages, str):
        messages = _parsed(messages)
    if not isinstance(messages, list) or not messages:
        raise BadMessages("expected a list with at least one turn")
    turns = [_turn(message, index) for index, message in enumerate(messages, 1)]
    if tools := _definitions(tools or definitions(messages[0].get("tools") or None)):
        if turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": ""})
        turns[0]["tools"] = tools
    if all(turn["role"] != "assistant" for turn in turns):
        raise BadMessages("no turn is the assistant's, so there is nothing to learn")
    said = {_EFFORT_OF_TRACE[key] for m in messages for key in _EFFORT_OF_TRACE if m.get(key) is not None}
    said |= {effort} if effort else set()
    if len(said) > 1:
        raise BadMessages(f"the dialogue mixes the efforts {', '.join(sorted(said))}")
    chosen = next(iter(said), default)
    if chosen not in EFFORTS:
        raise BadMessages(f"effort '{chosen}' is not one of {', '.join(EFFORTS)}")
    user = next((turn["content"] for turn in turns if turn["role"] == "user"), "")
    return chat(turns, chosen), user


def _definitions(text: str | None) -> str:
    """Definitions of tools spelled as the chat template spells them, "" when there are none."""
    listed = _parsed(text) if text else []
    if not isinstance(listed, list) or any(not isinstance(tool, dict) for tool in listed):
        raise BadMessages("the definitions of tools are not a list of objects")
    return json.dumps(listed, ensure_ascii=False) if listed else ""


def _parsed(text: str) -> Any:
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadMessages(f"not JSON: {error}") from error


def _turn(message: Any, index: int) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise BadMessages(f"turn {index} is not an object")
    role = str(message.get("role") or message.get("from"))
    role = _ROLES.get(role, role)
    if role not in ("system", "user", "assistant", "tool"):
        raise BadMessages(f"turn {index} has role '{role}'; expected system, user, assistant or tool")
    turn: dict[str, Any] = {"role": role, "content": _content(message, index)}
    if role == "assistant":
        turn["trace"] = next((message[key] for key in _TRACES if message.get(key)), "")
        turn["tool_calls"] = _calls(message, index)
        if not isinstance(turn["trace"], str):
            raise BadMessages(f"turn {index}: the trace is not text")
    return turn


def _content(message: Mapping[str, Any], index: int) -> str:
    content = message.get("content", message.get("value"))
    if isinstance(content, list):
        if any(not isinstance(part, dict) or not isinstance(part.get("text"), str) for part in content):
            raise BadMessages(f"turn {index} has parts that are no text")
        return "".join(part["text"] for part in content)
    if content is not None and not isinstance(content, str):
        raise BadMessages(f"turn {index}: the content is not text")
    return content or ""


def _calls(message: Mapping[str, Any], index: int) -> list[str]:
    """Each call as `{"name": ..., "arguments": {...}}`, in the words of the chat template."""
    if message.get("tool_call"):
        return [str(message["tool_call"])]
    made = []
    for call in message.get("tool_calls") or []:
        function = call.get("function") or call if isinstance(call, dict) else {}
        name, arguments = function.get("name"), function.get("arguments")
        if not isinstance(name, str) or arguments is None:
            raise BadMessages(f"turn {index}: a tool call needs a name and arguments")
        said = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        made.append(f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {said}}}')
    return made
