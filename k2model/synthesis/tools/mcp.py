"""Tool dialogues of many formats in one: definitions as MCP writes them, one call a turn, results as turns of `tool`.

Read are OpenAI's messages, ShareGPT's (`from`, `value`), xLAM's flat parameters, Hermes' `<tool_call>` and Glaive's
`<functioncall>` in text. Calls that a turn makes at once are unrolled into one turn each, with its own result.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from k2model.synthesis.conversation import ToolCall, Turn

_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
}
_TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
    "tuple": "array",
    "set": "array",
}
_IN_TEXT = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>|<functioncall>\s*(.*?)\s*(?:<\|endoftext\|>|$)", re.DOTALL)


class Dialogue(NamedTuple):
    """`tools` are JSON texts of MCP definitions."""

    tools: tuple[str, ...]
    turns: tuple[Turn, ...]


def normalise(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> Dialogue:
    """Raises `ValueError` for a definition without a name or a turn without a role."""
    definitions = tuple(json.dumps(normalise_tool(tool), ensure_ascii=False) for tool in tools)
    turns = tuple(_turn(message) for message in messages)
    return Dialogue(definitions, tuple(unrolled(turns)))


def normalise_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """`name`, `description`, `inputSchema`."""
    inner = tool["function"] if isinstance(tool.get("function"), Mapping) else tool
    if not isinstance(inner.get("name"), str) or not inner["name"]:
        raise ValueError(f"a tool definition has no name: {str(tool)[:80]}")
    schema: Mapping[str, Any] = next(
        (inner[key] for key in ("inputSchema", "input_schema", "parameters") if inner.get(key)), {}
    )
    return {"name": inner["name"], "description": inner.get("description") or "", "inputSchema": _schema(schema)}


def normalise_call(call: Mapping[str, Any]) -> ToolCall:
    """A call in any of the formats; arguments that are no JSON object stay as they are, for the filters to see."""
    inner = call["function"] if isinstance(call.get("function"), Mapping) else call
    name = inner.get("name") or inner.get("tool") or inner.get("function") or ""
    arguments: Any = next((inner[key] for key in ("arguments", "parameters", "args", "input") if key in inner), {})
    if not isinstance(arguments, str):
        return ToolCall(str(name), json.dumps(arguments, ensure_ascii=False))
    try:
        return ToolCall(str(name), json.dumps(json.loads(arguments), ensure_ascii=False))
    except ValueError:
        return ToolCall(str(name), arguments)


def unrolled(turns: Sequence[Turn]) -> Iterator[Turn]:
    """Turns with one call each: of several calls, each goes before its own result where the results follow."""
    at = 0
    while at < len(turns):
        turn = turns[at]
        results = _results_after(turns, at)
        at += 1
        if len(turn.calls) < 2 or len(results) != len(turn.calls):
            yield turn
            continue
        for number, (call, result) in enumerate(zip(turn.calls, results, strict=True)):
            yield turn._replace(calls=(call,)) if number == 0 else Turn("assistant", calls=(call,))
            yield result
        at += len(results)


def _results_after(turns: Sequence[Turn], at: int) -> list[Turn]:
    results: list[Turn] = []
    for turn in turns[at + 1 :]:
        if turn.role != "tool":
            break
        results.append(turn)
    return results


def _turn(message: Mapping[str, Any]) -> Turn:
    role = message.get("role") or message.get("from")
    if not isinstance(role, str):
        raise ValueError(f"a turn has neither 'role' nor 'from': {str(message)[:80]}")
    content = message.get("content", message.get("value"))
    text = content if isinstance(content, str) else "" if content is None else json.dumps(content, ensure_ascii=False)
    role = _ROLES.get(role, role)
    trace = str(message.get("trace") or message.get("reasoning_content") or "")
    if role != "assistant":
        return Turn(role, text)
    calls = [normalise_call(call) for call in message.get("tool_calls") or []]
    if message.get("function_call"):
        calls.append(normalise_call(message["function_call"]))
    if not calls:
        calls = [normalise_call(call) for call in _calls_in(text)]
        text = _IN_TEXT.sub("", text).strip() if calls else text
    return Turn(role, text, trace, tuple(calls))


def _calls_in(text: str) -> Iterator[Mapping[str, Any]]:
    for match in _IN_TEXT.finditer(text):
        parsed = _loose(match[1] or match[2])
        yield from parsed if isinstance(parsed, list) else [parsed] if isinstance(parsed, dict) else []


def _loose(text: str) -> Any:
    """JSON, or what Glaive writes: JSON whose `arguments` are a text in single quotes. None when it is neither."""
    for read in (json.loads, ast.literal_eval, lambda t: json.loads(re.sub(r"'(\{.*\})'", r"\1", t, flags=re.DOTALL))):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _schema(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema of an object; flat parameters (name -> type, description) become its properties."""
    if parameters.get("type") == "object" or "properties" in parameters:
        return {"type": "object", "properties": {}} | dict(parameters)
    properties = {name: _property(value) for name, value in parameters.items() if isinstance(value, Mapping)}
    optional = {name for name, value in parameters.items() if "optional" in str(value.get("type", ""))}
    required = [name for name in properties if name not in optional and "default" not in parameters[name]]
    return {"type": "object", "properties": properties, "required": required}


def _property(value: Mapping[str, Any]) -> dict[str, Any]:
    written = str(value.get("type", "")).lower()
    name = next((part for part in re.split(r"[^a-z]+", written) if part), "")
    known = _TYPES.get(name, name)
    described = {"description": value["description"]} if value.get("description") else {}
    return ({"type": known} if known in {*_TYPES.values()} else {}) | described
