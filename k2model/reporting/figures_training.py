"""The training figure: loss over all phases with the learning rate below it, on one tokens axis.

Losses of different phases are means over different targets (a reasoning document counts only its
trace and answer), so a jump at a border is a change of data, not of the model. No smoothing beyond
the mean of neighbouring steps, whose range is drawn as a band.
"""

from collections.abc import Sequence
from statistics import fmean

from markupsafe import Markup

from k2model.reporting import svg
from k2model.reporting.facts import Metric
from k2model.reporting.timeline import Timeline

_WIDTH, _LOSS_BOTTOM, _LR_TOP, _LR_BOTTOM, _HEIGHT = 960, 280, 318, 392, 426
_LEFT, _RIGHT, _TOP = 46, 940, 34
_BUCKETS = 420  # about one point every two pixels over the whole axis

Curve = list[tuple[float, float]]


def training_figure(metrics: dict[str, list[Metric]], timeline: Timeline) -> Markup:
    """`metrics` by phase, each in step order."""
    loss = {phase: _curve(metrics[phase], "loss", timeline.spans[phase][0]) for phase in metrics}
    rate = {phase: _curve(metrics[phase], "lr", timeline.spans[phase][0]) for phase in metrics}
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
    for phase in metrics:
        bucket = max(1, round(len(loss[phase]) / max(_BUCKETS * _share(timeline, phase), 1)))
        parts.append(_band(upper, loss[phase], bucket))
        parts.append(svg.polyline(upper.points(_means(loss[phase], bucket)), "line s-c0"))
        parts.append(svg.polyline(lower.points(_means(rate[phase], bucket)), "line s-c1"))
        parts.append(_last_value(upper, loss[phase], bucket, phase))
    return svg.drawing(_WIDTH, _HEIGHT, "training loss and learning rate over tokens", *parts, class_="wide")


def _curve(metrics: Sequence[Metric], name: str, start: int) -> Curve:
    return [(start + metric.tokens, getattr(metric, name)) for metric in metrics]


def _share(timeline: Timeline, phase: str) -> float:
    start, end = timeline.spans[phase]
    return (end - start) / timeline.total


def _chunks(curve: Curve, size: int) -> list[Curve]:
    return [curve[i : i + size] for i in range(0, len(curve), size)]


def _means(curve: Curve, size: int) -> Curve:
    return [(fmean(x for x, _ in part), fmean(y for _, y in part)) for part in _chunks(curve, size)]


def _band(plot: svg.Plot, curve: Curve, size: int) -> Markup:
    if size < 2:
        return Markup("")
    parts = [(fmean(x for x, _ in part), [y for _, y in part]) for part in _chunks(curve, size)]
    upper = [(plot.x(x), plot.y(max(ys))) for x, ys in parts]
    lower = [(plot.x(x), plot.y(min(ys))) for x, ys in reversed(parts)]
    outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in upper + lower)
    return svg.element("polygon", points=outline, class_="spread f-c0")


def _last_value(plot: svg.Plot, curve: Curve, size: int, phase: str) -> Markup:
    """The mean of the last tenth of a phase's logged losses, written where it was reached."""
    if not curve:
        return Markup("")
    tail = curve[-max(1, len(curve) // 10) :]
    value = fmean(y for _, y in tail)
    peak = max(y for _, y in (_means(tail, size) or tail))
    x, y = plot.x(curve[-1][0]) - 4, plot.y(peak) - 8
    title = svg.element("title", f"{phase}: mean loss of the last {len(tail)} logged steps {value:.3f}")
    return svg.element("g", title, svg.text(x, y, f"{value:.2f}", "label t-c0", "end"))
