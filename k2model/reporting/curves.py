"""Curves over tokens seen that have more steps than a figure has pixels: means of neighbours, their range as a band.

No smoothing beyond that, so what is drawn is what was logged.
"""

from statistics import fmean

from markupsafe import Markup

from k2model.reporting import svg
from k2model.reporting.timeline import Timeline

Curve = list[tuple[float, float]]  # (tokens seen, value)


def bucket_size(curve: Curve, timeline: Timeline, phase: str, points: int) -> int:
    """How many neighbours make a point, where the whole timeline is to have about `points` of them."""
    start, end = timeline.spans[phase]
    return max(1, round(len(curve) / max(points * (end - start) / timeline.total, 1)))


def means(curve: Curve, size: int) -> Curve:
    """One point for every `size` neighbours."""
    return [(fmean(x for x, _ in part), fmean(y for _, y in part)) for part in _chunks(curve, size)]


def band(plot: svg.Plot, curve: Curve, size: int, colour: str) -> Markup:
    """From the lowest to the highest of each `size` neighbours; nothing where each stands for itself."""
    if size < 2:
        return Markup("")
    parts = [(fmean(x for x, _ in part), [y for _, y in part]) for part in _chunks(curve, size)]
    upper = [(plot.x(x), plot.y(max(ys))) for x, ys in parts]
    lower = [(plot.x(x), plot.y(min(ys))) for x, ys in reversed(parts)]
    outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in upper + lower)
    return svg.element("polygon", points=outline, class_=f"spread f-{colour}")


def _chunks(curve: Curve, size: int) -> list[Curve]:
    return [curve[i : i + size] for i in range(0, len(curve), size)]
