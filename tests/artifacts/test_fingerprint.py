"""The encoding never changes by accident, tells all values apart, and follows every identity field."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy
import pytest

from k2model.artifacts import fingerprint
from k2model.recipe.fields import hardware, places, without_places
from k2model.recipe.laptop import laptop
from k2model.recipe.schema import CheckpointConfig, PhaseKind


class Colour(str, Enum):
    RED = "red"


class Shade(str, Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    rate: float
    speed: int = hardware(1)


@dataclass(frozen=True)
class Outer:
    name: str
    inner: tuple[Inner, ...]
    colour: Colour = Colour.RED


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        (None, "none;"),
        (True, "bool 1;"),
        (1, "int 1;"),
        (-(10**30), "int -1000000000000000000000000000000;"),
        (1.0, "float 0x1.0000000000000p+0;"),
        (0.1, "float 0x1.999999999999ap-4;"),
        (float("inf"), "float inf;"),
        ("1", "str 1:1;"),
        ("é", "str 1:é;"),
        ((1, "a"), "list 2[int 1;str 1:a;]"),
        ({"b": 1, "a": 2}, "dict 2{str 1:a;=int 2;str 1:b;=int 1;}"),
        (Colour.RED, "enum Colour(str 3:red;)"),
        (Inner(2.0), "class Inner 1{str 4:rate;=float 0x1.0000000000000p+1;}"),
    ],
)
def test_goldens(value: Any, encoding: str) -> None:
    """Written by hand: a changed encoding would silently orphan every artifact that was ever made."""
    assert fingerprint(value) == sha256(encoding)


def test_values_that_look_alike_differ() -> None:
    alike = [
        1, 1.0, True, "1", "True", [1], [[1]], {"1": 1}, None, "None", "", [], {}, 0, 0.0, False,
        Colour.RED, Shade.RED, "red", ["a", "b"], ["ab"], ["a,b"], {"a": {"b": 1}}, {"a": 1, "b": 1},
        Inner(1.0), {"rate": 1.0}, 1.0000000000000002, [None], "int 1;", ["int 1;"],
    ]  # fmt: skip
    assert len({fingerprint(value) for value in alike}) == len(alike)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), [1, 2]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (0.0, -0.0),
        (Inner(1.0, speed=1), Inner(1.0, speed=99)),
        (Outer("x", (Inner(1.0, 1),)), Outer("x", (Inner(1.0, 2),))),
    ],
)
def test_values_that_mean_the_same_are_equal(one: Any, other: Any) -> None:
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"phase": {"rates": [1.0, {1, 2}]}}, "phase.rates[1]"),
        (Outer("x", (Inner(numpy.float64(1.0)),)), "inner[0].rate"),
        ({"path": Path("x")}, "path"),
        ({"f": len}, "f"),
        ({"c": Inner}, "c"),
        ({"data": {1: 2}}, "data"),
    ],
)
def test_unknown_types_are_refused_with_their_path(value: Any, path: str) -> None:
    with pytest.raises(TypeError, match=f"cannot fingerprint {path}:".replace("[", r"\[")):
        fingerprint(value)


def test_nan_is_refused_with_its_path() -> None:
    with pytest.raises(ValueError, match=r"phase\.lr: it is NaN"):
        fingerprint({"phase": {"lr": float("nan")}})


def test_equal_in_every_process() -> None:
    """Neither the hash seed nor memory addresses get into it."""
    imports = "from k2model.artifacts import fingerprint; from k2model.recipe.laptop import laptop"
    code = f"{imports}; print(fingerprint(laptop()))"
    for seed in "12":
        run = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        assert run.stdout.strip() == fingerprint(laptop()), run.stderr


def changed(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, Enum):
        return next(member for member in type(value) if member is not value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    return value[:-1] if value else ("x",)


def variants(value: Any) -> Iterator[tuple[str, bool, Any]]:
    """(path, bears identity, `value` with one leaf changed) for every leaf of a nest of dataclasses."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            for path, bears, variant in variants(getattr(value, field.name)):
                bears = bears and field.metadata.get("identity", True)
                yield f".{field.name}{path}", bears, dataclasses.replace(value, **{field.name: variant})
    elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        yield "", True, changed(value)
        for i, item in enumerate(value):
            for path, bears, variant in variants(item):
                yield f"[{i}]{path}", bears, (*value[:i], variant, *value[i + 1 :])
    else:
        yield "", True, changed(value)


def test_every_identity_field_of_a_recipe_counts_and_no_other() -> None:
    phase = dataclasses.replace(laptop().phases[-1], checkpoints=CheckpointConfig(save_every=3))
    small = dataclasses.replace(laptop(), phases=(phase,), corpus=dataclasses.replace(laptop().corpus, sources=()))
    keys = {fingerprint(small): "the recipe itself"}
    paths = {"bearing": 0, "hardware": 0, "place": 0}
    for path, bears, variant in variants(small):
        if named := list(places(variant)):
            with pytest.raises(TypeError, match=f"cannot fingerprint {named[0][0]}: it names a place"):
                fingerprint(variant)
            assert fingerprint(without_places(variant)) == fingerprint(small), path
            paths["place"] += 1
            continue
        key = fingerprint(variant)
        if bears:
            assert key not in keys, f"{path} gives the same key as {keys.get(key)}"
            keys[key] = path
        else:
            assert key == fingerprint(small), path
        paths["bearing" if bears else "hardware"] += 1
    assert paths["bearing"] > 60
    assert paths["hardware"] > 8
    assert paths["place"] >= 3


def test_enum_members_of_a_recipe_differ() -> None:
    assert len({fingerprint(kind) for kind in PhaseKind}) == len(PhaseKind)
