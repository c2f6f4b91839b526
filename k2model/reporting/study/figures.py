"""A capability over the tokens seen, checkpoint by checkpoint, with what was found in it and what was published.

Few checkpoints are drawn one by one, with the line through averages of neighbours where there are any. Many become
means of neighbours with their range as a band, as everywhere in the report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from k2model.evals.matrix import Checkpoint
from k2model.recipe.tasks import LOSS, POSITION_LOSS
from k2model.reporting import svg
from k2model.reporting.figures_scores import COLOURS, HEIGHT, QUARTERS, WIDTH, label_of, tooltip
from k2model.reporting.scores import CONTINUES, LOSSES, parse
from k2model.reporting.sections_data import domain_class
from k2model.reporting.study.published import MODEL, Published, published_for
from k2model.reporting.study.series import Point, Series, pooled
from k2model.reporting.study.statistics import Drop, Emergence
from k2model.reporting.timeline import Curve, Panel, Timeline, band, bucket_size, means

_LEFT, _RIGHT, _TOP, _BOTTOM = 36, 312, 38, 224
SINGLE = 48  # checkpoints of a series that are drawn one by one
_POINTS = 120  # of a curve, over the whole axis


@dataclass(frozen=True)
class Found:
    """What the tests say of one series."""

    emergence: Emergence | None
    drop: Drop | None


def life_panels(series: Sequence[Series], found: Mapping[str, Found], timeline: Timeline) -> list[Panel]:
    """One panel for each family of accuracies, and one for the held-out losses. Tables have pass@k as well."""
    families: dict[str, list[Series]] = {}
    for one in series:
        name = parse(one.score, one.rows[0].group)
        if name.family != POSITION_LOSS and not name.repeated:  # a figure of its own has the first, over positions
            families.setdefault(name.family if one.is_accuracy else LOSSES, []).append(one)
    panels = []
    for family, members in families.items():
        name = parse(members[0].score, members[0].rows[0].group)
        title = f"{LOSSES}, nats per token" if family == LOSSES else f"{name.group} · {name.family_title}"
        if name.family_title == name.group:
            title = name.group
        panels.append(Panel(title, _drawn(members, found, timeline, title)))
    return panels


def _drawn(members: Sequence[Series], found: Mapping[str, Found], timeline: Timeline, title: str) -> Markup:
    loss = not members[0].is_accuracy
    high = max(point.row.high for one in members for point in one.points) if loss else 1.0
    low = min(point.row.low for one in members for point in one.points) * 0.95 if loss else 0.0
    names = [_label(one, loss) for one in members]
    right = min(_RIGHT, WIDTH - 10 - svg.CHARACTER * max(map(len, names)))
    plot = svg.Plot(timeline.scale(_LEFT, right), svg.Scale(low, high * 1.02 if loss else 1.0, _BOTTOM, _TOP))
    y_ticks = svg.ticks(low, high, 5) if loss else QUARTERS
    parts = [plot.axes(timeline.ticks(), y_ticks, "tokens seen"), timeline.borders(plot)]
    for chance in sorted({one.chance for one in members if one.chance is not None}):
        parts.append(svg.line(_LEFT, plot.y(chance), right, plot.y(chance), "chance"))
        parts.append(svg.text(_LEFT + 3, plot.y(chance) - 4, "chance", "tick halo"))
    labels = []
    for index, one in enumerate(members):
        colour = colour_of(one, index, len(members))
        parts.append(_missing(plot, one.missing))
        parts.append(_link(plot, one, members, colour))
        parts.append(_curve(plot, one, timeline, colour))
        parts.append(_marks(plot, one, found.get(one.score), colour))
        labels.append((one.points[-1].value, names[index], colour))
    known = [row for one in members for row in published_for(one.score, timeline.spans)]
    if known:
        parts.append(_published(plot, known, timeline))
        labels.append((known[-1].value, MODEL, "c7"))
    ends = [(min(max(value, plot.y.low), plot.y.high), text, f"label t-{colour}") for value, text, colour in labels]
    parts.append(plot.end_labels(ends, right + 10, gap=min(14.0, (_BOTTOM - _TOP) / max(len(ends), 1))))
    return svg.drawing(WIDTH, HEIGHT, f"{title} over tokens seen", *parts)


def _label(one: Series, loss: bool) -> str:
    name = parse(one.score, one.rows[0].group)
    return name.mode.replace("_", " ") if loss else label_of(name)


def colour_of(one: Series, index: int, of: int) -> str:
    """Domains have the report's colours, lengths of a text shades of one, other modes colours of their own."""
    name = parse(one.score)
    mode = name.mode
    if name.family == LOSS:
        return domain_class(mode)
    if mode.isdigit():
        return f"r{round(index * 5 / max(of - 1, 1))}"
    return COLOURS.get(CONTINUES.get(mode, mode), f"c{index % 7}")


def _curve(plot: svg.Plot, one: Series, timeline: Timeline, colour: str) -> Markup:
    parts: list[Markup] = []
    for phase, points in _by_phase(one).items():
        curve: Curve = [(float(point.tokens), point.value) for point in points]
        if len(one.points) > SINGLE:
            size = bucket_size(curve, timeline, phase, _POINTS)
            parts.append(band(plot, curve, size, colour))
            parts.append(svg.polyline(plot.points(means(curve, size)), f"line s-{colour}"))
            parts.append(_point(plot, points[-1], colour, whisker=points[-1].checkpoint.last))
        else:
            parts += [_point(plot, point, colour) for point in points]
    if len(one.points) <= SINGLE:
        pools = pooled(one)
        raw = [(float(point.tokens), point.value) for point in one.points]
        thin = "line raw" if len(pools) > 1 else "line"
        parts.insert(0, svg.polyline(plot.points(raw), f"{thin} s-{colour}"))
        if len(pools) > 1:
            parts.append(svg.polyline(plot.points([(p.tokens, p.value) for p in pools]), f"line s-{colour}"))
    return svg.join(parts)


def _link(plot: svg.Plot, one: Series, members: Sequence[Series], colour: str) -> Markup:
    """From the last point of the mode that a chat's effort continues to the chat's first."""
    mode = CONTINUES.get(parse(one.score).mode, "")
    before = next((other for other in members if parse(other.score).mode == mode), None)
    if before is None or before.points[-1].checkpoint > one.points[0].checkpoint:
        return Markup("")
    ends = [(float(point.tokens), point.value) for point in (before.points[-1], one.points[0])]
    return svg.polyline(plot.points(ends), f"line link s-{colour}")


def _by_phase(one: Series) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    for point in one.points:
        found.setdefault(point.checkpoint.phase, []).append(point)
    return found


def _point(plot: svg.Plot, point: Point, colour: str, whisker: bool = True) -> Markup:
    x, y = plot.x(point.tokens), plot.y(point.value)
    said = tooltip(point.row).replace(f" after {point.row.phase}:", f" after {point.checkpoint.reference}:")
    bar = plot.error_bar(x, point.row.low, point.row.high, f"whisker s-{colour}") if whisker else Markup("")
    radius = 3.1 if point.checkpoint.last else 2.0
    return bar + svg.element("circle", svg.element("title", said), cx=x, cy=y, r=radius, class_=f"full m-{colour}")


def _marks(plot: svg.Plot, one: Series, found: Found | None, colour: str) -> Markup:
    """A wedge on the axis where the capability emerged, and a ring around the best where it was lost since."""
    parts: list[Markup] = []
    if found and (rise := found.emergence):
        x, y = plot.x(rise.checkpoint.tokens), plot.y.start
        wedge = f"{x - 5:.1f},{y + 9:.1f} {x + 5:.1f},{y + 9:.1f} {x:.1f},{y + 1:.1f}"
        title = svg.element(
            "title", f"{one.score} emerges at {rise.checkpoint.reference}: {rise.value:.2f}, p = {rise.p:.2g}"
        )
        parts.append(svg.element("polygon", title, points=wedge, class_=f"f-{colour}"))
    if found and found.drop and found.drop.lost:
        best = found.drop
        title = svg.element("title", f"{one.score}: best at {best.best.reference}, {best.difference:+.2f} since")
        parts.append(
            svg.element(
                "circle", title, cx=plot.x(best.best.tokens), cy=plot.y(best.best_value), r=7, class_=f"ring s-{colour}"
            )
        )
    return svg.join(parts)


def _missing(plot: svg.Plot, missing: Sequence[Checkpoint]) -> Markup:
    """A short stroke on the axis for each checkpoint that was not asked, one for those of one pixel."""
    places = {round(plot.x(one.tokens)): one for one in missing}
    bottom, drawn = plot.y.start, []
    for x, one in places.items():
        title = svg.element("title", f"{one.reference}: not measured")
        drawn.append(svg.element("line", title, x1=x, y1=bottom - 5, x2=x, y2=bottom + 2, class_="missing"))
    return svg.join(drawn)


def _published(plot: svg.Plot, rows: Sequence[Published], timeline: Timeline) -> Markup:
    spots = [(plot.x(timeline.end(row.phase)), plot.y(row.value)) for row in rows]
    parts = [svg.polyline(spots, "line link s-c7")]
    for row, (x, y) in zip(rows, spots, strict=True):
        title = svg.element("title", f"{MODEL}, as published: {row.benchmark} {row.value:.3f} after {row.phase}")
        shape = f"{x:.1f},{y - 5:.1f} {x + 5:.1f},{y:.1f} {x:.1f},{y + 5:.1f} {x - 5:.1f},{y:.1f}"
        parts.append(svg.element("polygon", title, points=shape, class_="f-c7"))
    return svg.join(parts)
