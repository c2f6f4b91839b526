"""What a field of a recipe is to identity: part of it, a way of running, or a place.

`hardware(...)` says how a step is run, not what it computes. `place(...)` names a place on a disk or an object store:
where something lies never bears identity, what lies there does, and only the step that reads it can say what that is.
That it does cannot be forgotten: a config that still names a place cannot be fingerprinted
(`k2model.artifacts.identity`). `when_set(...)` is part of it where it is not empty: whoever does not use what it says
keeps the identities that a recipe had without it.
"""

from collections.abc import Iterator
from dataclasses import Field, field, fields, is_dataclass, replace
from typing import Any, TypeVar

T = TypeVar("T")


def hardware(default: Any) -> Any:
    """A dataclass field that never bears identity: how fast or where, not what."""
    return field(default=default, metadata={"identity": False})


def place(default: Any = "") -> Any:
    """A dataclass field that names a place, or several in a tuple; empty where there is none.

    A step that reads it puts what lies there into its `Identity` beside the config, and the config `without_places`.
    """
    return field(default=default, metadata={"identity": False, "place": True})


def when_set(default: Any, identity: bool = True) -> Any:
    """A dataclass field that is left out where it is empty, as `default` has to be: of identities and of recipes that
    are written. identity: whether it bears any where it is not empty."""
    return field(default=default, metadata={"when_set": True, "identity": identity})


def stated_fields(config: Any) -> list[Field[Any]]:
    """The dataclass fields of `config`, an instance, but for those of `when_set` that are empty, in order."""
    return [f for f in fields(config) if not f.metadata.get("when_set") or getattr(config, f.name)]


def identity_fields(config: Any) -> list[Field[Any]]:
    """The dataclass fields of `config`, an instance, that bear identity, in order."""
    return [f for f in stated_fields(config) if f.metadata.get("identity", True)]


def is_place(declared: Field[Any]) -> bool:
    """Whether a dataclass field was declared by `place`."""
    return bool(declared.metadata.get("place", False))


def places(config: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(Dotted field, place) of every place named in a config of dataclasses, lists, tuples and dicts, at any depth."""
    for name, value, names_places in _children(config):
        below = f"{path}.{name}" if path else name
        if not names_places:
            yield from places(value, below)
        elif value:
            yield from ((below, named) for named in ([value] if isinstance(value, str) else value))


def without_places(config: T) -> T:
    """A copy of a dataclass that names no place, at any depth."""
    if is_dataclass(config) and not isinstance(config, type):
        changed = {
            name: type(value)() if names_places else without_places(value)
            for name, value, names_places in _children(config)
        }
        return replace(config, **changed)
    if isinstance(config, dict):
        return {name: without_places(value) for name, value in config.items()}  # type: ignore[return-value]
    if isinstance(config, list | tuple):
        return type(config)(without_places(value) for value in config)
    return config


def _children(config: Any) -> Iterator[tuple[str, Any, bool]]:
    """(Name, value, whether it names a place) of what a config holds; nothing of a literal."""
    if is_dataclass(config) and not isinstance(config, type):
        yield from ((f.name, getattr(config, f.name), is_place(f)) for f in fields(config))
    elif isinstance(config, dict):
        yield from ((str(name), value, False) for name, value in config.items())
    elif isinstance(config, list | tuple):
        yield from ((str(getattr(value, "name", i)), value, False) for i, value in enumerate(config))
