"""Small JSON files, typed: dataclasses as JSON and strictly back, in bounds of size and depth.

Manifests, records, leases, ledgers and the like are read by all, and people, other tools and a stranger's store write
them. So reading takes nothing for granted: bytes beyond a bound, nesting beyond `DEEPEST`, a name that is given twice,
a field that lacks, a value of another type and a number that is none are errors which name the field, what is there and
what was expected. A dataclass refuses fields it does not know; a `TypedDict` checks its own and keeps the others, for
files that other versions of the project wrote.

A type that is written in another way than by its fields says so itself: `to_plain()` and the class method
`of_plain(plain, store, where)`.
"""

import json
import math
import sys
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from k2model.errors import K2Error, nearest
from k2model.units import readable_size

SMALL = 16_000_000  # bytes that are read of a file unless its reader says otherwise
DEEPEST = 64  # objects and lists in each other
LONGEST_KEY = 20  # digits of a whole number that is a name
T = TypeVar("T")
_NAMES = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}


class NotPlain(K2Error):
    """A value is not what the type that is read wants; the message begins with the dotted field."""


def to_plain(value: Any) -> Any:
    """Dataclasses, enums, tuples, lists and mappings with keys of str or int as what JSON has. Raises TypeError for any
    other type, ValueError for a number that is NaN or infinite."""
    if (own := getattr(value, "to_plain", None)) is not None:
        return own()
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: to_plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): to_plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} cannot be written as JSON")
    if value is None or type(value) in (str, bool, int, float):
        return value
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def canonical(plain: Any) -> bytes:
    """The one way in which a value of `to_plain` is written: sorted, a line for each value, so that people can read
    it and two writers of the same give the same bytes."""
    return (json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def parsed(data: bytes, most: int = SMALL) -> Any:
    """JSON in UTF-8 of at most `most` bytes, not nested deeper than `DEEPEST`, in which no object has a name twice, no
    number is infinite or NaN and all text can be written. Raises NotPlain."""
    if len(data) > most:
        raise NotPlain(f"it has more than {readable_size(most)}, which is the most that is read of such a file")
    try:
        found = json.loads(
            data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite
        )
        if b"\\u" in data:
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise NotPlain("it has half of a surrogate pair, which is no text") from None
    except UnicodeDecodeError as error:
        raise NotPlain(f"it is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise NotPlain(f"it is nested deeper than {DEEPEST} levels") from None
    except ValueError as error:
        raise NotPlain(f"it is no JSON: {error}") from None
    _check_depth(found)
    return found


def read_as(kind: type[T], data: bytes, most: int = SMALL, store: str = "") -> T:
    """What a file of these bytes says, as `parsed` and `from_plain` read it. Raises NotPlain."""
    return from_plain(kind, parsed(data, most), store)


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        if depth > DEEPEST:
            raise NotPlain(f"it is nested deeper than {DEEPEST} levels")
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]


def from_plain(kind: type[T], plain: Any, store: str = "", where: str = "") -> T:
    """A value of `kind` (a dataclass, or any type that its fields may have) out of what `parsed` gives.

    store: URI of the one that references point into. where: dotted field in messages. Raises NotPlain.
    """
    value: T = _read(kind, plain, store, where)
    return value


def _read(kind: Any, plain: Any, store: str, where: str) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return plain
    if origin in (Union, types.UnionType):
        inner = next(one for one in get_args(kind) if one is not type(None))
        return None if plain is None else _read(inner, plain, store, where)
    if (own := getattr(kind, "of_plain", None)) is not None:
        return own(plain, store, where)
    if is_typeddict(kind):
        return _typed_dict(kind, plain, store, where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        known = [one.value for one in kind]
        if not isinstance(plain, str) or plain not in known:
            raise NotPlain(f"{_at(where)} is {_short(plain)}; {nearest(str(plain), known)}")
        return kind(plain)
    if is_dataclass(kind) and isinstance(kind, type):
        return dataclass_of(kind, plain, store, where)
    if origin is tuple:
        if not isinstance(plain, list):
            raise NotPlain(f"{_at(where)} is {_short(plain)}, expected a list")
        item, *rest = get_args(kind)
        if item is str and rest == [...] and all(type(one) is str for one in plain):
            return tuple(plain)  # thousands of names, in each model of an old line
        kinds = [item] * len(plain) if rest == [...] else [item, *rest]
        if len(kinds) != len(plain):
            raise NotPlain(f"{_at(where)} has {len(plain)} values, expected {len(kinds)}")
        return tuple(
            _read(of, one, store, f"{where}[{i}]") for i, (of, one) in enumerate(zip(kinds, plain, strict=True))
        )
    if origin is list:
        return [*_read(tuple[get_args(kind)[0], ...], plain, store, where)]  # type: ignore[misc]
    if origin in (dict, Mapping):
        of_key, of_value = get_args(kind)
        named = _object(plain, where)
        return {
            _key(of_key, name, where): _read(of_value, one, store, f"{where}.{name}") for name, one in named.items()
        }
    if kind is float and type(plain) is int and abs(plain) <= sys.float_info.max:
        return float(plain)
    if type(plain) is not kind:
        raise NotPlain(f"{_at(where)} is {_short(plain)}, expected {_NAMES.get(kind, kind.__name__)}")
    return plain


def dataclass_of(kind: type[T], plain: Any, store: str, where: str) -> T:
    """A dataclass from its fields alone, also of a type with `of_plain`, for use there. Raises NotPlain."""
    hints, declared = _declared(kind)  # type: ignore[arg-type]
    named = _object(plain, where)
    for name in named:
        if name not in declared:
            raise NotPlain(f"{_at(_below(where, name))} is no field; {nearest(name, [*declared])}")
    for name, one in declared.items():
        if name not in named and one.default is MISSING and one.default_factory is MISSING:
            raise NotPlain(f"{_at(_below(where, name))} is missing")
    read = {name: _read(hints[name], one, store, _below(where, name)) for name, one in named.items()}
    try:
        return kind(**read)
    except ValueError as error:  # what the type itself checks, as the path of a file
        raise NotPlain(f"{_at(where)}: {error}") from None


def _typed_dict(kind: Any, plain: Any, store: str, where: str) -> dict[str, Any]:
    named = _object(plain, where)
    if missing := sorted(kind.__required_keys__ - named.keys()):
        raise NotPlain(f"{_at(_below(where, missing[0]))} is missing")
    hints = _hints(kind)
    return {
        name: _read(hints[name], one, store, _below(where, name)) if name in hints else one
        for name, one in named.items()
    }


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _below(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


@cache
def _declared(kind: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return get_type_hints(kind), {one.name: one for one in fields(kind) if one.init}


def _object(plain: Any, where: str) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise NotPlain(f"{_at(where)} is {_short(plain)}, expected an object of named values")
    return plain


def _key(kind: Any, name: str, where: str) -> Any:
    if kind is str:
        return name
    if not name.isdecimal() or len(name) > LONGEST_KEY:
        raise NotPlain(f"{_at(where)} has the name {name[:60]!r}, expected a whole number")
    return int(name)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{next(name for name in names if names.count(name) > 1)}' is given twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is larger than any number that can be read")
    return number


def _at(where: str) -> str:
    return f"'{where}'" if where else "the whole"


def _short(plain: Any) -> str:
    """The beginning of a value, of which no more is written: YAML says 9**10 values in ten lines."""
    text = ""
    for piece in json.JSONEncoder(ensure_ascii=False, default=str).iterencode(plain):
        text += piece
        if len(text) > 60:
            return f"{text[:57]}..."
    return text
