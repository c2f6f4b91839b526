"""Figures of a comparison: the loss of both over tokens seen, every score over phases, each difference on its line.

What both come from is drawn once, in grey. Curves that have more steps than a figure has pixels are means of
neighbours with their range as a band, as everywhere in the report.
"""

from collections.abc import Sequence

from markupsafe import Markup

from k2model.evals.scores import ScoreRow
from k2model.evals.statistics import Paired
from k2model.inspect.comparison.content import Comparison, Trained
from k2model.reporting import svg
from k2model.reporting.figures_scores import QUARTERS, tooltip
from k2model.reporting.scores import parse, score_order
from k2model.reporting.timeline import Panel, Timeline, band, bucket_size, means

SHARED, FIRST, SECOND = "c7", "c0", "c1"
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 960, 330, 46, 860, 38, 286
_PANEL, _PANEL_HEIGHT, _PANEL_RIGHT, _PANEL_BOTTOM = 340, 210, 322, 172
_POINTS = 420  # over the whole axis
_BAR, _BAR_HEIGHT = 180, 20

Way = Sequence[Trained]


def _ways(found: Comparison) -> list[tuple[str, list[Trained]]]:
    """(Colour, phases): what is shared, what only the first has, what only the second."""
    shared = found.shared
    ways: list[tuple[str, list[Trained]]] = [(SHARED, [one for one in found.first.way if one.key in shared])]
    sides = ((FIRST, found.first), (SECOND, found.second))
    return ways + [(colour, [one for one in side.way if one.key not in shared]) for colour, side in sides]


def _timeline(found: Comparison) -> Timeline:
    """The axis of both; phases of equal span are one stretch of it."""
    names: dict[tuple[int, int], dict[str, None]] = {}
    for _, way in _ways(found):
        for one in way:
            names.setdefault((one.start, one.end), {})[one.name] = None
    spans: dict[str, tuple[int, int]] = {}
    for span, own in sorted(names.items()):
        name = " / ".join(own)
        spans[name if name not in spans else f"{name}, again"] = span
    return Timeline(spans)


def loss_figure(found: Comparison) -> Markup | None:
    """Training loss over tokens seen; None where no log is here."""
    ways = [(colour, [one for one in way if one.loss]) for colour, way in _ways(found)]
    highest = max((loss for _, way in ways for one in way for _, loss in one.loss), default=None)
    if highest is None:
        return None
    timeline = _timeline(found)
    plot = svg.Plot(timeline.scale(_LEFT, _RIGHT), svg.Scale(0, highest * 1.04, _BOTTOM, _TOP))
    parts = [plot.axes(timeline.ticks(8), svg.ticks(0, highest, 6), "tokens seen"), timeline.borders(plot)]
    parts.append(svg.text(_LEFT + 4, _BOTTOM - 8, "training loss, nats per target token", "tick"))
    labels = []
    for colour, way in ways:
        for one in way:
            span = next(name for name, own in timeline.spans.items() if own == (one.start, one.end))
            size = bucket_size(one.loss, timeline, span, _POINTS)
            parts.append(band(plot, one.loss, size, colour))
            parts.append(svg.polyline(plot.points(means(one.loss, size)), f"line s-{colour}"))
        if way and colour != SHARED:
            labels.append((way[-1].loss[-1][1], f"{_side(colour)}: {way[-1].name}", f"label t-{colour}"))
    parts.append(plot.end_labels(labels, _RIGHT + 8))
    return svg.drawing(_WIDTH, _HEIGHT, "training loss of both over tokens seen", *parts, class_="wide")


def score_panels(found: Comparison) -> list[Panel]:
    """A panel for each score that was measured along the way of both or more than once along that of one."""
    rows: dict[str, list[tuple[str, Trained, ScoreRow]]] = {}
    for colour, way in _ways(found):
        for one in way:
            for row in one.rows:
                rows.setdefault(row.score, []).append((colour, one, row))
    order = score_order(row for own in rows.values() for _, _, row in own)
    timeline = _timeline(found)
    return [_panel(score, rows[score], timeline) for score in order if len(rows[score]) > 1]


def _panel(score: str, points: Sequence[tuple[str, Trained, ScoreRow]], timeline: Timeline) -> Panel:
    name = parse(score, points[0][2].group)
    loss = not points[0][2].is_accuracy
    low = min(row.low for _, _, row in points) * 0.98 if loss else 0.0
    high = max(row.high for _, _, row in points) * 1.01 if loss else 1.0
    plot = svg.Plot(timeline.scale(_LEFT, _PANEL_RIGHT), svg.Scale(low, high, _PANEL_BOTTOM, 14))
    parts = [plot.axes(timeline.ticks(), svg.ticks(low, high, 4) if loss else QUARTERS, "tokens seen")]
    shared = [(one, row) for colour, one, row in points if colour == SHARED]
    for colour in (SHARED, FIRST, SECOND):
        own = [(one, row) for shade, one, row in points if shade == colour]
        drawn = own if colour == SHARED else [*shared[-1:], *own] if own else []
        shift = {SHARED: 0.0, FIRST: -2.0, SECOND: 2.0}[colour]  # two at one place are both seen
        at = [(plot.x(one.end) + (shift if (one, row) in own else 0), plot.y(row.value)) for one, row in drawn]
        parts.append(svg.polyline(at, f"line s-{colour}"))
        for (x, y), (one, row) in zip(at, drawn, strict=True):
            if (one, row) in own:
                parts.append(plot.error_bar(x, row.low, row.high, f"whisker s-{colour}"))
                said = svg.element("title", f"{_side(colour)}: {tooltip(row)}")
                parts.append(svg.element("circle", said, cx=x, cy=y, r=3.2, class_=f"full m-{colour}"))
    variant = f", {name.variant.replace('_', ' ')}" if name.variant else ""
    title = f"{name.title}{variant}{', nats per token' if loss else ''}"
    return Panel(title, svg.drawing(_PANEL, _PANEL_HEIGHT, f"{title} over tokens seen", *parts))


def difference_bar(pair: Paired, most: float, better: bool | None) -> Markup:
    """A difference with its interval on a line of its own, from `-most` to `most`. better: whether the second is; None
    = within noise."""
    scale = svg.Scale(-most, most, 6, _BAR - 6)
    colour = SHARED if better is None else "c2" if better else "c1"
    middle = _BAR_HEIGHT / 2
    said = f"{pair.difference:+.4f}, 95% interval {pair.low:+.4f} to {pair.high:+.4f}, on {pair.n:,}"
    low, high = (min(max(one, -most), most) for one in (pair.low, pair.high))
    return svg.drawing(
        _BAR, _BAR_HEIGHT, said,
        svg.element("title", said),
        svg.line(scale(0), 1, scale(0), _BAR_HEIGHT - 1, "axis"),
        svg.line(scale(low), middle, scale(high), middle, f"line s-{colour}"),
        svg.element("circle", cx=scale(pair.difference), cy=middle, r=3.6, class_=f"full m-{colour}"),
    )  # fmt: skip


def _side(colour: str) -> str:
    return {SHARED: "both", FIRST: "first", SECOND: "second"}[colour]
