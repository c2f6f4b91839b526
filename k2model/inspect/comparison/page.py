"""A comparison as one HTML file that loads nothing: what `k2 compare` tells in the terminal, and the curves of both."""

from pathlib import Path
from typing import Any

from k2model.inspect.comparison.content import Comparison, Side
from k2model.inspect.comparison.figures import difference_bar, loss_figure, score_panels
from k2model.inspect.comparison.scores import FEWEST, LEVEL, ScoreLine, expected_by_luck
from k2model.inspect.comparison.settings import shown
from k2model.reporting.lineage import Groups, grouped, legend, lineage_figure, reading
from k2model.reporting.scores import parse
from k2model.reporting.svg import short_number
from k2model.reporting.templates import filled, shortened


def comparison_page(found: Comparison) -> str:
    """The page as HTML. The template escapes all text; figures are put in as they are."""
    filters = {"short": short_number, "value": lambda one: shortened(shown(one)), "signed": _signed}
    return filled(Path(__file__).parent / "comparison.html.j2", filters, _context(found))


def _context(found: Comparison) -> dict[str, Any]:
    keys = [[side.named.key, *side.model.values()] for side in (found.first, found.second)]
    seen = found.lineage.only(found.lineage.before(*keys[0], *keys[1]))
    groups = grouped(seen, reading(found.store))
    told = [found.lineage.before(*own) for own in keys]
    return {
        "found": found,
        "sides": (("first", found.first), ("second", found.second)),
        "settings": found.settings,
        "groups": _score_groups(found.scores),
        "tests": sum(one.paired is not None for one in found.scores),
        "luck": expected_by_luck(found.scores),
        "significant": sum(one.significant for one in found.scores),
        "level": LEVEL,
        "fewest": FEWEST,
        "bars": _bars(found.scores),
        "loss": loss_figure(found),
        "panels_of_scores": score_panels(found),
        "figure": lineage_figure(seen, groups, _marks(groups, told)),
        "legend": legend(groups),
        "missing": found.missing,
        "tokens": lambda side: _tokens(side),
    }


def _tokens(side: Side) -> str:
    return f"{short_number(side.way[-1].end)} tokens" if side.way else ""


def _score_groups(lines: list[ScoreLine]) -> list[tuple[str, list[tuple[str, ScoreLine]]]]:
    """The lines by group of capabilities, each with its title."""
    found: dict[str, list[tuple[str, ScoreLine]]] = {}
    for line in lines:
        row = line.first or line.second
        name = parse(line.score, row.group if row else None)
        variant = f", {name.variant.replace('_', ' ')}" if name.variant else ""
        found.setdefault(name.group, []).append((f"{name.title}{variant}", line))
    return list(found.items())


def _bars(lines: list[ScoreLine]) -> dict[str, Any]:
    """The difference of each score as a drawing; accuracies share a scale, losses another."""
    bars = {}
    for accuracy in (True, False):
        own = [one for one in lines if one.paired and bool(one.first and one.first.is_accuracy) is accuracy]
        most = max((abs(end) for one in own if one.paired for end in (one.paired.low, one.paired.high)), default=0.0)
        for one in own:
            better = None if not one.significant else one.verdict == "better"
            if one.paired:
                bars[one.score] = difference_bar(one.paired, most or 1.0, better)
    return bars


def _marks(groups: Groups, told: list[list[Any]]) -> dict[str, str]:
    """The frames of what only one side comes from."""
    marks = {}
    for name, group in groups.all.items():
        sides = {which for which, keys in zip(("first", "second"), told, strict=True) if set(group.members) & set(keys)}
        if len(sides) == 1:
            marks[name] = sides.pop()
    return marks


def _signed(value: float) -> str:
    """With a minus as typeset."""
    return f"{value:+.3f}".replace("-", "−")
