"""One message of a chat as others write it: whose it is, what it says, thinks and calls, and whether it is learned.

The tables are what is read. A field that is in none of them and says something is refused by its name: what it means
nobody guesses, and only fields that say where a turn is from (`PROVENANCE`) are left out. A member of an object that
is null is absent: columnar files fill all structs of a column to one shape.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from k2model.documents.json_text import BadMessages, as_json, parsed, without_nulls
from k2model.documents.markup import EFFORTS

#: Whose turn it is, in the words of others; `function_call` is the assistant's, and its content is the call.
ROLES = {
    "human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant",
    "ai": "assistant", "function_call": "assistant", "function": "tool", "observation": "tool", "ipython": "tool",
    "tool_response": "tool", "developer": "system",
}  # fmt: skip
#: K2's own names of thinking, which tell the effort as well.
EFFORT_OF_TRACE = {opening.strip("<>"): effort for effort, (opening, _) in EFFORTS.items()}
TRACES = ("trace", "reasoning", "reasoning_content", "thinking", "thinking_content", "thought", *EFFORT_OF_TRACE)
#: Content parts by their type: where their text stands. Those of thinking are a trace.
PARTS = {
    "text": ("text",), "input_text": ("text",), "output_text": ("text",),
    "thinking": ("thinking", "text"), "reasoning": ("reasoning", "text"),
}  # fmt: skip
THINKING_PARTS = ("thinking", "reasoning")
#: Whether a turn of the assistant is learned: names whose truth says that it is, and names whose truth says that not.
COUNTED = ("weight", "train", "training", "trainable", "loss", "loss_weight", "loss_scale", "loss_mask")
MASKED = ("masked", "mask")
#: Fields that only say what a message is called, where and when it was said, or how long it is.
PROVENANCE = frozenset((
    "id", "uuid", "message_id", "msg_id", "parent", "parent_id", "conversation_id", "turn_id", "turn_identifier",
    "turn", "index", "idx", "timestamp", "time", "date", "created", "created_at", "create_time", "updated_at", "model",
    "model_name", "source", "origin", "language", "lang", "country", "state", "hashed_ip", "header", "redacted",
    "toxic", "token_count", "num_tokens", "usage", "logprobs",
))  # fmt: skip
_CALL_PROVENANCE = frozenset(("id", "call_id", "index"))
_PART_PROVENANCE = frozenset(("id", "index", "signature", "cache_control"))
#: How a turn ended, by any name of it, and what servers say there of one that ended by itself; in lower case.
ENDINGS = ("finish_reason", "stop_reason", "done_reason")
WHOLE = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed", "tool_calls",
                   "function_call", "tool_use"})  # fmt: skip
_OPENING = re.compile(r"\s*<(think|think_fast|think_faster)>")
_LINE_ENDS = "\r\n"  # that stand around thinking within a text
_CONTAINERS = (str, list, dict)
_SHOWN = 60  # characters of a value that is refused


class Call(NamedTuple):
    """A call as it was made. arguments: JSON text or an object, as yet unread. id: "" without one. said: the whole call
    as JSON text, where it came as that and needs no other form."""

    name: str
    arguments: Any
    id: str = ""
    said: str = ""

    @property
    def text(self) -> str:
        """The call as K2 writes it between its tool tags. Raises `BadMessages` where its arguments are no object."""
        return self.said or f'{{"name": {as_json(self.name, "its name")}, "arguments": {self._checked_arguments()}}}'

    @property
    def said_arguments(self) -> str:
        """Its arguments as JSON text, or the text that they are instead, which whoever is called may judge."""
        said = self.arguments
        if said is None or (isinstance(said, str) and said.strip() in ("", "null")):
            return "{}"
        return said if isinstance(said, str) else as_json(without_nulls(said), "the arguments of a call")

    def _checked_arguments(self) -> str:
        what = f"the arguments of the call '{self.name[:_SHOWN]}'"
        said = self.said_arguments
        if not isinstance(parsed(said, what), dict):
            raise BadMessages(f"{what} are not a JSON object")
        return said


class Turn:
    """One message of a row: `message` as `markup.chat` takes it, and what of it bears on the whole dialogue: `effort`
    by K2's names of thinking, `tag` of thinking within the text, `calls`, the id of the call it `answers`, `tools`.

    Raises `BadMessages` for what is not understood. `ignored`: fields that the user wants left out.
    """

    def __init__(self, message: Any, number: int, ignored: frozenset[str]) -> None:
        self.where = where = f"turn {number}"
        if not isinstance(message, dict):
            raise BadMessages(f"{where} is not an object")
        self._ignored = ignored
        fields = _carrying(message, PROVENANCE | ignored if ignored else PROVENANCE)
        named = _text(fields, ("role", "from"), where, "role")
        role = ROLES.get(named or "", named)
        if role not in ("system", "user", "assistant", "tool"):
            raise BadMessages(
                f"{where} has role '{(named or '')[:_SHOWN]}'; expected system, user, assistant or tool, or one of "
                f"{', '.join(ROLES)}"
            )
        self.tools = fields.pop("tools", None) if number == 1 else None
        self.answers, self.effort, self.tag = "", "", ""
        self.calls: list[Call] = []
        content, trace = _content(fields, where, ignored)
        loss = _counts(fields, role, where)
        self.message: dict[str, Any] = {"role": role, "content": content}
        if role == "assistant":
            self.effort = _effort_of_names(message, ignored)
            self._reply(fields, named == "function_call", loss, trace)
        elif trace:
            raise BadMessages(f"{where} has parts of thinking, and is not the assistant's")
        if role == "tool":
            self.answers = str(fields.pop("tool_call_id", ""))
            fields.pop("name", None)
        _refuse_others(fields, where)

    def _reply(self, fields: dict[str, Any], is_call: bool, loss: bool, trace: str) -> None:
        """Reads what only the assistant does."""
        where, message = self.where, self.message
        traces = [said for said in (trace, _text(fields, TRACES, where, "thinking")) if said]
        if "<think" in message["content"] and opens_thinking(message["content"]):
            if not (found := inline_thinking(message["content"])):
                raise BadMessages(f"{where}: the content opens thinking and never closes it")
            self.tag, within, message["content"] = found
            traces += [within] if within else []
        if len(set(traces)) > 1:
            raise BadMessages(f"{where} has two kinds of thinking that differ; one of them is to go")
        if is_call:
            self.calls, message["content"] = _listed(message["content"], where, self._ignored), ""
        self.calls += _calls(fields, where, self._ignored)
        ending = _text(fields, ENDINGS, where, "way it ended")
        if loss and ending and ending.lower() not in WHOLE:
            raise BadMessages(
                f"{where} ended by '{ending[:_SHOWN]}'; a reply that was cut off or taken back is not learned"
            )
        if traces:
            message["trace"] = traces[0]
        if self.calls:
            message["tool_calls"] = [_call_text(call, where) for call in self.calls]
        if not loss:
            message["loss"] = False
        elif not says_something(message["content"]) and not self.calls:
            what = "thinks, and has neither content nor a call" if traces else "is empty, without content or a call"
            raise BadMessages(f"{where} {what}; a reply that says nothing is not learned")


def read_reply(message: Any) -> tuple[str, str, list[Call]]:
    """(Content, thinking, calls) of a server's message, whatever else it says. Raises `BadMessages` where these are not
    of a form that is known."""
    if not isinstance(message, dict):
        raise BadMessages("there is no message")
    try:
        fields = _carrying(message)
        content, trace = _content(fields, "the message", frozenset())
        trace = trace or _text(fields, TRACES, "the message", "thinking") or ""
        calls = _calls(fields, "the message", frozenset())
    except RecursionError as error:
        raise BadMessages("the message is nested too deeply") from error
    if not trace and (found := inline_thinking(content)):
        _, trace, content = found
    return content, trace, calls


def says_something(text: str) -> bool:
    """Whether a character of it is seen: none is of white space, of no width, or a control."""
    return any(character.isprintable() and character != " " for character in text)


def opens_thinking(content: str) -> bool:
    """Whether a text begins with one of K2's tags of thinking."""
    return bool(_OPENING.match(content))


def inline_thinking(content: str) -> tuple[str, str, str] | None:
    """(Name of its tag, thinking, what follows) of a text that begins with thinking in K2's tags, without the line ends
    around it; None for another text, and where the thinking is not closed."""
    if not (opened := _OPENING.match(content)):
        return None
    trace, closed, rest = content[opened.end() :].partition(f"</{opened[1]}>")
    return (opened[1], trace.strip(_LINE_ENDS), rest.lstrip(_LINE_ENDS)) if closed else None


def _effort_of_names(message: Mapping[str, Any], ignored: Collection[str]) -> str:
    """What K2's names of thinking say; one that is there and empty says it too, where it is alone."""
    if message.keys().isdisjoint(EFFORT_OF_TRACE):
        return ""
    there = [name for name in EFFORT_OF_TRACE if message.get(name) is not None and name not in ignored]
    named = [name for name in there if message[name]] or there
    return EFFORT_OF_TRACE[named[0]] if len(named) == 1 else ""


def _counts(fields: dict[str, Any], role: str, where: str) -> bool:
    """Whether a turn is learned, by all that its flags say. Takes them out of `fields`."""
    said: dict[str, bool] = {}
    for name in (*COUNTED, *MASKED) if fields else ():
        if name not in fields:
            continue
        value = fields.pop(name)
        if name == "mask" and not isinstance(value, bool):
            raise BadMessages(f"{where}: mask is {_shown(value)}, which may mean either; write masked, or weight")
        if not isinstance(value, int | float) or value not in (0, 1):
            raise BadMessages(
                f"{where}: {name} is {_shown(value)}; expected 0, 1, true or false: a turn counts whole or not at all"
            )
        said[name] = bool(value) != (name in MASKED)
    if len(set(said.values())) > 1:
        raise BadMessages(f"{where}: {' and '.join(said)} contradict each other")
    if role != "assistant" and any(said.values()):
        raise BadMessages(f"{where}: {next(iter(said))} asks for loss on a turn of the {role}, which is never learned")
    return all(said.values())


def _content(fields: dict[str, Any], where: str, ignored: frozenset[str]) -> tuple[str, str]:
    """(Text, thinking in parts of its own) of the content. Takes it out of `fields`."""
    content = _one(fields, ("content", "value"), where)
    if content is None or isinstance(content, str):
        return content or "", ""
    if not isinstance(content, list):
        raise BadMessages(f"{where}: the content is not text")
    said: dict[bool, list[str]] = {False: [], True: []}
    for part in content:
        if isinstance(part, str):
            said[False].append(part)
            continue
        inside = _carrying(part, _PART_PROVENANCE | ignored) if isinstance(part, dict) else {"type": part}
        kind = inside.pop("type", "text")
        if not isinstance(kind, str) or kind not in PARTS:
            raise BadMessages(f"{where} has parts that are no text: {_shown(kind)}")
        text = _text(inside, PARTS[kind], where, "part")
        _refuse_others(inside, f"{where}, a part of type {kind}")
        said[kind in THINKING_PARTS].append(text or "")
    return "".join(said[False]), "".join(said[True])


def _calls(fields: dict[str, Any], where: str, ignored: frozenset[str]) -> list[Call]:
    """What is called, by any of the names of it. Takes them out of `fields`."""
    if not fields:
        return []
    said = {name: fields.pop(name) for name in ("tool_calls", "function_call", "tool_call") if name in fields}
    said = {name: calls for name, calls in said.items() if not _is_empty(calls)}
    if len(said) > 1:
        raise BadMessages(f"{where} has {' and '.join(said)}; one of them is to go")
    return _listed(next(iter(said.values())), where, ignored) if said else []


def _listed(said: Any, where: str, ignored: frozenset[str]) -> list[Call]:
    """Calls, or one of them, as objects or JSON text."""
    listed = parsed(said, f"{where}: the calls") if isinstance(said, str) else said
    listed = listed if isinstance(listed, list) else [said]
    return [_call(call, where, ignored) for call in listed if not _is_empty(call)]


def _call(said: Any, where: str, ignored: frozenset[str]) -> Call:
    call = parsed(said, f"{where}: the calls") if isinstance(said, str) else said
    if not isinstance(call, dict):
        raise BadMessages(f"{where}: a tool call is {_shown(call)}, expected an object")
    as_k2_writes = set(call) == {"name", "arguments"} and isinstance(call["arguments"], dict)
    kept = said if isinstance(said, str) and as_k2_writes else ""
    fields = {name: value for name, value in call.items() if value is not None and name not in ignored}
    if fields.pop("type", "function") not in ("function", "function_call"):
        raise BadMessages(f"{where}: a tool call is of type {_shown(call['type'])}, expected function")
    made = next((str(fields[name]) for name in ("id", "call_id") if fields.get(name)), "")
    if inside := fields.pop("function", None):
        _refuse_others(_carrying(fields, _CALL_PROVENANCE), f"{where}, a tool call")
        if not isinstance(inside, dict):
            raise BadMessages(f"{where}: the function of a tool call is {_shown(inside)}, expected an object")
        fields = {name: value for name, value in inside.items() if name not in ignored}
    name, arguments = fields.pop("name", None), fields.pop("arguments", None)
    if not isinstance(name, str) or not says_something(name):
        raise BadMessages(f"{where}: a tool call needs a name")
    _refuse_others(_carrying(fields, _CALL_PROVENANCE), f"{where}, the call '{name[:_SHOWN]}'")
    return Call(name, arguments, made, kept)


def _call_text(call: Call, where: str) -> str:
    try:
        return call.text
    except BadMessages as error:
        raise BadMessages(f"{where}: {error}") from error


def _carrying(fields: Mapping[str, Any], unread: Collection[str] = ()) -> dict[str, Any]:
    """The fields that say something and are not `unread`."""
    return {
        name: value
        for name, value in fields.items()
        if (value or (value is not None and not isinstance(value, _CONTAINERS))) and name not in unread
    }


def _is_empty(value: Any) -> bool:
    """Whether nothing stands at any depth of it, as in a struct that was filled up."""
    if isinstance(value, dict | list):
        return all(map(_is_empty, value.values() if isinstance(value, dict) else value))
    return value is None or value == ""


def _one(fields: dict[str, Any], names: Sequence[str], where: str) -> Any:
    """What the fields of one meaning say, None without any. Takes them out of `fields`; they may not differ."""
    found = [name for name in names if name in fields] if fields else []
    if not found:
        return None
    first = fields.pop(found[0])
    for name in found[1:]:
        if fields.pop(name) != first:
            raise BadMessages(f"{where}: {found[0]} and {name} say different things; one of them is to go")
    return first


def _text(fields: dict[str, Any], names: Sequence[str], where: str, what: str) -> str | None:
    said = _one(fields, names, where)
    if said is not None and not isinstance(said, str):
        raise BadMessages(f"{where}: the {what} is {_shown(said)}, expected text")
    return said


def _refuse_others(fields: Mapping[str, Any], where: str) -> None:
    for name, value in fields.items():
        if _is_empty(value):
            continue
        raise BadMessages(
            f"{where}: the field '{name[:_SHOWN]}' ({_shown(value)}) is not understood; rename or drop it, or name it "
            "in fields.ignored of the source"
        )


def _shown(value: Any) -> str:
    said = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"
