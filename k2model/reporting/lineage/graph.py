"""Artifacts and what they were made from, as their records say it: names, descent, and arrows that others imply.

An artifact is known by its kind and digest. One that an input names and no record tells of has a place here as well,
so what a lineage lacks is seen in it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from k2model.artifacts import artifact_name

Key = tuple[str, str]  # kind and digest
Record = Mapping[str, Any]
Node = TypeVar("Node")

PARENT = "parent"  # the input of a checkpoint that its weights go on from
UNKNOWN = "nothing here tells of it: neither an artifact nor the ledger"

# Kinds that are of the model they were made from, whose name they have.
_OF_A_MODEL = ("export", "adopted_export", "items_seen", "scores", "score", "safety_answers", "safety")
_TOLD = ("release", "report")  # which name all that they were made from


@dataclass(frozen=True)
class Lineage:
    """`records` by kind and digest. `wrong`: of an artifact what does not agree, or that it is gone. Of a part of a
    lineage: `sight`, all that is in it, and `called`, its names as the whole has them. `twins`: records of further
    artifacts with the same bytes, which were made from something else."""

    records: Mapping[Key, Record]
    wrong: Mapping[Key, Sequence[str]] = field(default_factory=dict)
    sight: frozenset[Key] | None = None
    called: Mapping[Key, str] = field(default_factory=dict)
    twins: Sequence[Record] = ()

    @classmethod
    def of(cls, records: Iterable[Record], wrong: Mapping[Key, Sequence[str]] | None = None) -> "Lineage":
        return cls({key_of(record): record for record in records}, dict(wrong or {}))

    def inputs(self, key: Key) -> dict[str, Key]:
        """By role."""
        named = self.records[key]["inputs"] if key in self.records else {}
        found = {role: (str(one["kind"]), str(one["digest"])) for role, one in named.items()}
        return {role: one for role, one in found.items() if self.sight is None or one in self.sight}

    def problems(self, key: Key) -> list[str]:
        return [*self.wrong.get(key, ()), *([] if key in self.records else [UNKNOWN])]

    @cached_property
    def outputs(self) -> dict[Key, list[Key]]:
        """What was made from each."""
        found: dict[Key, list[Key]] = {}
        made = [(key, source) for key in self.records for source in self.inputs(key).values()]
        made += [(key_of(t), (one["kind"], one["digest"])) for t in self.twins for one in t["inputs"].values()]
        for key, source in dict.fromkeys(made):
            found.setdefault(source, []).append(key)
        return found

    def before(self, *start: Key) -> list[Key]:
        """They and all that they were made from, nearest first."""
        return reached(start, lambda key: self.inputs(key).values())

    def after(self, *start: Key) -> list[Key]:
        """They and all that was made from them, nearest first."""
        return reached(start, lambda key: self.outputs.get(key, ()))

    def only(self, keys: Iterable[Key]) -> "Lineage":
        """The part of these; what else they were made from is out of sight, and not told as missing."""
        wanted = frozenset(keys)
        return Lineage({k: one for k, one in self.records.items() if k in wanted}, self.wrong, wanted, self.names)

    def descent(self, checkpoint: Key) -> list[Key]:
        """The checkpoints that its weights come from, the oldest first, and itself."""
        found, parent = {checkpoint: None}, self.inputs(checkpoint).get(PARENT)
        while parent and parent not in found:
            found[parent], parent = None, self.inputs(parent).get(PARENT)
        return [*reversed(found)]

    @cached_property
    def names(self) -> dict[Key, str]:
        """What people call each: as `k2 plan` prints it and as the release that it is in has it, else by the phase, or
        the adopted model, that it is of; else by its kind."""
        if self.called:
            return dict(self.called)
        told: dict[Key, str] = {}
        for record in sorted(self.records.values(), key=lambda one: (one["step"] not in _TOLD, _ended(one))):
            if record["step"] in _TOLD:
                for role, one in record["inputs"].items():
                    told.setdefault((one["kind"], one["digest"]), role.replace(".", "/"))
        return {key: told.get(key) or self._own_name(key) for key in self.records}

    def name(self, key: Key) -> str:
        return self.names.get(key) or key[0]

    def place(self, key: Key) -> str:
        """Where it lies in the store."""
        record = self.records.get(key)
        return artifact_name(record["step"], record["identity"]) if record else f"{key[0]} {key[1][:12]}"

    def _own_name(self, key: Key) -> str:
        owner, kind = self.owner(key), key[0].removeprefix("adopted_")
        return f"{owner}/{kind}" if owner else key[0]

    def owner(self, key: Key) -> str:
        """The phase, adopted model or source that an artifact is of; "" of none."""
        record = self.records.get(key)
        if record is None:
            return ""
        if key[0] in _OF_A_MODEL and "adopted" not in record["config"]:
            inputs = [one for role, one in self.inputs(key).items() if not role.startswith(PARENT)]
            return next((owner for one in inputs if (owner := self.owner(one))), "")
        config = record["config"]
        phase, adopted = config.get("phase"), config.get("adopted")
        if isinstance(phase, Mapping):
            return self._continued(key, str(phase.get("name", "")))
        if isinstance(phase, str) and phase:
            return phase
        if isinstance(adopted, Mapping):
            return str(adopted.get("name", ""))
        if key[0] in ("synthesis", "synthesis_calls"):
            return next((r for one in self.outputs.get(key, ()) for r, k in self.inputs(one).items() if k == key), "")
        trained = [one for one in self.outputs.get(key, ()) if one[0] == "checkpoint"] if key[0] == "sequences" else []
        return " + ".join(sorted({self.owner(one) for one in trained}))

    def _continued(self, key: Key, phase: str) -> str:
        """A phase that goes on from one of its own name is told apart from it."""
        times = self._trained_before[key][phase]
        return f"{phase}, continuation {times}" if times else phase

    @cached_property
    def _trained_before(self) -> dict[Key, Counter[str]]:
        """How many checkpoints of each phase the weights of an artifact come from, its own not counted."""
        found: dict[Key, Counter[str]] = {}
        for start in self.records:
            way: dict[Key, None] = {}
            at: Key | None = start
            while at and at not in found and at not in way:
                way[at], at = None, self.inputs(at).get(PARENT)
            for one in reversed(way):
                parent = self.inputs(one).get(PARENT)
                record = self.records.get(parent) if parent else None
                phase = record["config"].get("phase") if record else None
                own = [str(phase.get("name", ""))] if isinstance(phase, Mapping) else []
                found[one] = (found.get(parent, Counter[str]()) if parent else Counter[str]()) + Counter(own)
        return found


def key_of(record: Record) -> Key:
    return str(record["step"]), str(record["digest"])


def reached(start: Iterable[Node], following: Any) -> list[Node]:
    """All that is reached from `start`, nearest first; `following` gives those next to one."""
    found = dict.fromkeys(start)
    front = [*found]
    while front:
        front = [*dict.fromkeys(n for one in front for n in following(one) if n not in found)]
        found |= dict.fromkeys(front)
    return [*found]


def reduced(edges: Mapping[Node, Sequence[Node]]) -> dict[Node, list[Node]]:
    """Without the edges that others imply: of `a` to `b` to `c`, the one of `a` to `c`."""
    below = {node: set(reached(after, lambda one: edges.get(one, ()))) for node, after in edges.items()}
    return {
        node: [one for one in after if not any(one in below.get(other, ()) for other in after if other != one)]
        for node, after in edges.items()
    }


def ordered(edges: Mapping[Node, Sequence[Node]]) -> dict[Node, int]:
    """The longest way from each to an end of `edges`, 0 at the ends. Without recursion: a line of daily turns is
    thousands of artifacts deep."""
    depths: dict[Node, int] = {}
    for start in edges:
        way = {} if start in depths else {start: iter(edges[start])}  # from it down to where this is
        while way:
            node, after = next(reversed(way.items()))
            below = next((one for one in after if one not in depths and one not in way), None)
            if below is not None:
                way[below] = iter(edges.get(below, ()))
                continue
            depths[node] = max((depths[one] + 1 for one in edges.get(node, ()) if one in depths), default=0)
            del way[node]
    return depths


def walk(edges: Mapping[Node, Sequence[Node]], start: Node) -> Iterator[tuple[Node, int, bool]]:
    """(Node, depth, whether it has come before) depth first; what follows one is told once."""
    seen: set[Node] = set()
    waiting = [(start, 0)]
    while waiting:
        node, depth = waiting.pop()
        again = node in seen
        yield node, depth, again
        seen.add(node)
        waiting += [] if again else [(one, depth + 1) for one in reversed(edges.get(node, ()))]


def _ended(record: Record) -> str:
    return str(record.get("provenance", {}).get("ended", ""))
