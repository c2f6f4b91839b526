"""Dotted overrides: `phases.sft.optimizer.lr = 1e-5` on a typed recipe.

A path walks dataclass fields; an element of a table (phases, sources, mixture, gates) is named by its
`name`, or else its first field. Values are converted to the field's type or refused. Every override must
name an existing field: a path that leads nowhere is an error that suggests the nearest name, never a silent no-op.
"""

import types
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from k2model.errors import K2Error, nearest


class OverrideError(K2Error):
    """An override names no field of the recipe, or its value has the wrong type."""


def apply_overrides(recipe: Any, overrides: Mapping[str, Any]) -> Any:
    """Return a copy of `recipe` with each dotted path of `overrides` set to its value."""
    for path, value in overrides.items():
        recipe = _set(recipe, path.split("."), value, path)
    return recipe


def _set(node: Any, parts: list[str], value: Any, path: str) -> Any:
    head, rest = parts[0], parts[1:]
    if isinstance(node, tuple):
        names = [element_name(element) for element in node]
        if names.count(head) > 1:
            raise OverrideError(
                f"override '{path}': {names.count(head)} rows are called '{head}'; change them in the recipe"
            )
        index = names.index(_known(head, names, path))
        if not rest:
            raise OverrideError(f"override '{path}' names a whole row; name one of its fields: {_field_names(node[0])}")
        return (*node[:index], _set(node[index], rest, value, path), *node[index + 1 :])
    if not is_dataclass(node):
        raise OverrideError(f"override '{path}': '{head}' goes below a plain value; drop '.{'.'.join(parts)}'")
    _known(head, [f.name for f in fields(node)], path)
    current = getattr(node, head)
    if rest:
        return replace(node, **{head: _set(current, rest, value, path)})  # type: ignore[type-var]
    if is_dataclass(current) or _is_table(current):
        inner = [element_name(e) for e in current] if _is_table(current) else [f.name for f in fields(current)]
        raise OverrideError(f"override '{path}' names a group; name a field in it: {', '.join(inner)}")
    expected = get_type_hints(type(node))[head]
    return replace(node, **{head: convert(value, expected, path)})  # type: ignore[type-var]


def convert(value: Any, expected: Any, path: str) -> Any:
    """`value` as the type `expected`; numbers may be given as text, whole floats as int.

    Raises OverrideError with the path, the value, its type and the expected type.
    """
    origin = get_origin(expected)
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


def element_name(element: Any) -> str:
    """The name by which an element of a recipe table is addressed: its `name`, or else its first field."""
    return str(getattr(element, "name", None) or getattr(element, fields(element)[0].name))


def value_at(recipe: Any, path: str) -> Any:
    """What a recipe has at a dotted path, as an override would name it. The path must lead somewhere."""
    for name in path.split("."):
        if isinstance(recipe, tuple):
            recipe = next(element for element in recipe if element_name(element) == name)
        else:
            recipe = getattr(recipe, name)
    return recipe


def _is_table(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and is_dataclass(value[0])


def _field_names(element: Any) -> str:
    return ", ".join(f.name for f in fields(element))


def _known(name: str, names: Iterable[str], path: str) -> str:
    names = list(names)
    if name in names:
        return name
    raise OverrideError(f"override '{path}': unknown name '{name}'; {nearest(name, names)}")
