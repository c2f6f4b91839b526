"""The axis that figures share, tokens seen since initialisation with phase borders, and curves over it.

A phase with hardly any of the tokens is drawn wider than it is, and ticks tell the tokens. A curve with more
steps than a figure has pixels is drawn as means of neighbours with their range as a band. There is no smoothing beyond
that, so what is drawn is what was logged.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

from markupsafe import Markup

from k2model.recipe.schema import PhaseConfig
from k2model.reporting import svg

_CHARACTER = 6.2  # mean width of a label's character, in units of the viewBox
_ANGLE = 38  # of slanted names, in degrees
_SLANTED = 13 / math.sin(math.radians(_ANGLE))  # between slanted names, whose lines are 13 high
LEAST = 0.06  # of the axis for a phase, however few tokens it has: K2 fine-tunes on 0.3% of all it sees


@dataclass(frozen=True)
class Panel:
    """One of several small figures: its title and its SVG."""

    title: str
    image: Markup


@dataclass(frozen=True)
class Timeline:
    """`spans`: phase -> (tokens seen when it starts, when it ends), in the recipe's order; `parents`: the phase that
    each goes on from, where it is one of these."""

    spans: dict[str, tuple[int, int]]
    parents: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, phases: tuple[PhaseConfig, ...]) -> "Timeline":
        spans: dict[str, tuple[int, int]] = {}
        for phase in phases:
            start = spans[phase.parent][1] if phase.parent in spans else 0
            spans[phase.name] = (start, start + phase.tokens)
        return cls(spans, {phase.name: phase.parent for phase in phases if phase.parent in spans})

    @property
    def total(self) -> int:
        return max((end for _, end in self.spans.values()), default=1)

    def end(self, phase: str) -> int:
        return self.spans[phase][1]

    def before(self, phase: str) -> list[str]:
        """The phases that it comes from, the nearest first."""
        found: list[str] = []
        while (parent := self.parents.get(found[-1] if found else phase)) and parent not in found:
            found.append(parent)
        return found

    def beside(self, phase: str) -> bool:
        """Whether others were trained over the same stretch of tokens: a branch, which a figure has to name."""
        start, end = self.spans[phase]
        return any(one != phase and low < end and start < high for one, (low, high) in self.spans.items())

    @property
    def stretched(self) -> bool:
        """Whether some phase is drawn wider than its tokens are, so that it can be seen."""
        return self._shares != self._real_shares

    def scale(self, start: float, end: float) -> svg.Scale:
        if not self.stretched:
            return svg.Scale(0, self.total, start, end)
        shares = itertools.accumulate(self._shares, initial=0.0)
        return svg.PiecewiseScale(0, self.total, start, end, knots=tuple(zip(self._borders, shares, strict=True)))

    @property
    def _borders(self) -> list[int]:
        return sorted({0, *(border for span in self.spans.values() for border in span)})

    @property
    def _real_shares(self) -> list[float]:
        return [(end - start) / self.total for start, end in itertools.pairwise(self._borders)]

    @property
    def _shares(self) -> list[float]:
        """Of the axis that each stretch between borders takes: what it has of all tokens, `LEAST` at least."""
        real = self._real_shares
        least = min(LEAST, 1 / max(len(real), 1))
        wide = [share for share in real if share >= least]
        if len(wide) == len(real):
            return real
        left = (1 - least * (len(real) - len(wide))) / sum(wide)
        return [share * left if share >= least else least for share in real]

    def ticks(self, count: int = 4) -> list[float]:
        return svg.ticks(0, self.total, count)

    def borders(self, plot: svg.Plot) -> Markup:
        """A hairline where each phase ends and its name above the plot, slanted where names would collide."""
        top = plot.y.end
        named: dict[tuple[int, int], list[str]] = {}  # phases of one stretch share a name
        for phase, span in self.spans.items():
            named.setdefault(span, []).append(phase)
        names = [" / ".join(own) for own in named.values()]
        middles = [plot.x((start + end) / 2) for start, end in named]
        room = [abs(plot.x(end) - plot.x(start)) for start, end in named]
        apart = len(named) == len({start for start, _ in named})
        flat = apart and all(width >= _CHARACTER * len(name) for name, width in zip(names, room, strict=True))
        parts = [svg.line(plot.x(end), plot.y.start, plot.x(end), top - 3, "border") for _, end in named]
        places = middles if flat else svg.spread(middles, _SLANTED, plot.x.start + 4, plot.x.end)
        for name, middle, x in zip(names, middles, places, strict=True):
            turned = None if flat else f"rotate(-{_ANGLE} {x:.1f} {top - 6:.1f})"
            anchor = "middle" if flat else "start"
            parts.append(svg.text(x, top - 6, name, "phase", anchor, transform=turned))
            if abs(x - middle) > 3:
                parts.append(svg.line(x, top - 4, middle, top, "axis"))
        return svg.join(parts)


Curve = list[tuple[float, float]]  # (tokens seen, value)


def bucket_size(curve: Curve, timeline: Timeline, phase: str, points: int) -> int:
    """How many neighbours make a point, where the whole axis is to have about `points` of them."""
    start, end = map(timeline.scale(0, 1), timeline.spans[phase])
    return max(1, round(len(curve) / max(points * (end - start), 1)))


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
