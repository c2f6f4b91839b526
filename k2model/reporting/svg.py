"""A small vocabulary for inline SVG: elements, scales, ticks and a plot area with axes.

The report is one file that opens without network and follows the reader's light or dark scheme, so
its figures are SVG whose colours are CSS classes of the report's style sheet. No layout engine and
no interactivity beyond the browser's own tooltips (`<title>`).

Coordinates are user units of the viewBox; y grows downwards. Every text passes through `escape`.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape


def element(name: str, *children: object, **attributes: object) -> Markup:
    """One element; `class_` and `font_size` become `class` and `font-size`, None is left out."""
    text = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if not children:
        return Markup(f"<{name}{text}/>")
    return Markup(f"<{name}{text}>") + join(children) + Markup(f"</{name}>")


def join(children: Sequence[object]) -> Markup:
    return Markup("").join(child if isinstance(child, Markup) else escape(child) for child in children)


def text(x: float, y: float, content: object, class_: str = "", anchor: str = "start", **more: object) -> Markup:
    return element("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor, **more)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def polyline(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    return element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str, *children: object, **more: object) -> Markup:
    return element(
        "rect", *children, x=x, y=y, width=max(width, 0), height=max(height, 0), class_=class_ or None, **more
    )


def drawing(width: float, height: float, label: str, *children: object, class_: str = "") -> Markup:
    """The outer `<svg>`; `label` is what a screen reader says."""
    return element(
        "svg", *children, viewBox=f"0 0 {_short(width)} {_short(height)}", role="img", aria_label=label,
        class_=class_ or None,
    )  # fmt: skip


CHARACTER = 7.4  # width of a label's character at most, in the widest of common sans-serif fonts


@dataclass(frozen=True)
class Scale:
    """Maps data `low..high` to pixels `start..end`, linearly or over the logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (
            (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        share = (at - low) / (high - low) if high != low else 0.5
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True)
class PiecewiseScale(Scale):
    """Linear between `knots`, (value, share of `start..end`) from `low` to `high`: an axis with stretched parts."""

    knots: tuple[tuple[float, float], ...] = ()

    def __call__(self, value: float) -> float:
        before, after = next(
            (pair for pair in itertools.pairwise(self.knots) if value <= pair[1][0]), (self.knots[-2], self.knots[-1])
        )
        return Scale(before[0], after[0], self._at(before[1]), self._at(after[1]))(value)

    def _at(self, share: float) -> float:
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within `low..high`, about `count` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * min((1, 2, 5, 10), key=lambda m: abs(m * power - raw))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions moved apart as little as needed so that neighbours keep `gap`, within `low..high`.

    Order is kept. When they cannot all fit, they are set evenly.
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    if len(order) > 1 and (len(order) - 1) * gap > high - low:
        gap = (high - low) / (len(order) - 1)
    placed = [0.0] * len(positions)
    previous = low - gap
    for index in order:
        previous = max(positions[index], previous + gap)
        placed[index] = previous
    limit = high
    for index in reversed(order):
        placed[index] = min(placed[index], limit)
        limit = placed[index] - gap
    return placed


def short_number(value: float) -> str:
    """2234368 -> 2.2M, 30000 -> 30k, 0.004 -> 0.004."""
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            scaled = value / size
            return f"{scaled:.{0 if scaled >= 100 or scaled == int(scaled) else 1}f}{suffix}"
    return f"{value:g}"


@dataclass(frozen=True)
class Plot:
    """A plot area inside a drawing: `x` and `y` scales whose pixel ranges are its borders."""

    x: Scale
    y: Scale

    def axes(
        self, x_ticks: Sequence[float], y_ticks: Sequence[float], x_title: str = "", y_format: str = "{:g}",
        x_labels: Sequence[str] | None = None,
    ) -> Markup:  # fmt: skip
        """Horizontal grid lines with labels, x ticks with labels, no box."""
        parts = []
        for value in y_ticks:
            at = self.y(value)
            parts.append(line(self.x.start, at, self.x.end, at, "grid"))
            parts.append(text(self.x.start - 5, at + 3.5, y_format.format(value), "tick", "end"))
        labels = x_labels or [short_number(value) for value in x_ticks]
        for value, label in zip(x_ticks, labels, strict=True):
            parts.append(line(self.x(value), self.y.start, self.x(value), self.y.start + 4, "axis"))
            parts.append(text(self.x(value), self.y.start + 16, label, "tick", "middle"))
        parts.append(line(self.x.start, self.y.start, self.x.end, self.y.start, "axis"))
        if x_title:
            parts.append(text(self.x.end, self.y.start + 31, x_title, "tick", "end"))
        return join(parts)

    def points(self, values: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(self.x(x), self.y(y)) for x, y in values]

    def error_bar(self, x_pixel: float, low: float, high: float, class_: str) -> Markup:
        return line(x_pixel, self.y(low), x_pixel, self.y(high), class_)

    def end_labels(self, labels: Sequence[tuple[float, str, str]], x_pixel: float, gap: float = 14) -> Markup:
        """Direct labels (y value, text, class) right of the data, moved apart where they would collide."""
        wanted = [self.y(value) for value, _, _ in labels]
        top, bottom = min(self.y.start, self.y.end), max(self.y.start, self.y.end)
        placed = spread(wanted, gap, top, bottom)
        return join(
            [text(x_pixel, at + 3.5, label, class_) for at, (_, label, class_) in zip(placed, labels, strict=True)]
        )


def _short(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
