"""Figures of long context and of thinking: a map over depth and length, the loss by position, accuracy over the
thinking it took.

Data come as they are measured (`k2model.evals.longcontext`, `k2model.evals.efforts`); each function returns panels
(title, SVG). The darker a cell, the more is found; whiskers are 95% intervals.
"""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from k2model.evals.efforts import EffortPoint, effort_points
from k2model.evals.items import ItemResult
from k2model.evals.longcontext.asking import DepthCell, depth_map
from k2model.evals.scores import ScoreRow
from k2model.recipe.schema import Recipe
from k2model.recipe.tasks import FAMILIES, POSITION_LOSS
from k2model.reporting import svg
from k2model.reporting.scores import parse
from k2model.reporting.timeline import Panel

WIDTH, HEIGHT = 430, 262
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 400, 20, 214
_COLOURS = ("c0", "c1", "c2", "c3", "c4", "c5", "c6")


def long_context_panels(
    results: Mapping[str, Sequence[ItemResult]], scores: Sequence[ScoreRow], recipe: Recipe
) -> list[Panel]:
    """The maps of the last phase that has any, and the loss by position of all; `results` are by phase."""
    panels: list[Panel] = []
    for phase in reversed(recipe.phases):
        if cells := depth_map(results.get(phase.name, ())):
            panels = depth_panels(cells, recipe.trained_length(phase.name))
            break
    by_phase: dict[str, list[ScoreRow]] = {}
    for row in scores:
        by_phase.setdefault(row.phase, []).append(row)
    positions = position_panel(by_phase)
    return [*panels, *([positions] if positions else [])]


def budget_panels(results: Sequence[ItemResult]) -> list[Panel]:
    """Of the families that were asked at a forced budget of thinking."""
    points = effort_points(results)
    forced = {point.family for point in points if point.budget is not None}
    return effort_panels([point for point in points if point.family in forced])


def depth_panels(cells: Sequence[DepthCell], trained_length: int = 0) -> list[Panel]:
    """A map of each task: depth from the front of the text downwards, length to the right. A line stands behind
    `trained_length`, the longest row that the model was trained on; 0 = none."""
    tasks = dict.fromkeys(cell.task for cell in cells)
    return [
        Panel(_title(task), _map(_title(task), [cell for cell in cells if cell.task == task], trained_length))
        for task in tasks
    ]


def position_panel(rows: Mapping[str, Sequence[ScoreRow]]) -> Panel | None:
    """The loss by position, a line for each checkpoint by its name; None where none has it."""
    series = {
        name: sorted((int(parse(row.score).mode), row) for row in own if parse(row.score).family == POSITION_LOSS)
        for name, own in rows.items()
    }
    series = {name: own for name, own in series.items() if own}
    if not series:
        return None
    ends = sorted({end for own in series.values() for end, _ in own})
    lows, highs = ([getattr(row, side) for own in series.values() for _, row in own] for side in ("low", "high"))
    margin = 0.05 * (max(highs) - min(lows) or 1.0)
    y = svg.Scale(min(lows) - margin, max(highs) + margin, _BOTTOM, _TOP)
    plot = svg.Plot(svg.Scale(ends[0], ends[-1], _LEFT, _RIGHT - 70, log=True), y)
    parts: list[Markup] = [plot.axes(ends, svg.ticks(y.low, y.high), "tokens, to the end of a bucket")]
    labels = []
    for (name, own), colour in zip(series.items(), _COLOURS * len(series), strict=False):
        parts.append(svg.polyline(plot.points([(end, row.value) for end, row in own]), f"line s-{colour}"))
        parts += [plot.error_bar(plot.x(end), row.low, row.high, f"whisker s-{colour}") for end, row in own]
        labels.append((own[-1][1].value, name, f"label t-{colour}"))
    parts.append(plot.end_labels(labels, _RIGHT - 62))
    title = "Loss by position, nats per token"
    return Panel(title, svg.drawing(WIDTH, HEIGHT, title, *parts))


def effort_panels(points: Sequence[EffortPoint]) -> list[Panel]:
    """Of each family accuracy over the mean of thinking tokens that were spent: efforts as dots with their names,
    forced budgets as a line that ends in the dot of the effort they cut short."""
    panels = []
    for family in dict.fromkeys(point.family for point in points):
        own = [point for point in points if point.family == family]
        panels.append(Panel(_title(family), _effort_plot(_title(family), own)))
    return panels


def _effort_plot(title: str, points: Sequence[EffortPoint]) -> Markup:
    most = max(point.thinking_mean for point in points) or 1.0
    plot = svg.Plot(svg.Scale(0, most, _LEFT, _RIGHT - 40), svg.Scale(0, 1, _BOTTOM, _TOP))
    parts = [plot.axes(svg.ticks(0, most, 4), (0, 0.25, 0.5, 0.75, 1), "thinking tokens, mean", "{:.0%}")]
    taken: list[tuple[float, float]] = []
    for effort, colour in zip(dict.fromkeys(point.effort for point in points), _COLOURS, strict=False):
        own = sorted((point for point in points if point.effort == effort), key=lambda point: point.thinking_mean)
        at = plot.points([(point.thinking_mean, point.accuracy) for point in own])
        parts.append(svg.polyline(at, f"line s-{colour}"))
        for (x, y), point in zip(at, own, strict=True):
            forced = point.budget is not None
            said = (
                f"{effort}{f', at most {point.budget}' if forced else ''}: {point.accuracy:.0%} of {point.items} "
                f"with {point.thinking_mean:,.0f} tokens (median {point.thinking_median:,.0f}), {point.cut_off:.0%} "
                "cut off"
            )
            parts.append(plot.error_bar(x, point.low, point.high, f"whisker s-{colour}"))
            class_ = f"{'hollow' if forced else 'full'} m-{colour}"
            parts.append(svg.element("circle", svg.element("title", said), cx=x, cy=y, r=3.5, class_=class_))
            if not forced:
                height = y + 4
                while any(0 <= x - at < svg.CHARACTER * 7 and abs(height - other) < 14 for at, other in taken):
                    height -= 14  # above the name of a point that lies beneath or just before it
                taken.append((x, height))
                parts.append(svg.text(x + 7, height, effort, f"label halo t-{colour}"))
    return svg.drawing(WIDTH, HEIGHT, f"{title}: accuracy over thinking tokens", *parts)


def _map(title: str, cells: Sequence[DepthCell], trained_length: int) -> Markup:
    lengths, depths = sorted({cell.length for cell in cells}), sorted({cell.depth for cell in cells})
    width, height = (_RIGHT - _LEFT) / len(lengths), (_BOTTOM - _TOP) / len(depths)
    parts: list[Markup] = []
    for cell in cells:
        x, y = _LEFT + lengths.index(cell.length) * width, _TOP + depths.index(cell.depth) * height
        said = f"{cell.length:,} tokens, depth {cell.depth:.0%}: {cell.value:.0%} of {cell.items}"
        about = {"fill_opacity": 0.04 + 0.7 * cell.value}
        parts.append(svg.rect(x + 0.5, y + 0.5, width - 1, height - 1, "f-c0", svg.element("title", said), **about))
        if width > 34 and height > 14:
            parts.append(svg.text(x + width / 2, y + height / 2 + 4, f"{cell.value:.0%}", "", "middle", font_size=11))
    for number, length in enumerate(lengths):
        at = _LEFT + (number + 0.5) * width
        parts.append(svg.text(at, _BOTTOM + 16, _length(length), "tick", "middle"))
    step = max(1, round(len(depths) / 6))
    for number, depth in list(enumerate(depths))[::step]:
        parts.append(svg.text(_LEFT - 5, _TOP + (number + 0.5) * height + 3.5, f"{depth:.0%}", "tick", "end"))
    reached = sum(length <= trained_length for length in lengths)
    if 0 < reached < len(lengths):
        parts.append(svg.line(_LEFT + reached * width, _TOP - 6, _LEFT + reached * width, _BOTTOM, "chance"))
    parts.append(svg.text(_RIGHT, _BOTTOM + 31, "tokens of context; depth from the front", "tick", "end"))
    return svg.drawing(WIDTH, HEIGHT, f"{title} over depth and length", *parts)


def _length(tokens: int) -> str:
    """65536 -> 64K, as contexts are called."""
    return f"{tokens // 1024}K" if tokens % 1024 == 0 else svg.short_number(tokens)


def _title(family: str) -> str:
    return FAMILIES[family].title if family in FAMILIES else family
