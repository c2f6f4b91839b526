"""The page of a verdict: what was asked of the challenger, row by row, and what decided.

One file without scripts or addresses, in the style sheet of the lifecycle's report. Beside each row lies its gain in
units of what is allowed: the line from the bound to what was measured must end right of the mark for a promotion.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from k2model.continual.state import Outcome
from k2model.continual.verdict.capabilities import BETTER, NEW, NO_WORSE, Row
from k2model.continual.verdict.verdict import Verdict
from k2model.recipe.safety import SAFETY
from k2model.recipe.tasks import LOSS
from k2model.reporting import svg
from k2model.reporting.templates import filled

if TYPE_CHECKING:
    pass

WIDTH, HEIGHT = 220, 22
SPAN = 2.5  # units of the allowed loss on either side that are drawn
TITLES = {
    Outcome.PROMOTED: "promoted", Outcome.REFUSED: "refused", Outcome.HELD: "held for a person", Outcome.IDLE: "idle",
    Outcome.ANNEALED: "released in its place",
}  # fmt: skip


def render(found: Verdict) -> str:
    """The page as HTML; all text is escaped by the template, only the drawings are inserted as they are."""
    rows = [row for row in found.rows if row.decides and not row.score.endswith(NEW)]
    groups = [
        ("Capabilities", [row for row in rows if not row.score.startswith((f"{LOSS}/", f"{SAFETY}/"))]),
        (
            "Held-out loss on what the champion was trained on",
            [row for row in rows if row.score.startswith(f"{LOSS}/")],
        ),
        ("Safety", [row for row in rows if row.score.startswith(f"{SAFETY}/")]),
    ]
    filters = {"value": value, "gain": gain, "allowed": allowed, "drawn": drawn, "p": probability}
    shown = {
        "found": found,
        "title": TITLES[found.outcome],
        "deciding": [row for row in found.rows if row.decides],
        "groups": [(name, own) for name, own in groups if own],
        "beside": [row for row in found.rows if not row.decides],
        "passed": (NO_WORSE, BETTER),
        "BETTER": BETTER,
    }
    return filled(Path(__file__).with_name("verdict.html.j2"), filters, shown)


def value(number: float, row: Row) -> str:
    """Three digits of an accuracy, four of a loss, which moves by less."""
    return f"{number:.4f}" if row.unit != "accuracy" else f"{number:.3f}"


def gain(number: float | None, row: Row) -> str:
    """Points of an accuracy, percent of the champion's loss."""
    if number is None:
        return "unknown"
    return f"{100 * number:+.1f}{'' if row.unit == 'accuracy' else '%'}".replace("-", "−")


def allowed(row: Row) -> str:
    return f"−{100 * row.allowed:.1f}{'' if row.unit == 'accuracy' else '%'}"


def probability(number: float) -> str:
    return "<0.001" if number < 0.001 else f"{number:.3f}"


def drawn(row: Row) -> Markup:
    """The gain and its bound over a scale whose unit is the allowed loss."""
    scale = svg.Scale(-SPAN, SPAN, 4, WIDTH - 4)
    middle, unit = HEIGHT / 2, row.allowed or 1.0

    def at(number: float) -> float:
        return scale(max(-SPAN, min(SPAN, number / unit)))

    colour = "c2" if row.outcome == BETTER else "c0" if row.passed else "c1"
    parts: list[object] = [
        svg.rect(scale(-1.0), 0, scale(SPAN) - scale(-1.0), HEIGHT, "band"),
        svg.line(scale(0.0), 2, scale(0.0), HEIGHT - 2, "axis"),
        svg.line(scale(-1.0), 0, scale(-1.0), HEIGHT, "undone"),
        svg.line(
            at(row.bound if row.bound is not None else -SPAN * unit), middle, at(row.gain), middle, f"line s-{colour}"
        ),
        svg.element("circle", cx=at(row.gain), cy=middle, r=4, class_=f"full m-{colour}"),
    ]
    label = f"{row.score}: gain {gain(row.gain, row)}, at worst {gain(row.bound, row)}, allowed {allowed(row)}"
    return svg.drawing(WIDTH, HEIGHT, label, *parts)
