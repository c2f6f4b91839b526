"""What an artifact is (`Identity`), where it can be had (`ArtifactRef`), and the sha256 both rest on.

An identity is known before the work is done: it is what decides whether the work has been done already. A reference is
known after it. Neither touches a store.

`fingerprint` is of a value made of literals and dataclasses. Its encoding is canonical and tagged by type: equal hashes
mean equal values: `1`, `1.0`, `True` and `"1"` differ, a list equals a tuple, a dict does not depend on its
order. It depends on neither Python's hash seed nor `repr`. A type it does not know is an error and never `str()`, since
a default `repr` holds a memory address. Not covered: sets, bytes, arrays and values that refer to themselves.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Any

from k2model.plain import NotPlain, dataclass_of, to_plain
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


STEP_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
KEY = re.compile(r"[0-9a-f]{64}")


def artifact_name(step: str, key: str) -> str:
    """Of the artifact that a step makes for an identity with this key."""
    return f"{step}/{key[:16]}"


@dataclass(frozen=True)
class ArtifactRef:
    """A reference to a finished artifact, small enough to travel between tasks.

    kind: the step that makes such artifacts. uri: its folder. digest: sha256 over its files outside
    `attachments/`. identity: key of the `Identity` it was made for. stats: numbers worth showing.
    Kind and digest alone bear identity: the same bytes elsewhere are the same artifact.
    """

    kind: str
    uri: str = field(metadata={"identity": False})
    digest: str
    identity: str = field(metadata={"identity": False})
    stats: dict[str, float] = field(default_factory=dict, hash=False, metadata={"identity": False})

    @property
    def name(self) -> str:
        """Short name for people and messages: `<kind>/<first 16 digits of the identity>`."""
        return artifact_name(self.kind, self.identity)

    def to_plain(self) -> dict[str, Any]:
        """As JSON has it in a file of the same store: without its place, which is that store's, and without what a
        clock measured, so that two runs of the same write the same."""
        stats = {name: to_plain(one) for name, one in self.stats.items() if name != "seconds"}
        return {"kind": self.kind, "digest": self.digest, "identity": self.identity, "stats": stats}

    @classmethod
    def of_plain(cls, plain: Any, store: str, where: str) -> "ArtifactRef":
        """The reverse; `store`: URI of the one that the file lies in. Raises NotPlain."""
        made = dataclass_of(cls, {**plain, "uri": ""} if isinstance(plain, dict) else plain, store, where)
        # Both become names of folders.
        if not STEP_NAME.fullmatch(made.kind):
            raise NotPlain(f"'{where}' is of the kind {made.kind!r}, which is no step's name")
        for key in (made.digest, made.identity):
            if not KEY.fullmatch(key):
                raise NotPlain(f"'{where}' names {key!r}, expected 64 hex digits")
        return replace(made, uri=f"{store}/{made.name}")


@dataclass(frozen=True)
class Identity:
    """All that decides the content of an artifact.

    step: name of the step, which is also the kind of what it makes. version: raised by hand whenever
    the step's code makes something else of the same config. config: the literals and dataclasses the
    step reads, and no more. inputs: references of the artifacts it reads, of which only the digests
    count, so an input that is rebuilt to equal bytes changes nothing.
    """

    step: str
    version: str
    config: dict[str, Any]
    inputs: dict[str, ArtifactRef] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not STEP_NAME.fullmatch(self.step):
            raise ValueError(f"step name {self.step!r}: expected lower-case letters, digits and _ (it names a folder)")

    @cached_property
    def key(self) -> str:
        """64 hex digits. Raises TypeError when the config holds an unknown type, see `fingerprint`."""
        return fingerprint(
            {
                "step": self.step,
                "version": self.version,
                "config": self.config,
                "inputs": {name: ref.digest for name, ref in self.inputs.items()},
            }
        )

    @property
    def name(self) -> str:
        """Short name for people and messages, and where it lies in a store: `<step>/<first 16 digits of the key>`."""
        return artifact_name(self.step, self.key)
