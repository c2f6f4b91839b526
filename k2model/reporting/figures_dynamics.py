"""How training went inside: loss by domain, gradient norm, norms of parameters and updates, over tokens seen.

Norms span decades between warm-up and the end of a decay, so those of gradients and updates have logarithmic
axes. A quantity that no step logged has no panel.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from markupsafe import Markup

from k2model.reporting import svg
from k2model.reporting.curves import Curve, band, bucket_size, means
from k2model.reporting.figures_scores import Panel
from k2model.reporting.timeline import Timeline
from k2model.training.metrics import StepMetrics

_WIDTH, _HEIGHT = 470, 262
_LEFT, _TOP, _BOTTOM = 48, 38, 224
_RIGHT, _RIGHT_OF_LABELLED = 456, 360
_POINTS = 160  # over the whole axis

Metrics = Mapping[str, Sequence[StepMetrics]]
Lines = dict[str, list[tuple[str, Curve]]]  # label -> (phase, curve) of each phase that has it


def dynamics_panels(metrics: Metrics, timeline: Timeline, colours: Mapping[str, str]) -> list[Panel]:
    """`metrics` by phase in step order; `colours` maps a domain to its CSS class."""
    order = list(colours)
    domains = {name for rows in metrics.values() for row in rows for name in row.domains}
    by_domain: Lines = {}
    for domain in sorted(domains, key=lambda name: (order.index(name) if name in colours else len(order), name)):
        by_domain[domain] = _curves(metrics, timeline, partial(_loss_of, domain))
    measured: tuple[tuple[str, Callable[[StepMetrics], float | None], bool], ...] = (
        ("Gradient norm, before clipping", lambda row: row.grad_norm, True),
        ("Norm of all parameters", lambda row: row.parameter_norm, False),
        ("Update norm / parameter norm", lambda row: row.update_ratio, True),
    )
    panels = [_panel("Training loss by domain, nats per target token", by_domain, timeline, colours, log=False)]
    for title, value, log in measured:
        panels.append(_panel(title, {"": _curves(metrics, timeline, value)}, timeline, {"": "c0"}, log))
    return [panel for panel in panels if panel is not None]


def _loss_of(domain: str, row: StepMetrics) -> float | None:
    return row.domains.get(domain)


def _curves(
    metrics: Metrics, timeline: Timeline, value: Callable[[StepMetrics], float | None]
) -> list[tuple[str, Curve]]:
    """The finite values of each phase that has any."""
    found = []
    for phase, rows in metrics.items():
        start = timeline.spans[phase][0]
        values = [(float(start + row.tokens), value(row)) for row in rows]
        curve = [(x, y) for x, y in values if y is not None and math.isfinite(y)]
        if curve:
            found.append((phase, curve))
    return found


def _panel(title: str, lines: Lines, timeline: Timeline, colours: Mapping[str, str], log: bool) -> Panel | None:
    shown = {
        label: [(curve, bucket_size(curve, timeline, phase, _POINTS)) for phase, curve in curves]
        for label, curves in lines.items()
    }
    values = [y for curves in shown.values() for curve, size in curves for _, y in means(curve, size)]
    values = [y for y in values if y > 0] if log else values
    if not values:
        return None
    labelled = len(shown) > 1
    scale = _scale(min(values), max(values), log)
    plot = svg.Plot(timeline.scale(_LEFT, _RIGHT_OF_LABELLED if labelled else _RIGHT), scale)
    y_ticks = _log_ticks(scale.low, scale.high) if log else svg.ticks(scale.low, scale.high, 5)
    parts = [plot.axes(timeline.ticks(4), y_ticks, "tokens seen"), timeline.borders(plot)]
    ends = []
    for label, curves in shown.items():
        colour = colours.get(label, "d9")
        for curve, size in curves:
            curve = [(x, y) for x, y in curve if y > 0] if log else curve
            if not labelled:
                parts.append(_clipped_band(plot, curve, size, colour))
            parts.append(svg.polyline(plot.points(means(curve, size)), f"line s-{colour}"))
        if labelled and curves:
            last_curve, size = curves[-1]
            ends.append((means(last_curve, size)[-1][1], label.replace("_", " "), f"label t-{colour}"))
    parts.append(plot.end_labels(ends, plot.x.end + 8))
    return Panel(title, svg.drawing(_WIDTH, _HEIGHT, f"{title} over tokens seen", *parts))


def _clipped_band(plot: svg.Plot, curve: Curve, size: int, colour: str) -> Markup:
    """The range, cut at the plot's borders, which means decide: one wild step must not flatten the rest."""
    low, high = plot.y.low, plot.y.high
    return band(plot, [(x, min(max(y, low), high)) for x, y in curve], size, colour)


def _scale(low: float, high: float, log: bool) -> svg.Scale:
    if log:
        return svg.Scale(low / 1.15, high * 1.15, _BOTTOM, _TOP, log=True)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return svg.Scale(max(low - room, 0.0), high + room, _BOTTOM, _TOP)


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within `low..high`, with 2 and 5 times them where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5), tuple(range(1, 10))):
        found = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
        if len(found) >= 3:
            return found
    return found
