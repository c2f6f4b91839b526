"""The training figure: loss over all phases with the learning rate below it, on one tokens axis.

Losses of different phases are means over different targets (a reasoning document counts only its
trace and answer), so a jump at a border is a change of data, not of the model. No smoothing beyond
the mean of neighbouring steps, whose range is drawn as a band. What an intervention left out is not in the
curve: a mark stands where it was.
"""

from collections.abc import Sequence
from statistics import fmean

from markupsafe import Markup

from k2model.reporting import svg
from k2model.reporting.curves import Curve, band, bucket_size, means
from k2model.reporting.timeline import Timeline
from k2model.training.metrics import StepMetrics
from k2model.training.spikes import Intervention

_WIDTH, _LOSS_BOTTOM, _LR_TOP, _LR_BOTTOM, _HEIGHT = 960, 280, 318, 392, 426
_LEFT, _RIGHT, _TOP = 46, 940, 34
_BUCKETS = 420  # about one point every two pixels over the whole axis


def training_figure(
    metrics: dict[str, list[StepMetrics]], interventions: dict[str, list[Intervention]], timeline: Timeline
) -> Markup:
    """`metrics` and `interventions` by phase, each in step order."""
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
        bucket = bucket_size(loss[phase], timeline, phase, _BUCKETS)
        parts.append(band(upper, loss[phase], bucket, "c0"))
        parts.append(svg.polyline(upper.points(means(loss[phase], bucket)), "line s-c0"))
        parts.append(svg.polyline(lower.points(means(rate[phase], bucket)), "line s-c1"))
        parts.append(_last_value(upper, loss[phase], bucket, phase))
        for one in interventions[phase]:
            parts.append(_mark(upper, timeline.spans[phase][0], metrics[phase], phase, one))
    return svg.drawing(_WIDTH, _HEIGHT, "training loss and learning rate over tokens", *parts, class_="wide")


def _curve(metrics: Sequence[StepMetrics], name: str, start: int) -> Curve:
    return [(start + metric.tokens, getattr(metric, name)) for metric in metrics]


def _last_value(plot: svg.Plot, curve: Curve, size: int, phase: str) -> Markup:
    """The mean of the last tenth of a phase's logged losses, written where it was reached."""
    if not curve:
        return Markup("")
    tail = curve[-max(1, len(curve) // 10) :]
    value = fmean(y for _, y in tail)
    peak = max(y for _, y in (means(tail, size) or tail))
    x, y = plot.x(curve[-1][0]) - 4, plot.y(peak) - 8
    title = svg.element("title", f"{phase}: mean loss of the last {len(tail)} logged steps {value:.3f}")
    return svg.element("g", title, svg.text(x, y, f"{value:.2f}", "label t-c0", "end"))


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
