"""One sha256 for a value made of literals and dataclasses: the base of every identity.

The encoding is canonical and tagged by type, so that equal hashes mean equal values: `1`, `1.0`,
`True` and `"1"` differ, a list equals a tuple, a dict does not depend on its order. It depends on
neither Python's hash seed nor `repr`. A type it does not know is an error and never `str()`, since a
default `repr` holds a memory address. Not covered: sets, bytes, arrays and values that refer to
themselves.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from k2model.recipe.fields import identity_fields, is_place


def fingerprint(value: Any) -> str:
    """Returns the sha256 (64 hex digits) of the canonical encoding of `value`.

    Known are None, bool, int, float, str, enums (class name and value), lists and tuples, dicts with
    str keys, and dataclasses (class name, names and values of the fields that bear identity).

    Raises:
        TypeError: an unknown type (subclasses of the builtin types count as unknown, e.g.
            `numpy.float64`), with the dotted path to it; or a field that names a place.
        ValueError: a NaN, which is not equal to itself and so cannot bear identity.
    """
    digest = hashlib.sha256()
    for part in _encode(value, ""):
        digest.update(part.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _encode(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Enum):  # before str and int, which an enum may derive from
        yield f"enum {type(value).__name__}("
        yield from _encode(value.value, f"{path}.value")
        yield ")"
    elif is_dataclass(value) and not isinstance(value, type):
        yield f"class {type(value).__name__}"
        yield from _encode_named(_bearing_identity(value, path), path)
    elif type(value) is dict:
        yield "dict"
        yield from _encode_named(_checked_keys(value, path), path)
    elif type(value) in (list, tuple):
        yield f"list {len(value)}["
        for i, item in enumerate(value):
            yield from _encode(item, f"{path}[{i}]")
        yield "]"
    else:
        yield _encode_scalar(value, path)


def _encode_named(named: dict[str, Any], path: str) -> Iterator[str]:
    yield f" {len(named)}{{"
    for name in sorted(named):
        yield _SCALARS[str](name) + "="
        yield from _encode(named[name], f"{path}.{name}" if path else name)
    yield "}"


def _encode_scalar(value: Any, path: str) -> str:
    encode = _SCALARS.get(type(value))
    if encode is None:
        raise TypeError(
            f"cannot fingerprint {path or 'the value'}: its type is {type(value).__module__}."
            f"{type(value).__qualname__}; expected None, bool, int, float, str, Enum, list, tuple, dict or a "
            "dataclass of these. Convert it to one of them where the config is made"
        )
    if type(value) is float and math.isnan(value):
        raise ValueError(f"cannot fingerprint {path or 'the value'}: it is NaN. Use None for 'no value'")
    return encode(value)


def _bearing_identity(value: Any, path: str) -> dict[str, Any]:
    for declared in fields(value):
        if is_place(declared) and (named := getattr(value, declared.name)):
            raise TypeError(
                f"cannot fingerprint {path}{'.' if path else ''}{declared.name}: it names a place, {named}, and what "
                "lies there decides what is made. Give the config `without_places` (k2model.recipe.fields), and beside "
                "it a digest of what is read there"
            )
    return {f.name: getattr(value, f.name) for f in identity_fields(value)}


def _checked_keys(value: dict[Any, Any], path: str) -> dict[str, Any]:
    for key in value:
        if type(key) is not str:
            raise TypeError(
                f"cannot fingerprint {path or 'the value'}: its key {key!r} is a {type(key).__name__}, expected str"
            )
    return value


def _float(value: float) -> str:
    # float.hex is exact and the same on every platform. 0.0 == -0.0 in every use a config has for it.
    return f"float {(value + 0.0).hex()};"


_SCALARS: dict[type, Callable[[Any], str]] = {
    type(None): lambda _: "none;",
    bool: lambda value: f"bool {int(value)};",
    int: lambda value: f"int {value};",
    float: _float,
    str: lambda value: f"str {len(value)}:{value};",
}
