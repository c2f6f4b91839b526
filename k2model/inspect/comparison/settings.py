"""The settings in which two artifacts differ, all the way down: their own, and those of what they were made from.

Inputs of the same role are set beside each other where their bytes differ, so a change deep in a lineage is told where
it was made. Weights that go on are followed only where both sides have trained the same phase: of two phases with one
parent, or of a model and its continuation, nothing below them is a setting that somebody changed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from k2model.artifacts.explain import between
from k2model.reporting.lineage import Lineage
from k2model.reporting.lineage.graph import PARENT, Key

NONE = "none"


@dataclass(frozen=True)
class Setting:
    """A field that differs. `of`: the artifact whose setting it is, by its name. `made_from`: whether it is an input,
    and not a setting; `first`, `second`: None where a side does not have it."""

    of: str
    field: str
    first: Any
    second: Any
    made_from: bool = False


def differing(lineage: Lineage, pairs: list[tuple[Key | None, Key | None]]) -> list[Setting]:
    """Of each pair of artifacts and of what they were made from, in the order of pairs, nearest first."""
    found: list[Setting] = []
    seen: set[tuple[Key, Key]] = set()
    front = [(first, second) for first, second in pairs if first and second]
    while front:
        following: list[tuple[Key, Key]] = []
        for first, second in front:
            if first == second or (first, second) in seen or not {first, second} <= lineage.records.keys():
                continue
            seen.add((first, second))
            found += _of_pair(lineage, first, second)
            following += _below(lineage, first, second)
        front = following
    told: dict[Any, Setting] = {}  # an export and scores have some fields of their phase again
    for one in found:
        owner = " / ".join(name.partition("/")[0] for name in one.of.split(" / "))
        told.setdefault((owner, one.field.removeprefix("phase."), str(one.first), str(one.second)), one)
    return list(told.values())


def _of_pair(lineage: Lineage, first: Key, second: Key) -> Iterator[Setting]:
    names = dict.fromkeys((lineage.name(first), lineage.name(second)))
    name = " / ".join(names)
    for field, old, new in between(lineage.records[first], lineage.records[second]):
        if field not in _FOLLOWS.get(first[0], ()):
            yield Setting(name, field, old, new)
    ours, theirs = lineage.inputs(first), lineage.inputs(second)
    for role in dict.fromkeys((*ours, *theirs)):
        if role.startswith(PARENT) and first[0] != "checkpoint":
            continue  # what scores are set beside; its checkpoint has told it
        one, other = ours.get(role), theirs.get(role)
        if one != other and (one is None or other is None or not _alike(lineage, one, other, role)):
            yield Setting(name, role, _told(lineage, one), _told(lineage, other), made_from=True)


# Fields that follow from what an artifact was made from: a difference of theirs is that one told again.
_FOLLOWS = {"scores": ("cells",), "score": ("items",)}


def _below(lineage: Lineage, first: Key, second: Key) -> Iterator[tuple[Key, Key]]:
    ours, theirs = lineage.inputs(first), lineage.inputs(second)
    for role in ours:
        other = theirs.get(role)
        if other is not None and ours[role] != other and _alike(lineage, ours[role], other, role):
            yield ours[role], other


def _alike(lineage: Lineage, first: Key, second: Key, role: str) -> bool:
    """Whether two inputs are the same thing made twice, so that what differs in them is a change of settings."""
    if first[0] != second[0] or not {first, second} <= lineage.records.keys():
        return False
    if first[0] == "adopted_checkpoint" or not role.startswith(PARENT):
        return True
    related = first in lineage.before(second) or second in lineage.before(first)
    return not related and lineage.owner(first) == lineage.owner(second)


def _told(lineage: Lineage, key: Key | None) -> str:
    return NONE if key is None else f"{lineage.name(key)} ({lineage.place(key)})"


def shown(value: Any) -> str:
    """A value in a table: of a row, such as one of a mixture, the fields that say something."""
    if isinstance(value, dict):
        return ", ".join(
            f"{name} {shown(one)}" for name, one in value.items() if one and name not in ("source", "name")
        )
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value)
