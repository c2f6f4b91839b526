"""A lineage as a drawing: sources on top, releases at the bottom, each group a box below what it was made from.

Weights that go on are thick lines, data thin ones. A line that would cross a row of boxes has a place of its own in it.
Of a box without room for its text the whole is in the tooltip.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from k2model.reporting import svg
from k2model.reporting.lineage.graph import Lineage, ordered
from k2model.reporting.lineage.groups import Group, Groups, Kind
from k2model.reporting.sections_data import domain_class, domain_order

_WIDTH, _GAP, _LANE = 1080, 14, 10
_WIDEST, _HEIGHT, _ROW = 230, 58, 92
_BAR = 5
_TO = " > "  # in the id of a lane, between what it leads from and to
_LETTER, _SMALL = 7.6, 6.2  # mean width of a letter of a box's name, and of what is below it


@dataclass
class _Place:
    """A box, or where a line passes a row of boxes (`group` None)."""

    id: str
    group: Group | None
    x: float = 0.0
    width: float = _LANE


def lineage_figure(lineage: Lineage, groups: Groups, marks: Mapping[str, str] | None = None) -> Markup:
    """The drawing of `groups`, which are those of `lineage`. marks: of groups by id the class of a frame, where two
    lineages are drawn as one."""
    rows, edges = _rows(groups)
    places = {one.id: (level, one) for level, row in enumerate(rows) for one in row}
    _placed(rows, edges)
    width = max(_WIDTH, *(_row_width(row) + 2 * _GAP for row in rows))
    parts: list[Markup] = []
    for after, before in edges:
        (upper, above), (lower, below) = places[before], places[after]
        kind = "weights" if _weights(groups, before, after) else "data"
        parts.append(_line((above.x, _top(upper) + _HEIGHT), (below.x, _top(lower)), kind))
        if below.group is None:
            parts.append(_line((below.x, _top(lower)), (below.x, _top(lower) + _HEIGHT), kind))
    for level, row in enumerate(rows):
        parts += [_box(lineage, one, _top(level), (marks or {}).get(one.id, "")) for one in row if one.group]
    height = _top(len(rows)) - (_ROW - _HEIGHT) + 8
    label = f"lineage: {len(groups.all)} groups from {sum(not one for one in groups.edges.values())} beginnings"
    return svg.drawing(width, height, label, *parts, class_="lineage-graph")


def _rows(groups: Groups) -> tuple[list[list[_Place]], list[tuple[str, str]]]:
    """Boxes row by row from the top, with a lane in each row that a line passes; lines from row to row, as (id of what
    was made, id of what it was made from)."""
    levels = ordered(groups.edges)
    users: dict[str, list[str]] = {}
    for after, before in groups.edges.items():
        for one in before:
            users.setdefault(one, []).append(after)
    for name, before in groups.edges.items():
        if not before and name in users:  # what begins stands right above what it is for
            levels[name] = min(levels[one] for one in users[name]) - 1
    rows: list[list[_Place]] = [[] for _ in range(max(levels.values(), default=0) + 1)]
    for name, level in levels.items():
        rows[level].append(_Place(name, groups.all[name], width=_WIDEST))
    edges = []
    for after, all_before in groups.edges.items():
        for before in all_before:
            at = after
            for level in range(levels[after] - 1, levels[before], -1):
                lane = _Place(f"{before}{_TO}{after}@{level}", None)
                rows[level].append(lane)
                edges.append((at, lane.id))
                at = lane.id
            edges.append((at, before))
    return rows, edges


def _placed(rows: Sequence[list[_Place]], edges: Sequence[tuple[str, str]]) -> None:
    """Gives every place its x and width: from the bottom up, each near what was made from it."""
    users: dict[str, list[str]] = {}
    for after, before in edges:
        users.setdefault(before, []).append(after)
    at: dict[str, float] = {}
    for row in reversed(rows):
        wanted = {one.id: [at[user] for user in users.get(one.id, ()) if user in at] for one in row}
        middle = {name: sum(xs) / len(xs) if xs else _WIDTH / 2 for name, xs in wanted.items()}
        row.sort(key=lambda one: (middle[one.id], one.group is None))
        boxes = sum(one.group is not None for one in row)
        free = _WIDTH - _GAP * (len(row) + 1) - _LANE * (len(row) - boxes)
        for one in row:
            one.width = max(min(_WIDEST, free / boxes), 120) if one.group else _LANE
        centres, x = [], 0.0
        for one in row:
            centres.append(x + one.width / 2)
            x += one.width + _GAP
        offset = sum(middle[one.id] - centre for one, centre in zip(row, centres, strict=True)) / max(len(row), 1)
        offset = max(_GAP, min(offset, max(_GAP, _WIDTH - _GAP - (x - _GAP))))
        for one, centre in zip(row, centres, strict=True):
            one.x = at[one.id] = centre + offset


def _row_width(row: Sequence[_Place]) -> float:
    return sum(one.width + _GAP for one in row)


def _top(level: int) -> float:
    return 4.0 + level * _ROW


def _weights(groups: Groups, before: str, after: str) -> bool:
    """Whether a line, or a stretch of one between two rows, is of weights that go on."""
    first = before.partition(_TO)[0]
    last = after.partition(_TO)[2].rpartition("@")[0] or after
    return first in groups.all[last].parents


def _line(start: tuple[float, float], end: tuple[float, float], kind: str) -> Markup:
    (x1, y1), (x2, y2) = start, end
    middle = (y1 + y2) / 2
    path = f"M{x1:.1f},{y1:.1f} C{x1:.1f},{middle:.1f} {x2:.1f},{middle:.1f} {x2:.1f},{y2:.1f}"
    return svg.element("path", d=path, class_=f"flow {kind}")


def _box(lineage: Lineage, place: _Place, top: float, mark: str) -> Markup:
    group = place.group
    assert group is not None, "a lane has no box"
    left, wide = place.x - place.width / 2, place.width - 16
    names = [f"{lineage.name(key)}: {lineage.place(key)}, digest {key[1][:12]}" for key in group.members]
    said = "\n".join([group.name, *group.lines, *group.details, *group.wrong, *names])
    class_ = f"box b-{group.kind.value}{' wrong' if group.wrong else ''}{f' {mark}' if mark else ''}"
    parts = [
        svg.element("title", said),
        svg.rect(left, top, place.width, _HEIGHT, class_, rx=5),
        svg.text(left + 8, top + 17, _cut(group.name, wide / _LETTER), "box-name"),
    ]
    lines = [("box-line", one) for one in group.lines]
    if group.wrong:
        lines = [*lines[:1], ("box-wrong", group.wrong[0].partition(": ")[2])]
    for number, (class_, one) in enumerate(lines[:2]):
        parts.append(svg.text(left + 8, top + 32 + 14 * number, _cut(one, wide / _SMALL), class_))
    at = left
    for domain in sorted(group.mixture, key=domain_order):
        share = group.mixture[domain] * place.width
        parts.append(svg.rect(at, top + _HEIGHT - _BAR, share, _BAR, f"f-{domain_class(domain)}"))
        at += share
    return svg.element("g", *parts, class_="group")


def _cut(text: str, room: float) -> str:
    return text if len(text) <= room else f"{text[: max(int(room) - 1, 1)]}…"


def legend(groups: Groups) -> list[tuple[str, str]]:
    """(Class, what it is) of the kinds and domains that are drawn."""
    words = {
        Kind.SOURCE: "sources", Kind.DATA: "data", Kind.ADOPTED: "adopted models", Kind.PHASE: "phases",
        Kind.RELEASE: "releases", Kind.OTHER: "other artifacts",
    }  # fmt: skip
    drawn = {one.kind for one in groups.all.values()}
    domains = sorted({domain for one in groups.all.values() for domain in one.mixture}, key=domain_order)
    kinds = [(f"b-{kind.value}", word) for kind, word in words.items() if kind in drawn]
    return kinds + [(domain_class(domain), domain.replace("_", " ")) for domain in domains]
