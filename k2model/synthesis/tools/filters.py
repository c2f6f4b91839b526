"""The form in which tool dialogues are judged and learned, one call a turn, and K2's rules for dropping them by name
(TxT360-3efforts): the first rule that applies is the reason.

Ours is `bad_arguments`: a call whose arguments are no JSON object or break the tool's own schema.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from k2model.synthesis.conversation import Turn
from k2model.synthesis.tools.toolbox import parse_arguments, schema_fault


class Dialogue(NamedTuple):
    """`tools` are JSON texts of MCP definitions: `name`, `description`, `inputSchema`."""

    tools: tuple[str, ...]
    turns: tuple[Turn, ...]


def unrolled(turns: Sequence[Turn]) -> Iterator[Turn]:
    """Turns with one call each: of several calls, each goes before its own result where the results follow."""
    at = 0
    while at < len(turns):
        turn = turns[at]
        results = list(itertools.takewhile(lambda following: following.role == "tool", turns[at + 1 :]))
        at += 1
        if len(turn.calls) < 2 or len(results) != len(turn.calls):
            yield turn
            continue
        for number, (call, result) in enumerate(zip(turn.calls, results, strict=True)):
            yield turn._replace(calls=(call,)) if number == 0 else Turn("assistant", calls=(call,))
            yield result
        at += len(results)


def no_tools_and_no_call(dialogue: Dialogue) -> bool:
    return not dialogue.tools and not any(turn.calls for turn in dialogue.turns)


def undefined_tool(dialogue: Dialogue) -> bool:
    defined = {definition["name"] for definition in _definitions(dialogue)}
    return any(call.name not in defined for turn in dialogue.turns for call in turn.calls)


def call_without_observation(dialogue: Dialogue) -> bool:
    """Whether a turn with calls is not followed by as many results."""
    for at, turn in enumerate(dialogue.turns):
        following = dialogue.turns[at + 1 : at + 1 + len(turn.calls)]
        if len(following) < len(turn.calls) or any(result.role != "tool" for result in following):
            return True
    return False


def empty_last_turn(dialogue: Dialogue) -> bool:
    last = dialogue.turns[-1] if dialogue.turns else None
    return last is None or last.role != "assistant" or not (last.content.strip() or last.calls)


def bad_arguments(dialogue: Dialogue) -> bool:
    schemas = {definition["name"]: definition["inputSchema"] for definition in _definitions(dialogue)}
    for call in (call for turn in dialogue.turns for call in turn.calls):
        arguments = parse_arguments(call.arguments)
        if arguments is None or (call.name in schemas and schema_fault(schemas[call.name], arguments)):
            return True
    return False


FILTERS: dict[str, Callable[[Dialogue], bool]] = {
    rule.__name__: rule
    for rule in (no_tools_and_no_call, undefined_tool, call_without_observation, empty_last_turn, bad_arguments)
}


def dropped_for(dialogue: Dialogue) -> str | None:
    """The name of the first rule that drops the dialogue."""
    return next((name for name, rule in FILTERS.items() if rule(dialogue)), None)


def _definitions(dialogue: Dialogue) -> list[dict[str, Any]]:
    return [json.loads(tool) for tool in dialogue.tools]
