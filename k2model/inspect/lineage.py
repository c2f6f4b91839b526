"""The lineage of an artifact as a store knows it: down to sources and adopted models, forward to releases.

Told in groups (`k2model.reporting.lineage`), or artifact by artifact. What is not here any more, does not agree with
itself, or is told of by nothing in the store says so where it stands.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from k2model.artifacts import Store
from k2model.inspect.inventory import Inventory
from k2model.reporting.lineage import Group, Groups, Lineage, grouped, legend, lineage_figure, reading
from k2model.reporting.lineage.graph import Key, Record, reduced, walk
from k2model.reporting.lineage.groups import Kind
from k2model.reporting.templates import filled

GONE = "it is not here any more"
RELEASE = "release"


@dataclass(frozen=True)
class Line:
    """A line of a tree: a group, or an artifact where these are told one by one. `again`: it stands above."""

    name: str
    depth: int
    place: str = ""
    about: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    again: bool = False


@dataclass(frozen=True)
class Traced:
    """The artifact `start` of a store, in all that the store knows."""

    store: Store
    whole: Lineage
    start: Key

    @cached_property
    def before(self) -> Lineage:
        """All that it was made from."""
        return self.whole.only(self.whole.before(self.start))

    @cached_property
    def after(self) -> Lineage:
        """What lies between it and the releases that it is in."""
        later = self.whole.after(self.start)
        releases = [one for one in later if one[0] == RELEASE]
        return self.whole.only({self.start} | set(self.whole.before(*releases)) & set(later))

    @property
    def releases(self) -> list[Key]:
        return [one for one in self.after.records if one[0] == RELEASE]

    @property
    def unreleased(self) -> dict[str, int]:
        """How many things were made from it that no release was made from, by kind."""
        later = set(self.whole.after(self.start)) - set(self.after.records)
        return dict(sorted(Counter(kind for kind, _ in later).items()))

    def groups(self) -> tuple[Lineage, Groups]:
        """Of all that it was made from and of the releases that it is in."""
        seen = self.whole.only([*self.whole.before(self.start), *self.after.records])
        return seen, grouped(seen, reading(self.store))

    def tree(self) -> list[Line]:
        """The groups that it was made from, its own first."""
        groups = grouped(self.before, reading(self.store))
        return _lines(groups, groups.edges, groups.of[self.start], self.before)

    def forward(self) -> list[Line]:
        """The groups that were made from its own, up to the releases; none where it is in none."""
        if not self.releases:
            return []
        groups = grouped(self.after, lambda record, path: None)
        return _lines(groups, _turned(groups.edges), groups.of[self.start], self.after)

    def artifacts(self, lineage: Lineage, forward: bool = False) -> list[Line]:
        """The same, artifact by artifact."""
        edges = {key: [*dict.fromkeys(lineage.inputs(key).values())] for key in lineage.records}
        edges = reduced(_turned(edges) if forward else edges)
        return [
            Line(
                lineage.name(key), depth, lineage.place(key), (key[1][:12],),
                wrong=tuple(lineage.problems(key)), again=again,
            )
            for key, depth, again in walk(edges, self.start)
        ]  # fmt: skip


def lineage_of(inventory: Inventory) -> Lineage:
    """Of all that a store knows. Of two artifacts of the same bytes the one that is here is told."""
    wrong: dict[Key, list[str]] = {}
    records: dict[Key, Record] = {}
    for key, known in sorted(inventory.by_content.items(), key=lambda one: _ended(one[1][0].told)):
        told = known[0].told
        assert told is not None, "only what tells of itself has a content"
        records[key] = told if told["digest"] == key[1] else {**told, "digest": key[1]}
        said = [] if known[0].finished else [GONE]
        wrong[key] = said + [f"{fault.path}: {fault.what}" for fault in known[0].faults]
    twins = [one.told for known in inventory.by_content.values() for one in known[1:] if one.told]
    return Lineage(records, {key: said for key, said in wrong.items() if said}, twins=twins)


def _ended(record: Record | None) -> str:
    return str(record["provenance"]["ended"]) if record else ""


def page(traced: Traced) -> str:
    """The drawing of a lineage as one HTML file that loads nothing."""
    lineage, groups = traced.groups()
    wrong = [said for one in groups.all.values() for said in one.wrong]
    title = groups.all[groups.of[traced.start]].name if traced.start[0] == RELEASE else lineage.name(traced.start)
    shown = {
        "name": title, "place": lineage.place(traced.start), "digest": traced.start[1],
        "figure": lineage_figure(lineage, groups), "legend": legend(groups), "wrong": wrong,
        "sources": _sources(groups.all.values()),
        "releases": [lineage.place(one) for one in traced.releases], "unreleased": traced.unreleased,
    }  # fmt: skip
    return filled(Path(__file__).parent / "lineage.html.j2", {}, shown)


def _sources(groups: Iterable[Group]) -> list[Group]:
    return [one for one in groups if one.kind in (Kind.SOURCE, Kind.ADOPTED)]


def _turned(edges: Any) -> dict[Any, list[Any]]:
    """Each with what was made from it."""
    found: dict[Any, list[Any]] = {name: [] for name in edges}
    for name, before in edges.items():
        for one in before:
            found.setdefault(one, []).append(name)
    return found


def _lines(groups: Groups, edges: Any, start: str, lineage: Lineage) -> list[Line]:
    found = []
    for name, depth, again in walk(edges, start):
        one = groups.all[name]
        place = lineage.place(one.main) if one.main else ""
        found.append(Line(one.name, depth, place, tuple(one.lines), tuple(one.details), tuple(one.wrong), again))
    return found
