"""Long context at a glance: how much of what was hidden is found, over the length of a text and the depth within it.

Items say their depth by their cluster (`depth 0.10`) and their length by their score (`needle/4096`), as those of
`k2model.evals.longcontext` do.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from markupsafe import Markup

from k2model.evals.items import Grade, ItemResult
from k2model.evals.matrix import Checkpoint
from k2model.reporting import svg
from k2model.reporting.timeline import Panel

_DEPTH = re.compile(r"depth (\d(?:\.\d+)?)")
_WIDTH, _LEFT, _TOP, _RIGHT = 430, 50, 12, 418
_ROW = 22


@dataclass(frozen=True)
class HeatMap:
    """`cells`: (length in tokens, depth from 0 to 1) -> (mean mark, items). None as a mark: it had no room there."""

    checkpoint: Checkpoint
    task: str
    cells: dict[tuple[int, float], tuple[float | None, int]] = field(default_factory=dict)


def heat_map(checkpoint: Checkpoint, score: str, results: Iterable[ItemResult]) -> HeatMap | None:
    """Of one score, whose items are all of one length; None where they have no depth."""
    task, _, length = score.partition("@")[0].rpartition("/")
    if not length.isdigit():
        return None
    marks: dict[float, list[float]] = {}
    for one in results:
        if (at := _DEPTH.fullmatch(one.cluster)) and one.grade not in (Grade.UNSCORED, Grade.TOO_LONG):
            marks.setdefault(float(at[1]), []).append(one.value)
    cells: dict[tuple[int, float], tuple[float | None, int]] = {
        (int(length), depth): (sum(values) / len(values), len(values)) for depth, values in sorted(marks.items())
    }
    return HeatMap(checkpoint, task, cells) if cells else None


def heat_panel(one: HeatMap) -> Panel:
    """A row for each depth, a column for each length; a cell that was not asked is a dot."""
    return Panel(f"{one.task.replace('_', ' ')}, {one.checkpoint.reference}", _drawn(one))


def _drawn(one: HeatMap) -> Markup:
    lengths, depths = (sorted({cell[side] for cell in one.cells}) for side in range(2))
    height, width = _ROW * len(depths), (_RIGHT - _LEFT) / len(lengths)
    parts = []
    for row, depth in enumerate(depths):
        y = _TOP + _ROW * row
        parts.append(svg.text(_LEFT - 6, y + _ROW / 2 + 4, f"{depth:.0%}", "tick", "end"))
        for column, length in enumerate(lengths):
            x = _LEFT + width * column
            mark, items = one.cells.get((int(length), float(depth)), (None, 0))
            if mark is None:
                parts.append(svg.text(x + width / 2, y + _ROW / 2 + 4, "·", "tick", "middle"))
                continue
            said = f"{length:,.0f} tokens, {depth:.0%} of the way in: {mark:.2f}, n = {items}"
            title = svg.element("title", said)
            parts.append(svg.rect(x + 1, y + 1, width - 2, _ROW - 2, "heat-cell", title, style=f"--v:{mark:.3f}"))
            if width >= 30:
                parts.append(svg.text(x + width / 2, y + _ROW / 2 + 4, f"{mark:.2f}", "tick strong", "middle"))
    bottom = _TOP + height
    every = max(1, -(-len(lengths) // 9))
    for column in range(0, len(lengths), every):
        x = _LEFT + width * (column + 0.5)
        parts.append(svg.text(x, bottom + 15, _short(int(lengths[column])), "tick", "middle"))
    parts.append(svg.text(_RIGHT, bottom + 31, "length of the text, tokens; rows: depth", "tick", "end"))
    return svg.drawing(_WIDTH, bottom + 38, f"{one.task} of {one.checkpoint.reference} over length and depth", *parts)


def _short(length: int) -> str:
    """As contexts are named: 512, 4K, 128K."""
    return f"{length // 1024}K" if length >= 1024 and length % 1024 == 0 else f"{length:,}"
