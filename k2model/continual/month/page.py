"""The report of a month: each day's decision and why, the champion's scores over the days, what was forgotten with and
without replay, and the champion beside a model from scratch.

One file without scripts or addresses, in the style sheet of the lifecycle's report.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from k2model.continual.month.days import LENGTH
from k2model.continual.month.outcome import NEW, Champion, Month, claim, forgotten, lost, old
from k2model.continual.verdict.capabilities import Row
from k2model.recipe.tasks import LOSS
from k2model.reporting import svg
from k2model.reporting.templates import filled
from k2model.reporting.timeline import Panel

if TYPE_CHECKING:
    pass

WIDTH, HEIGHT = 430, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 400, 16, 204
_LABELS = 74  # at the right, for the names of lines
_COLOURS = ("c0", "c1", "c2", "c3", "c4", "c5", "c6")
BAR, BAR_HEIGHT = 180, 20


def render(month: Month, name: str) -> str:
    """The page as HTML; all text is escaped by the template, only the drawings are inserted as they are."""
    shown = {
        "month": month,
        "name": name,
        "claim": claim(month),
        "panels": panels(month),
        "kept": old(month.kept),
        "losses": old(month.kept, losses=True),
        "forgotten": {row.score: row for row in month.forgotten},
        "new": [row for row in month.kept if row.score in NEW],
        "beside": [row for row in month.beside if not row.score.startswith(f"{LOSS}/")],
        "beside_losses": [row for row in month.beside if row.score.startswith(f"{LOSS}/")],
        "gone": forgotten(month),
        "old": [*old(month.kept), *old(month.kept, losses=True)],
    }
    return filled(Path(__file__).with_name("month.html.j2"), {"lost": lost, "drawn": drawn}, shown)


def panels(month: Month) -> list[Panel]:
    """Over the days: the new scores, and of each family that the lifecycle taught the score that it does best, with
    replay as a line and without as dashes."""
    last = month.champions[-1].scores
    accuracies = [name for name, row in last.items() if row.is_accuracy and name not in NEW]
    families = dict.fromkeys(name.partition("/")[0] for name in accuracies)
    best = [
        max((name for name in accuracies if name.partition("/")[0] == family), key=lambda name: last[name].value)
        for family in families
    ]
    groups = {"New in this month": [name for name in NEW if name in last]}
    groups |= {"Taught by the lifecycle": best[: len(_COLOURS)], "": best[len(_COLOURS) :]}
    return [
        Panel(title or "Taught by the lifecycle, too", _over_days(title or "Further scores", names, month))
        for title, names in groups.items()
        if names
    ]


def _over_days(title: str, names: Sequence[str], month: Month) -> Markup:
    plot = svg.Plot(svg.Scale(0, LENGTH, _LEFT, _RIGHT - _LABELS), svg.Scale(0, 1, _BOTTOM, _TOP))
    parts: list[Markup] = [plot.axes(range(0, LENGTH + 1, 5), (0, 0.25, 0.5, 0.75, 1), "day", "{:.0%}")]
    labels = []
    for name, colour in zip(names, _COLOURS, strict=False):
        parts.append(_stairs(plot, name, month.champions, f"line s-{colour}", colour, whiskers=True))
        if month.chain:
            parts.append(_stairs(plot, name, (month.champions[0], *month.chain), f"line link s-{colour}", colour))
        labels.append((month.champions[-1].scores[name].value, name, f"label t-{colour}"))
    parts.append(plot.end_labels(labels, _RIGHT - _LABELS + 6))
    return svg.drawing(WIDTH, HEIGHT, title, *parts)


def _stairs(
    plot: svg.Plot, name: str, models: Sequence[Champion], class_: str, colour: str, whiskers: bool = False
) -> Markup:
    """A score that stays from one model to the next."""
    there = [(one, one.scores[name]) for one in models if name in one.scores]
    points: list[tuple[float, float]] = []
    for (one, row), until in zip(there, [*(after.since for after, _ in there[1:]), LENGTH], strict=True):
        points += [(one.since, row.value), (until, row.value)]
    parts = [svg.polyline(plot.points(points), class_)]
    if whiskers:
        parts += [plot.error_bar(plot.x(one.since), row.low, row.high, f"whisker s-{colour}") for one, row in there]
        parts += [
            svg.element(
                "circle",
                svg.element("title", f"{name}, from day {one.since}: {row.value:.3f} ({row.low:.3f}–{row.high:.3f})"),
                cx=plot.x(one.since), cy=plot.y(row.value), r=3, class_=f"full m-{colour}",
            )
            for one, row in there
        ]  # fmt: skip
    return svg.join(parts)


def drawn(row: Row) -> Markup:
    """An accuracy before and after, from 0 to 1, with the interval of what it is after."""
    x = svg.Scale(0, 1, 4, BAR - 4)
    middle = BAR_HEIGHT / 2
    colour = "s-d4" if lost(row) else "s-c0"
    return svg.drawing(
        BAR, BAR_HEIGHT, f"{row.score}: {row.champion:.2f} to {row.challenger:.2f}",
        svg.line(x(0), middle, x(1), middle, "grid"),
        svg.line(x(row.challenger_low), middle, x(row.challenger_high), middle, f"line {colour}"),
        svg.line(x(row.champion), 3, x(row.champion), BAR_HEIGHT - 3, "border"),
        svg.element("circle", cx=x(row.challenger), cy=middle, r=4, class_=f"full m-{'c1' if lost(row) else 'c0'}"),
    )  # fmt: skip
