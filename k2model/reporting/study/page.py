"""The study as one HTML file that loads nothing: figures and tables are drawn here, samples travel packed with it.

It has the report's look and is complete without its script, but for searching and for checkpoints between those shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from k2model.evals.clean_scores import CleanScore
from k2model.evals.scores import ScoreRow
from k2model.reporting import figures_context, sections_scores
from k2model.reporting.scores import LOSSES, parse
from k2model.reporting.study.content import Study
from k2model.reporting.study.figures import SINGLE, Found, life_panels
from k2model.reporting.study.published import MODEL, published_for
from k2model.reporting.study.samples import gallery_of, grades_of, packed, shortened
from k2model.reporting.study.series import POOLED, Point, Series
from k2model.reporting.study.statistics import ALPHA, CANDIDATES, FLOOR, drop, emergence
from k2model.reporting.svg import short_number
from k2model.reporting.templates import filled
from k2model.reporting.timeline import Panel

_HERE = Path(__file__).parent
_PROMPT = 1_500  # characters of a prompt or an answer in the gallery


@dataclass(frozen=True)
class Line:
    """One capability over its whole life."""

    title: str
    score: str
    series: Series
    best: Point
    found: Found
    overlap: CleanScore | None

    @property
    def last(self) -> ScoreRow:
        return self.series.points[-1].row

    @property
    def last_at(self) -> str:
        return self.series.points[-1].checkpoint.reference

    @property
    def at_best(self) -> bool:
        return self.last.value == self.best.value

    @property
    def cut_off(self) -> float | None:
        """Of the items asked last, the share whose answer had no end."""
        return self.last.cut_off / self.last.n if self.last.is_accuracy else None


def study_page(study: Study) -> str:
    """The page as HTML. The template escapes all text; figures, the script and the packed samples are put in as they
    are."""
    filters = {
        "short": short_number,
        "cut": lambda text: shortened(text, _PROMPT),
        "signed": _signed,
        "probability": _probability,
        "grade": sections_scores.grade_title,
    }
    return filled(_HERE / "study.html.j2", filters, _context(study))


def _context(study: Study) -> dict[str, Any]:
    found = {one.score: Found(emergence(one), drop(one)) for one in study.series}
    phases = [phase for phase in study.recipe.phases if phase.name in study.timeline.spans]
    ends = [row for rows in _rows_at_ends(study).values() for row in rows]
    names = [phase.name for phase in phases]
    known = {row.benchmark for one in study.series for row in published_for(one.score, names)}
    accuracies = [one for one in study.series if one.is_accuracy]
    return {
        "study": study,
        "recipe": study.recipe,
        "phases": phases,
        "clean": _at_ends(study),
        "groups": _lines(study, found),
        "panels_of_life": life_panels(study.series, found, study.timeline),
        "at_ends": sections_scores.headline(ends, names),
        "losses": sections_scores.losses(ends, names),
        "maps": _maps(study),
        "positions": figures_context.position_panel(_rows_at_ends(study)),
        "thinking": _thinking(study),
        "gallery": gallery_of(study),
        "grades": grades_of(study.samples),
        "sampled_scores": list(dict.fromkeys(shown.result.score for shown in study.samples)),
        "published": MODEL if known else "",
        "published_of": sorted(known),
        "missing": [(one, _missing_by_phase(one)) for one in study.series if one.missing],
        "emerged": sum(one.emergence is not None for one in found.values()),
        "lost": sum(one.drop is not None and one.drop.lost for one in found.values()),
        "accuracies": len(accuracies),
        "alpha": ALPHA,
        "floor": FLOOR,
        "candidates": CANDIDATES,
        "pooled": POOLED,
        "single": SINGLE,
        "script": Markup((_HERE / "study.js").read_text(encoding="utf-8")),
        "worker": Markup((_HERE / "worker.js").read_text(encoding="utf-8")),
        "packed": Markup(packed(study)) if study.samples else "",
    }


def _rows_at_ends(study: Study) -> dict[str, list[ScoreRow]]:
    """Of the last checkpoint of each phase, by phase in their order."""
    found: dict[str, list[ScoreRow]] = {one.reference: [] for one in study.checkpoints if one.last}
    for series in study.series:
        for phase, point in series.phase_ends().items():
            found[phase].append(point.row)
    return found


def _maps(study: Study) -> list[Panel]:
    """Task by task, phase after phase."""
    drawn = [
        (panel.title, checkpoint, Panel(f"{panel.title}, {checkpoint.reference}", panel.image))
        for checkpoint, cells in study.maps.items()
        for panel in figures_context.depth_panels(cells, study.recipe.trained_length(checkpoint.phase))
    ]
    return [panel for _, _, panel in sorted(drawn, key=lambda one: one[:2])]


def _thinking(study: Study) -> list[Panel]:
    """Of the last checkpoint at which a family was asked at several efforts, or with its traces closed early."""
    last = {
        point.family: checkpoint
        for checkpoint, points in sorted(study.thinking.items(), key=lambda one: one[0])
        for point in points
        if sum(other.family == point.family for other in points) > 1
    }
    panels = []
    for family, checkpoint in last.items():
        points = [point for point in study.thinking[checkpoint] if point.family == family]
        drawn = figures_context.effort_panels(points)
        panels += [Panel(f"{panel.title}, {checkpoint.reference}", panel.image) for panel in drawn]
    return panels


def _at_ends(study: Study) -> dict[tuple[str, str], CleanScore]:
    """By phase and score, as tables of phases look them up."""
    return {(at.phase, score): clean for (score, at), clean in study.overlaps.items() if at.last}


def _lines(study: Study, found: dict[str, Found]) -> list[tuple[str, list[Line]]]:
    """The capabilities by group, in the order of tables; losses come last."""
    groups: dict[str, list[Line]] = {}
    for one in study.series:
        name = parse(one.score, one.rows[0].group)
        best = max(one.points, key=lambda point: point.value if one.is_accuracy else -point.value)
        title = name.mode.replace("_", " ") if name.group == LOSSES and name.mode else name.title
        if name.variant:
            title = f"{title}, {name.variant.replace('_', ' ')}"
        overlap = study.overlaps.get((one.score, one.points[-1].checkpoint))
        line = Line(title, one.score, one, best, found[one.score], overlap)
        groups.setdefault(name.group, []).append(line)
    return list(groups.items())


def _signed(value: float) -> str:
    """With a minus as typeset."""
    return f"{value:+.2f}".replace("-", "−")


def _probability(p: float) -> str:
    return f"p = {p:.2g}" if p >= 1e-6 else "p < 1e-6"


def _missing_by_phase(one: Series) -> Sequence[tuple[str, int]]:
    counts: dict[str, int] = {}
    for checkpoint in one.missing:
        counts[checkpoint.phase] = counts.get(checkpoint.phase, 0) + 1
    return list(counts.items())
