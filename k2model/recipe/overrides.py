"""Dotted overrides: `phases.sft.optimizer.lr = 1e-5` on a typed recipe.

    phases.sft.steps                 99                                   a field
    phases.sft.optimizer             {"name": "adamw", "lr": 1e-5}        several fields; the others stay
    evaluation.families              ["facts", "code"]                    a list, whole
    phases.sft.mixture.+             {"source": "mine", "weight": 2}      one row more, or a list of them
    phases.mid_4.+                   {"like": "mid_4", "name": "mid_5"}   a row behind mid_4, begun as a copy of a row
    phases.mid_4                     null                                 without the row, or all rows so called
    phases                           [{"like": "sft", "parent": ""}]      a whole table, as a list of rows

A path walks dataclass fields; a row of a table (phases, sources, mixture, gates) is named by its `name`, or by its
first field where that names one row: a gate is `mid_4/countdown/think`, or `mid_1` where mid_1 has a single one.
Values are converted to the field's type or refused; as text (`--set`), lists and rows are JSON. Every override must
name an existing field: a path that leads nowhere is an error that suggests the nearest name, never a silent no-op.
What a change means for the rest of the recipe, as a parent that is gone, is `k2model.recipe.validate`'s to say.
"""

import json
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from k2model.errors import K2Error, nearest

MORE = "+"  # a path that ends so names a row that is not there yet
LIKE = "like"  # in a new row, the row that it begins as a copy of


class OverrideError(K2Error):
    """An override names no field of the recipe, or its value has the wrong type."""


def apply_overrides(recipe: Any, overrides: Mapping[str, Any]) -> Any:
    """A copy of `recipe` changed by each dotted path of `overrides`, in their order (see this module).

    Raises OverrideError with the path, what is wrong and the nearest name.
    """
    for path, value in overrides.items():
        recipe = _changed(recipe, path.split("."), value, path)
    return recipe


def value_at(recipe: Any, path: str) -> Any:
    """What lies at a dotted path: a field, property or row, or the rows so called. Raises OverrideError."""
    node: Any = recipe
    rest: Sequence[str] = [part for part in path.split(".") if part]
    try:
        while rest:
            if isinstance(node, tuple):
                at, rest = _found(node, rest, path)
                node = node[at[0]] if len(at) == 1 else tuple(node[place] for place in at)
            else:
                known = [f.name for f in fields(node)] if is_dataclass(node) else []
                known += [name for name, one in vars(type(node)).items() if isinstance(one, property)]
                head, rest = _known(rest[0], known, path), rest[1:]
                node = getattr(node, head)
    except OverrideError as error:
        raise OverrideError(str(error).removeprefix("override ")) from None
    return node


def parse_overrides(text: str, where: str) -> dict[str, Any]:
    """Overrides as a JSON object. Raises OverrideError that names `where` the text is from, also for a path that is
    given twice, of which JSON would keep the last alone."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise OverrideError(f"{where}: '{twice}' is given twice; several rows of a table are one list")
        return found

    wanted = f'{where} must be a JSON object of dotted fields, such as {{"phases.sft.steps": 99}}'
    found = _parsed(text, wanted, once)
    if not isinstance(found, dict):
        raise OverrideError(f"{wanted}, got {_short(text)}")
    return found


def _changed(node: Any, parts: Sequence[str], value: Any, path: str) -> Any:
    """A copy of the dataclass `node` in which the field that `parts` lead to is `value`."""
    head = _known(parts[0], [f.name for f in fields(node)], path)
    expected = get_type_hints(type(node))[head]
    return replace(node, **{head: _value(getattr(node, head), expected, parts[1:], value, path)})


def _value(current: Any, expected: Any, rest: Sequence[str], value: Any, path: str) -> Any:
    """A field's value, in which `rest` leads to what is changed; `current` is None where there is none yet."""
    if group := _optional_group(expected):
        if not rest and value in (None, "null"):
            return None
        if rest and current is None:
            raise OverrideError(
                f"override '{path}': there is no group whose '{rest[0]}' could be set; give a whole one, as an object "
                f"of its fields ({_field_names(group)})"
            )
        expected = group
    if row := _row_type(expected):
        return _table(current or (), row, rest, value, path)
    if is_dataclass(expected):
        if rest:
            return _changed(current, rest, value, path)
        said = f"override '{path}' names a group; name a field in it ({_field_names(expected)}), or give an object"
        return _filled(current, expected, _object(value, said), path)
    if rest:
        raise OverrideError(f"override '{path}': '{rest[0]}' goes below a plain value; drop '.{'.'.join(rest)}'")
    return convert(value, expected, path)


def _table(table: tuple[Any, ...], row: type, rest: Sequence[str], value: Any, path: str) -> tuple[Any, ...]:
    """A table in which `rest` names a row, a field of one, or a row that is to be added."""
    if not rest:
        names = ", ".join(map(row_name, table)) or "no rows"
        said = f"override '{path}' names a group ({names}); name one, add one with '.{MORE}', or give the whole list"
        return _with_more((), 0, row, _list(value, said), path, table)
    if rest == [MORE]:
        return _with_more(table, len(table), row, value, path)
    at, below = _found(table, rest, path)
    if not below and (value is None or value == "null"):
        return tuple(one for place, one in enumerate(table) if place not in at)
    if len(at) > 1:
        several = " or ".join(row_name(table[place]) for place in at)
        raise OverrideError(f"override '{path}': {len(at)} rows are called '{rest[0]}'; name one: {several}")
    place = at[0]
    if below == [MORE]:
        return _with_more(table, place + 1, row, value, path)
    if below:
        changed = _changed(table[place], below, value, path)
    else:
        said = (
            f"override '{path}' names a whole row; name one of its fields ({_field_names(row)}), or give an object of "
            "them, or null to remove it"
        )
        changed = _filled(table[place], row, _object(value, said), path)
    return (*table[:place], changed, *table[place + 1 :])


def _found(table: tuple[Any, ...], rest: Sequence[str], path: str) -> tuple[list[int], Sequence[str]]:
    """Places of the rows that the beginning of `rest` names (a name may have dots), and what of it goes below them."""
    names = [(row_name(one), str(getattr(one, fields(one)[0].name))) for one in table]
    for length in range(len(rest), 0, -1):
        wanted = ".".join(rest[:length])
        for form in (0, 1):
            if at := [place for place, those in enumerate(names) if those[form] == wanted]:
                return at, rest[length:]
    raise _unknown(rest[0], [whole for whole, _ in names], path)


def _with_more(
    table: tuple[Any, ...], place: int, row: type, value: Any, path: str, models: tuple[Any, ...] = ()
) -> tuple[Any, ...]:
    """A table with a row, or several, put in at a place; `models`: rows to be copies of, the table's own otherwise."""
    said = f"override '{path}' adds a row; give an object of its fields ({_field_names(row)}), or a list of such"
    if isinstance(value, str):
        value = _parsed(value, said)
    for one in value if isinstance(value, list | tuple) else [value]:
        if not (is_dataclass(row) and isinstance(one, row)):
            one = _new_row(models or table, row, _object(one, said), path)
        if row_name(one) in map(row_name, table):
            raise OverrideError(f"override '{path}': there is a row '{row_name(one)}' already; give another name")
        table, place = (*table[:place], one, *table[place:]), place + 1
    return table


def _new_row(table: tuple[Any, ...], row: type, values: Mapping[str, Any], path: str) -> Any:
    if LIKE not in values:
        return _filled(None, row, values, path)
    at, below = _found(table, str(values[LIKE]).split("."), f"{path}.{LIKE}")
    if below or len(at) > 1:
        raise _unknown(str(values[LIKE]), [row_name(one) for one in table], f"{path}.{LIKE}")
    return _filled(table[at[0]], row, {name: one for name, one in values.items() if name != LIKE}, path)


def _filled(current: Any, kind: Any, values: Mapping[str, Any], path: str) -> Any:
    """`current` with `values` in its fields (dotted names go deeper); a new `kind` where there is none."""
    if current is None:
        needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
        for name in values:
            _known(name.split(".")[0], [f.name for f in fields(kind)], f"{path}.{name}")
        if lacking := [name for name in needed if name not in values]:
            raise OverrideError(
                f"override '{path}': a {kind.__name__} needs {', '.join(lacking)} as well; in a table it may "
                f'begin as a copy of another row, by {{"{LIKE}": ROW}}'
            )
        hints = get_type_hints(kind)
        current = kind(**{name: _value(None, hints[name], [], values[name], f"{path}.{name}") for name in needed})
        values = {name: value for name, value in values.items() if name not in needed}
    for name, value in values.items():
        current = _changed(current, name.split("."), value, f"{path}.{name}")
    return current


def convert(value: Any, expected: Any, path: str) -> Any:
    """`value` as the type `expected`; numbers may be given as text, lists as JSON text, whole floats as int.

    Raises OverrideError with the path, the value, its type and the expected type.
    """
    origin = get_origin(expected)
    if origin is tuple and isinstance(value, str):
        value = _parsed(value, f'override \'{path}\' is a list, such as ["a", "b"]')
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(expected):
            return None
        return convert(value, next(a for a in get_args(expected) if a is not type(None)), path)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(convert(v, get_args(expected)[0], f"{path}[{i}]") for i, v in enumerate(value))
    if isinstance(expected, type) and issubclass(expected, Enum):
        allowed = [member.value for member in expected]
        return expected(_known(str(getattr(value, "value", value)), allowed, path))
    converted = _convert_scalar(value, expected)
    if converted is None:
        name = getattr(expected, "__name__", str(expected))
        raise OverrideError(f"override '{path}' = {value!r} is {type(value).__name__}, expected {name}")
    return converted


def _convert_scalar(value: Any, expected: Any) -> Any:
    """The value as bool, int, float or str, or None where that would lose or invent something."""
    if expected is bool:
        named = {"true": True, "false": False}
        return value if isinstance(value, bool) else named.get(str(value).lower())
    if isinstance(value, bool):
        return None
    try:
        if expected is int and isinstance(value, int | float | str):
            number = float(value)
            return int(number) if number.is_integer() else None
        if expected is float and isinstance(value, int | float | str):
            return float(value)
    except ValueError:
        return None
    return value if expected is str and isinstance(value, str) else None


def row_name(row: Any) -> str:
    """The name by which a row of a recipe's table is addressed: its `name`, or else its first field."""
    return str(getattr(row, "name", None) or getattr(row, fields(row)[0].name))


def _row_type(expected: Any) -> Any:
    """The dataclass of a table's rows, None for what is no table."""
    row = get_args(expected)[0] if get_origin(expected) is tuple else None
    return row if is_dataclass(row) else None


def _optional_group(expected: Any) -> Any:
    """The dataclass of a group that a recipe need not have, None for what is no such group."""
    kinds = get_args(expected) if get_origin(expected) in (Union, types.UnionType) else ()
    return next((kind for kind in kinds if is_dataclass(kind)), None)


def _object(value: Any, said: str) -> Mapping[str, Any]:
    if isinstance(value, str):
        value = _parsed(value, said)
    if not isinstance(value, Mapping):
        raise OverrideError(f"{said}, got {_short(value)}")
    return value


def _list(value: Any, said: str) -> Sequence[Any]:
    if isinstance(value, str):
        value = _parsed(value, said)
    if not isinstance(value, list | tuple):
        raise OverrideError(f"{said}, got {_short(value)}")
    return value


def _parsed(text: str, said: str, once: Any = None) -> Any:
    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise OverrideError(f"{said}, got {_short(text)}, which is no JSON: {error}") from None


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _field_names(kind: Any) -> str:
    return ", ".join(f.name for f in fields(kind))


def _known(name: str, names: Iterable[str], path: str) -> str:
    names = list(names)
    if name in names:
        return name
    raise _unknown(name, names, path)


def _unknown(name: str, names: Sequence[str], path: str) -> OverrideError:
    return OverrideError(f"override '{path}': unknown name '{name}'; {nearest(name, names)}")
