"""What thinking buys: accuracy over the tokens of the trace, by effort and by the budget after which it was closed.

A score is of an effort by its mode (`arithmetic/high`), and of a budget by its variant (`arithmetic/high@budget_256`).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from k2model.evals.items import Grade, ItemResult
from k2model.evals.matrix import Checkpoint
from k2model.evals.statistics import accuracy_interval
from k2model.reporting import svg
from k2model.reporting.figures_scores import QUARTERS
from k2model.reporting.scores import EFFORTS, parse
from k2model.reporting.timeline import Panel

_BUDGET = re.compile(r"budget_(\d+)")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 470, 262, 40, 446, 24, 224
_COLOURS = {"low": "c2", "medium": "c1", "high": "c0"}


@dataclass(frozen=True)
class ThinkingPoint:
    """`tokens`: of the trace, on average over the items. `budget`: after so many it was closed; None = never. `low` and
    `high`: 95% interval of `value`."""

    checkpoint: Checkpoint
    effort: str
    budget: int | None
    tokens: float
    value: float
    low: float
    high: float
    n: int


def thinking_point(checkpoint: Checkpoint, score: str, results: Iterable[ItemResult]) -> ThinkingPoint | None:
    """Of one score; None where it is of no effort, or its items are not kept."""
    name = parse(score)
    budget = _BUDGET.fullmatch(name.variant)
    judged = [one for one in results if one.grade not in (Grade.UNSCORED, Grade.TOO_LONG)]
    if name.mode not in EFFORTS or (name.variant and not budget) or not judged:
        return None
    value = sum(one.value for one in judged) / len(judged)
    low, high = accuracy_interval([one.value for one in judged], [one.cluster for one in judged])
    tokens = sum(one.thinking_tokens for one in judged) / len(judged)
    return ThinkingPoint(
        checkpoint, name.mode, int(budget[1]) if budget else None, tokens, value, low, high, len(judged),
    )  # fmt: skip


def thinking_panels(family: str, points: Sequence[ThinkingPoint]) -> list[Panel]:
    """Two figures at most, of the last checkpoint that was asked: efforts, and budgets where any was forced."""
    last = max((one.checkpoint for one in points), default=None)
    own = [one for one in points if one.checkpoint == last]
    free = sorted((one for one in own if one.budget is None), key=lambda one: EFFORTS.index(one.effort))
    forced = [one for one in own if one.budget is not None]
    title = f"{parse(family).family_title}, {last.reference}" if last else ""
    panels = []
    if len(free) > 1:
        panels.append(Panel(title, _drawn([("", free)])))
    if forced:
        curves = [
            (effort, sorted((one for one in own if one.effort == effort), key=lambda one: one.tokens))
            for effort in dict.fromkeys(one.effort for one in forced)
        ]
        panels.append(
            Panel(f"{title}, traces closed after a budget", _drawn(curves, "tokens of the trace, on average"))
        )
    return panels


def _drawn(curves: Sequence[tuple[str, Sequence[ThinkingPoint]]]) -> Markup:
    widest = max((one.tokens for _, points in curves for one in points), default=0) or 1.0
    plot = svg.Plot(svg.Scale(0, widest * 1.14, _LEFT, _RIGHT), svg.Scale(0, 1, _BOTTOM, _TOP))
    parts = [plot.axes(svg.ticks(0, widest * 1.14, 5), QUARTERS, "tokens of the trace, on average")]
    taken: list[tuple[float, float]] = []
    for label, points in curves:
        spots = [(plot.x(one.tokens), plot.y(one.value)) for one in points]
        parts.append(svg.polyline(spots, f"line s-{_COLOURS.get(label, 'c7')}"))
        for one, (x, y) in zip(points, spots, strict=True):
            colour = _COLOURS[one.effort]
            said = f"{one.effort}{'' if one.budget is None else f', at most {one.budget:,}'}"
            told = f"{said}: {one.value:.3f} [{one.low:.3f}, {one.high:.3f}], {one.tokens:.0f} tokens, n = {one.n}"
            parts.append(plot.error_bar(x, one.low, one.high, f"whisker s-{colour}"))
            parts.append(
                svg.element("circle", svg.element("title", told), cx=x, cy=y, r=3.6, class_=f"full m-{colour}")
            )
            shown = one.effort if one.budget is None else f"{one.budget:,}"
            at = max(y - 8, 12.0)
            while any(abs(x - other) < 46 and abs(at - height) < 13 for other, height in taken):
                at -= 13
            taken.append((x, at))
            parts.append(svg.text(x + 5, at, shown, f"label halo t-{colour}"))
    return svg.drawing(_WIDTH, _HEIGHT, "accuracy over the tokens of the trace", *parts)
