"""JSON that rows carry: parsed strictly, spelled as chat templates spell it, and refused where it can mean two things.

A parser keeps the last of two members of one name and drops the others, so texts are looked at for them as well.
"""

import json
from typing import Any


class BadMessages(ValueError):
    """Why a chat cannot be used; names turn and field."""


def parsed(text: str, what: str) -> Any:
    """The value that JSON text is. Raises `BadMessages`, which calls it `what`, also of one that has a key twice."""
    import orjson

    try:
        value = orjson.loads(text)
    except ValueError as error:
        raise BadMessages(f"{what} are not JSON: {error}") from error
    if text.count('":') != count_keys(value) and (twice := repeated_keys(text)):
        raise BadMessages(f"{what} have an object with the key '{twice[0]}' twice; one of them is to go")
    return value


def as_json(value: Any, what: str) -> str:
    """JSON text as chat templates spell it. Raises `BadMessages` for what JSON has no form for."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadMessages(f"{what} cannot be written as JSON: {error}") from error


def without_nulls(value: Any) -> Any:
    """A JSON value without the members of objects that are null, at any depth."""
    if isinstance(value, dict):
        return {name: without_nulls(member) for name, member in value.items() if member is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def count_keys(value: Any) -> int:
    """How many members the objects of a JSON value have. A text that was written in the usual way has as many `":`,
    unless it has some within strings or a key twice, so that `repeated_keys` is asked of few."""
    found, waiting = 0, [value]
    while waiting:
        inside = waiting.pop()
        if type(inside) is dict:
            found += len(inside)
            inside = inside.values()
        elif type(inside) is not list:
            continue
        for member in inside:
            if type(member) is dict or type(member) is list:
                waiting.append(member)
    return found


def repeated_keys(text: str) -> list[str]:
    """The keys that an object of JSON text has more than once; none where the text is not JSON."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        if len(names := {name for name, _ in pairs}) < len(pairs):
            found.extend(name for name in names if sum(name == other for other, _ in pairs) > 1)

    try:
        json.loads(text, object_pairs_hook=look)
    except (ValueError, RecursionError):
        return []
    return sorted(set(found))
