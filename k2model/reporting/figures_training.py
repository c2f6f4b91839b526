"""Figures of the training over tokens seen: loss with the learning rate below it, and how training went inside.

Losses of different phases are means over different targets (a reasoning document counts only its trace and answer),
so a jump at a border is a change of data, not of the model. No smoothing beyond the mean of neighbouring steps, whose
range is drawn as a band. What an intervention left out is not in the curve: a mark stands where it was. Norms span
decades, so those of gradients and updates have logarithmic axes; a quantity that no step logged has no panel.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from markupsafe import Markup

from k2model.reporting import svg
from k2model.reporting.sections_data import domain_class, domain_order
from k2model.reporting.timeline import Curve, Panel, Timeline, band, bucket_size, means
from k2model.training.log import Intervention, StepMetrics

_WIDTH, _LOSS_BOTTOM, _LR_TOP, _LR_BOTTOM, _HEIGHT = 960, 280, 318, 392, 426
_LEFT, _RIGHT, _TOP = 46, 940, 34
_BUCKETS = 420  # about one point every two pixels over the whole axis
_PANEL_WIDTH, _PANEL_HEIGHT = 470, 262
_PANEL_LEFT, _PANEL_TOP, _PANEL_BOTTOM = 48, 38, 224
_PANEL_RIGHT, _PANEL_RIGHT_LABELLED = 456, 360
_POINTS = 160  # over the whole axis

Metrics = Mapping[str, Sequence[StepMetrics]]
Lines = dict[str, dict[str, Curve]]  # label -> phase -> its curve


def training_figure(
    metrics: dict[str, list[StepMetrics]], interventions: dict[str, list[Intervention]], timeline: Timeline
) -> Markup:
    """`metrics` and `interventions` by phase, each in step order."""
    loss = _curves(metrics, timeline, lambda row: row.loss)
    rate = _curves(metrics, timeline, lambda row: row.lr)
    loss_high = max((y for curve in loss.values() for _, y in curve), default=1.0)
    rate_high = max((y for curve in rate.values() for _, y in curve), default=1.0) or 1.0
    x = timeline.scale(_LEFT, _RIGHT)
    upper = svg.Plot(x, svg.Scale(0, loss_high * 1.04, _LOSS_BOTTOM, _TOP))
    lower = svg.Plot(x, svg.Scale(0, rate_high * 1.1, _LR_BOTTOM, _LR_TOP))
    parts = [
        upper.axes([], svg.ticks(0, loss_high, 6)),
        timeline.borders(upper),
        svg.text(_LEFT + 4, _LOSS_BOTTOM - 8, "training loss, nats per target token", "tick"),
        lower.axes(timeline.ticks(8), svg.ticks(0, rate_high * 1.1, 2), "tokens seen"),
        svg.text(_LEFT + 4, _LR_TOP - 4, "learning rate", "tick"),
    ]
    for _, end in timeline.spans.values():
        parts.append(svg.line(x(end), _LR_BOTTOM, x(end), _LR_TOP, "border"))
    for phase, curve in loss.items():
        bucket = bucket_size(curve, timeline, phase, _BUCKETS)
        parts.append(band(upper, curve, bucket, "c0"))
        parts.append(svg.polyline(upper.points(means(curve, bucket)), "line s-c0"))
        parts.append(svg.polyline(lower.points(means(rate[phase], bucket)), "line s-c1"))
        parts.append(_last_value(upper, curve, bucket, phase, timeline.beside(phase)))
        for one in interventions[phase]:
            parts.append(_mark(upper, timeline.spans[phase][0], metrics[phase], phase, one))
    return svg.drawing(_WIDTH, _HEIGHT, "training loss and learning rate over tokens", *parts, class_="wide")


def _last_value(plot: svg.Plot, curve: Curve, size: int, phase: str, named: bool) -> Markup:
    """The mean of the last tenth of a phase's logged losses, written where it was reached. named: with its name."""
    tail = curve[-max(1, len(curve) // 10) :]
    value = fmean(y for _, y in tail)
    peak = max(y for _, y in (means(tail, size) or tail))
    x, y = plot.x(curve[-1][0]) - 4, plot.y(peak) - 8
    title = svg.element("title", f"{phase}: mean loss of the last {len(tail)} logged steps {value:.3f}")
    return svg.element(
        "g", title, svg.text(x, y, f"{phase} {value:.2f}" if named else f"{value:.2f}", "label t-c0", "end")
    )


def _mark(plot: svg.Plot, start: int, metrics: Sequence[StepMetrics], phase: str, undone: Intervention) -> Markup:
    """A dashed line and a wedge at the place where steps were left out; the tooltip tells why."""
    x = plot.x(start + max((row.tokens for row in metrics if row.step < undone.first_step), default=0))
    bottom, top = plot.y.start, plot.y.end
    wedge = f"{x - 5:.1f},{bottom + 9:.1f} {x + 5:.1f},{bottom + 9:.1f} {x:.1f},{bottom + 1:.1f}"
    title = svg.element("title", f"{phase}: {undone.sentence}")
    return svg.element(
        "g", title, svg.line(x, bottom, x, top, "undone"), svg.element("polygon", points=wedge, class_="wedge"),
        class_="intervention",
    )  # fmt: skip


def dynamics_panels(metrics: Metrics, timeline: Timeline) -> list[Panel]:
    """`metrics` by phase in step order."""
    domains = {name for rows in metrics.values() for row in rows for name in row.domains}
    by_domain = {
        domain: _curves(metrics, timeline, lambda row, domain=domain: row.domains.get(domain))  # type: ignore[misc]
        for domain in sorted(domains, key=domain_order)
    }
    measured: tuple[tuple[str, Callable[[StepMetrics], float | None], bool], ...] = (
        ("Gradient norm, before clipping", lambda row: row.grad_norm, True),
        ("Norm of all parameters", lambda row: row.parameter_norm, False),
        ("Update norm / parameter norm", lambda row: row.update_ratio, True),
    )
    panels = [_panel("Training loss by domain, nats per target token", by_domain, timeline, log=False)]
    for title, value, log in measured:
        panels.append(_panel(title, {"": _curves(metrics, timeline, value)}, timeline, log))
    return [panel for panel in panels if panel is not None]


def _curves(metrics: Metrics, timeline: Timeline, value: Callable[[StepMetrics], float | None]) -> dict[str, Curve]:
    """The finite values of each phase that has any."""
    found = {}
    for phase, rows in metrics.items():
        start = timeline.spans[phase][0]
        values = [(float(start + row.tokens), value(row)) for row in rows]
        curve = [(x, y) for x, y in values if y is not None and math.isfinite(y)]
        if curve:
            found[phase] = curve
    return found


def _panel(title: str, lines: Lines, timeline: Timeline, log: bool) -> Panel | None:
    """A figure of lines by domain, or of one that is of all of them ("")."""
    shown = {
        label: [(curve, bucket_size(curve, timeline, phase, _POINTS), phase) for phase, curve in curves.items()]
        for label, curves in lines.items()
    }
    values = [y for curves in shown.values() for curve, size, _ in curves for _, y in means(curve, size)]
    values = [y for y in values if y > 0] if log else values
    if not values:
        return None
    labelled = len(shown) > 1
    scale = _scale(min(values), max(values), log)
    plot = svg.Plot(timeline.scale(_PANEL_LEFT, _PANEL_RIGHT_LABELLED if labelled else _PANEL_RIGHT), scale)
    y_ticks = _log_ticks(scale.low, scale.high) if log else svg.ticks(scale.low, scale.high, 5)
    parts = [plot.axes(timeline.ticks(4), y_ticks, "tokens seen"), timeline.borders(plot)]
    ends = []
    for label, curves in shown.items():
        colour = domain_class(label) if label else "c0"
        for curve, size, phase in curves:
            curve = [(x, y) for x, y in curve if y > 0] if log else curve
            if not labelled:
                # Cut at the plot's borders, which means decide: one wild step must not flatten the rest.
                clipped = [(x, min(max(y, scale.low), scale.high)) for x, y in curve]
                parts.append(band(plot, clipped, size, colour))
            parts.append(svg.polyline(plot.points(means(curve, size)), f"line s-{colour}"))
            if timeline.beside(phase) and curve:
                x, y = plot.points(means(curve, size))[-1]
                inside = min(max(y, plot.y.end), plot.y.start)
                parts.append(svg.text(x - 4, inside - 4, phase, f"tick halo t-{colour}", "end"))
        if labelled and curves:
            last_curve, size, _ = curves[-1]
            ends.append((means(last_curve, size)[-1][1], label.replace("_", " "), f"label t-{colour}"))
    parts.append(plot.end_labels(ends, plot.x.end + 8))
    return Panel(title, svg.drawing(_PANEL_WIDTH, _PANEL_HEIGHT, f"{title} over tokens seen", *parts))


def _scale(low: float, high: float, log: bool) -> svg.Scale:
    if log:
        return svg.Scale(low / 1.15, high * 1.15, _PANEL_BOTTOM, _PANEL_TOP, log=True)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return svg.Scale(max(low - room, 0.0), high + room, _PANEL_BOTTOM, _PANEL_TOP)


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within `low..high`, with 2 and 5 times them where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5), tuple(range(1, 10))):
        found = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
        if len(found) >= 3:
            return found
    return found
