"""Chats as others write them, read into the turns that `k2model.documents.markup` writes in K2's frame: the one reader.

What is read of a message is in the tables of `messages` (and docs/data_sources.md); the released chat template
(`k2model.tokens.chat_template`) knows the same forms, so that a row has the ids that the template gives its messages.
A row is used in full or refused with the field that is not understood.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from k2model.documents.json_text import BadMessages, as_json, parsed, without_nulls
from k2model.documents.markup import EFFORTS, SPECIAL_TOKENS, Message
from k2model.documents.messages import EFFORT_OF_TRACE, Turn, says_something

_OTHERS = ("system", "user", "tool")  # roles but the assistant's
_TOKEN = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))


class Dialogue(NamedTuple):
    """`messages` as `markup.chat` takes them, at `effort`; `user` is the first user turn, "" without one."""

    messages: list[Message]
    effort: str
    user: str


def read_dialogue(
    messages: Any,
    *,
    tools: Any = None,
    system: str | None = None,
    effort: str | None = None,
    default: str = "low",
    ignored: Collection[str] = (),
) -> Dialogue:
    """The turns of a row. Raises `BadMessages` for one that cannot be used in full, with what is not understood.

    messages: a list of objects, or JSON text of one. tools: definitions, a list or JSON text of one, beside those in
    the first message. system: the system's turn, where it stands apart. effort: what the row says; else K2's names and
    tags of thinking do. Where nothing does, `default` counts, but thinking is of high effort: at low there is none.
    ignored: fields of messages, parts and calls that the user wants left out.
    """
    try:
        messages = parsed(messages, "the messages") if isinstance(messages, str) else messages
        if not isinstance(messages, list) or not messages:
            raise BadMessages("expected a list with at least one turn")
        if not tools and not system and (plain := _plain(messages)):
            return Dialogue(plain, _effort((), effort, default), _asked(plain))
        left_out = frozenset(ignored)
        read = [Turn(message, number, left_out) for number, message in enumerate(messages, 1)]
        _check_results(read)
        turns = [turn.message for turn in read]
        _add_system(turns, system)
        _add_tools(turns, tools, read[0].tools)
    except RecursionError as error:
        raise BadMessages("the messages are nested too deeply") from error
    for number, turn in enumerate(turns, 1):
        _check_text(turn, number)
    replies = [turn for turn in turns if turn["role"] == "assistant"]
    if not replies:
        raise BadMessages("no turn is the assistant's, so there is nothing to learn")
    if not any(turn.get("loss", True) for turn in replies):
        raise BadMessages("no turn of the assistant counts, so there is nothing to learn")
    return Dialogue(list(turns), _effort(read, effort, default), _asked(turns))


def _plain(messages: list[Any]) -> list[Message]:
    """The turns as they stand where each is a role of K2's and a text, nothing of it is to be refused, and one is the
    assistant's, as of most rows there are. None of those that take a longer look."""
    replies = 0
    for message in messages:
        if type(message) is not dict or len(message) != 2:
            return []
        role, said = message.get("role"), message.get("content")
        if type(said) is not str or ("<" in said and _TOKEN.search(said)):
            return []
        if role == "assistant":
            if not says_something(said):
                return []
            replies += 1
        elif role not in _OTHERS:
            return []
    return messages if replies else []


def _asked(turns: Sequence[Mapping[str, Any]]) -> str:
    return next((turn["content"] for turn in turns if turn["role"] == "user"), "")


def _effort(turns: Sequence[Turn], stated: str | None, default: str) -> str:
    """The one effort of a dialogue. The tag `<think>` within a text is everybody's: what a row states outweighs it."""
    tags = {turn.tag for turn in turns if turn.tag} - ({"think"} if stated else set())
    said = {turn.effort for turn in turns if turn.effort} | {EFFORT_OF_TRACE[tag] for tag in tags}
    said |= {stated} if stated else set()
    if len(said) > 1:
        raise BadMessages(f"the dialogue mixes the efforts {', '.join(sorted(said))}")
    thinks = any(turn.message.get("trace") for turn in turns)
    chosen = next(iter(said), "high" if thinks and default == "low" else default)
    if chosen not in EFFORTS:
        raise BadMessages(f"effort '{chosen[:60]}' is not one of {', '.join(EFFORTS)}")
    return chosen


def _add_system(turns: list[dict[str, Any]], system: str | None) -> None:
    if not system:
        return
    if turns[0]["role"] != "system":
        turns.insert(0, {"role": "system", "content": ""})
    if turns[0]["content"] not in ("", system):
        raise BadMessages("turn 1 and the column of the system say different things; one of them is to go")
    turns[0]["content"] = system


def _add_tools(turns: list[dict[str, Any]], *said: Any) -> None:
    offered = {text for text in map(_definitions, said) if text}
    if len(offered) > 1:
        raise BadMessages("turn 1 and the column of tools define different tools; one of them is to go")
    for text in offered:
        if turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": ""})
        turns[0]["tools"] = text


def _definitions(said: Any) -> str:
    """Definitions of tools spelled as the chat template spells them, "" when there are none."""
    listed = parsed(said, "the definitions of tools") if isinstance(said, str) and said else said or []
    if not isinstance(listed, list) or any(not isinstance(tool, dict) for tool in listed):
        raise BadMessages("the definitions of tools are not a list of objects")
    return as_json(without_nulls(listed), "the definitions of tools") if listed else ""


def _check_results(turns: Sequence[Turn]) -> None:
    """K2's frame has no ids, so results have to come in the order of the calls that they answer."""
    made: set[str] = set()
    waiting: list[str] = []
    for turn in turns:
        if ids := [call.id for call in turn.calls if call.id]:
            waiting, made = ids, made | set(ids)
        if not turn.answers or not made:
            continue
        if waiting[:1] != [turn.answers]:
            why = "is not that of the next call" if turn.answers in made else "is of no call before it"
            raise BadMessages(f"{turn.where}: tool_call_id '{turn.answers[:60]}' {why}; K2's frame has no ids")
        waiting = waiting[1:]


def _check_text(turn: Mapping[str, Any], number: int) -> None:
    """What is said holds no token of the markup: in a text that the template renders it would act as one."""
    for field, said in turn.items():
        for text in said if isinstance(said, list) else [said]:
            if isinstance(text, str) and "<" in text and (found := _TOKEN.search(text)):
                raise BadMessages(
                    f"turn {number}: {field} has '{found[0]}' in its text, which the template would make a token of"
                )
