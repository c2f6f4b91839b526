"""The mapping of columns: how a dotted name is found in a row, and what a column may hold."""

import difflib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa

from k2model.corpus.ingest.batch import EXTRAS
from k2model.recipe.schema import FieldMapping

MAX_NAMES = 40  # named in a message


def content_field(mapping: FieldMapping) -> str:
    return mapping.messages or mapping.text


def extra_fields(mapping: FieldMapping) -> dict[str, str]:
    """Column name of each field of `EXTRAS` that is mapped."""
    return {name: getattr(mapping, name) for name in EXTRAS if getattr(mapping, name)}


def getter(name: str) -> Callable[[Any], Any]:
    """Finds `name` in a JSON object; None when it, or an object above it, is not there."""
    parts = name.split(".")

    def found(row: Any) -> Any:
        if name in row:
            return row[name]
        for part in parts:
            row = row.get(part) if isinstance(row, dict) else None
        return row

    return found


def extra_getters(mapping: FieldMapping) -> dict[str, Callable[[Any], str | None]]:
    """What finds each mapped field of `EXTRAS` in a JSON object, as text. They raise `TypeError` for other values."""

    def reader(name: str, column: str) -> Callable[[Any], str | None]:
        get, convert = getter(column), definitions if name == "tools" else as_text
        return lambda row: convert(get(row))

    return {name: reader(name, column) for name, column in extra_fields(mapping).items()}


def absent(name: str, names: Iterable[str], path: str) -> str:
    """`column 'txt' not found; cc/a.jsonl has text, url; did you mean 'text'?`"""
    known = sorted(names)
    near = difflib.get_close_matches(name, known, 1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    listed = ", ".join(known[:MAX_NAMES]) + (", ..." if len(known) > MAX_NAMES else "")
    return f"column '{name}' not found; {path} has {listed}{hint}"


def as_text(value: Any) -> str | None:
    """What a column beside the content says; a list of texts (licences) is joined by `AND`.

    Raises `TypeError` for objects, truth values and fractions.
    """
    if value is None or type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    if type(value) is list and all(type(item) is str for item in value):
        return " AND ".join(value)
    raise TypeError(type(value).__name__)


def definitions(value: Any) -> str | None:
    """Definitions of tools as JSON text, spelled as chat templates spell them."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def strings(values: Sequence[str | None]) -> pa.Array:
    return pa.array(values, pa.string())
