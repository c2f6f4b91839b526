"""Dataclasses as JSON and strictly back: what the ledger and the manifests of batches are written in.

Reading takes nothing for granted: people and other tools write these files. A field that is not known, one that lacks,
a value of another type and a number that is none are errors that name the field, what is there and what was expected.
A reference to an artifact is written without its place, since the artifact lies in the store that the file lies in,
and without what a clock measured (`seconds`), so that two runs of the same write the same.
"""

import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from k2model.artifacts import ArtifactRef
from k2model.errors import K2Error, nearest

CLOCK = "seconds"
T = TypeVar("T")
_NAMES = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}


class NotPlain(K2Error):
    """A value is not what the type that is read wants; the message begins with the dotted field."""


def to_plain(value: Any) -> Any:
    """Dataclasses, enums, tuples, lists and mappings with keys of str or int as what JSON has. Raises TypeError for any
    other type, ValueError for a number that is NaN or infinite."""
    if isinstance(value, ArtifactRef):
        stats = {name: to_plain(one) for name, one in value.stats.items() if name != CLOCK}
        return {"kind": value.kind, "digest": value.digest, "identity": value.identity, "stats": stats}
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


def parsed(data: bytes) -> Any:
    """JSON in UTF-8, in which no object has a name twice, no number is NaN and all text can be written. Raises
    NotPlain."""
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
        if b"\\u" in data:
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except UnicodeEncodeError:
        raise NotPlain("it has half of a surrogate pair, which is no text") from None
    except UnicodeDecodeError as error:
        raise NotPlain(f"it is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise NotPlain("it is nested too deep") from None
    except ValueError as error:
        raise NotPlain(f"it is no JSON: {error}") from None


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
    if kind is ArtifactRef:
        return _reference(plain, store, where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        known = [one.value for one in kind]
        if not isinstance(plain, str) or plain not in known:
            raise NotPlain(f"{_at(where)} is {_short(plain)}; {nearest(str(plain), known)}")
        return kind(plain)
    if is_dataclass(kind):
        return _dataclass(kind, plain, store, where)
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
    if origin in (dict, Mapping):
        of_key, of_value = get_args(kind)
        named = _object(plain, where)
        return {
            _key(of_key, name, where): _read(of_value, one, store, f"{where}.{name}") for name, one in named.items()
        }
    if kind is float and type(plain) is int:
        return float(plain)
    if type(plain) is not kind:
        raise NotPlain(f"{_at(where)} is {_short(plain)}, expected {_NAMES.get(kind, kind.__name__)}")
    return plain


def _dataclass(kind: Any, plain: Any, store: str, where: str) -> Any:
    hints, declared = _declared(kind)
    named = _object(plain, where)
    for name in named:
        if name not in declared:
            raise NotPlain(f"{_at(f'{where}.{name}' if where else name)} is no field; {nearest(name, [*declared])}")
    for name, one in declared.items():
        if name not in named and one.default is MISSING and one.default_factory is MISSING:
            raise NotPlain(f"{_at(f'{where}.{name}' if where else name)} is missing")
    read = {name: _read(hints[name], one, store, f"{where}.{name}" if where else name) for name, one in named.items()}
    try:
        return kind(**read)
    except ValueError as error:  # what the type itself checks, as the path of a file
        raise NotPlain(f"{_at(where)}: {error}") from None


def _reference(plain: Any, store: str, where: str) -> ArtifactRef:
    stated = {name: one for name, one in _object(plain, where).items() if name != "uri"}
    made: ArtifactRef = _dataclass(ArtifactRef, {**stated, "uri": ""}, store, where)
    return ArtifactRef(made.kind, f"{store}/{made.name}", made.digest, made.identity, made.stats)


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
    if not name.isdecimal():
        raise NotPlain(f"{_at(where)} has the name {name!r}, expected a whole number")
    return int(name)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{next(name for name in names if names.count(name) > 1)}' is given twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _at(where: str) -> str:
    return f"'{where}'" if where else "the whole"


def _short(plain: Any) -> str:
    text = json.dumps(plain, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
