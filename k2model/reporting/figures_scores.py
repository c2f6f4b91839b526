"""Figures of what the model can do: capabilities over tokens, context extension, effort.

Each function takes score rows as measured and returns panels (title, SVG). Filled markers are plain
completion, hollow ones chat; whiskers are the rows' own 95% intervals.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from k2model.evals.scores import ScoreRow
from k2model.recipe.schema import AdoptedModel, PhaseConfig
from k2model.recipe.tasks import LOSS
from k2model.reporting import svg
from k2model.reporting.scores import CONTINUES, EFFORTS, ScoreName, order_key, parse
from k2model.reporting.timeline import Panel, Timeline

WIDTH, HEIGHT = 430, 262
_LEFT, _RIGHT, _TOP, _BOTTOM = 36, 312, 38, 224
QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)

_CONTINUES = {**CONTINUES, "chat_seen": "seen_wording", "chat_heldout": "heldout_wording"}
_CHAT_ONLY_IN_EFFORT_FIGURE = "medium"
COLOURS = {"think": "c0", "direct": "c1", "heldout_wording": "c0", "seen_wording": "c1"}


@dataclass(frozen=True)
class _Series:
    label: str
    colour: str
    rows: tuple[ScoreRow, ...]
    chat: tuple[ScoreRow, ...] = ()

    @property
    def last(self) -> ScoreRow:
        return (self.rows + self.chat)[-1]


def capability_panels(rows: Sequence[ScoreRow], timeline: Timeline) -> list[Panel]:
    """One panel per family of accuracies: accuracy after each phase over tokens seen. Tables have pass@k as well."""
    plain = [
        row for row in rows
        if row.is_accuracy and row.phase in timeline.spans
        and not parse(row.score).variant and not parse(row.score).repeated
    ]  # fmt: skip
    families: dict[str, list[ScoreRow]] = {}
    for row in sorted(plain, key=lambda row: order_key(row.score, row.group)):
        families.setdefault(parse(row.score).family, []).append(row)
    panels = []
    for members in families.values():
        name = parse(members[0].score, members[0].group)
        title = name.group if name.family_title == name.group else f"{name.group} · {name.family_title}"
        phases = {row.phase for row in members}
        image = _dots(members) if len(phases) == 1 else _lines(_series(members), timeline, title)
        panels.append(Panel(title + (f", after {phases.pop()}" if len(phases) == 1 else ""), image))
    return panels


def loss_panel(rows: Sequence[ScoreRow], timeline: Timeline, colours: dict[str, str]) -> Panel | None:
    """Held-out loss per domain in nats per token; `colours` maps a domain to its CSS class."""
    losses: dict[str, list[ScoreRow]] = {}
    for row in rows:
        if parse(row.score).family == LOSS and row.phase in timeline.spans:
            losses.setdefault(parse(row.score).mode, []).append(row)
    if not losses:
        return None
    series = [_Series(domain.replace("_", " "), colours.get(domain, "c7"), tuple(losses[domain])) for domain in losses]
    high = max(row.high for found in losses.values() for row in found)
    y_ticks = svg.ticks(0, high, 5)
    return Panel("Held-out loss, nats per token", _lines(series, timeline, "held-out loss", high * 1.02, y_ticks))


def extension_panels(
    rows: Sequence[ScoreRow], phases: Sequence[PhaseConfig], adopted: Sequence[AdoptedModel] = ()
) -> list[Panel]:
    """One panel per phase that raises RoPE theta: retrieval accuracy over length, before and after."""
    by_name: dict[str, PhaseConfig | AdoptedModel] = {phase.name: phase for phase in phases}
    by_name |= {model.name: model for model in adopted}
    panels = []
    for phase in phases:
        curves = extension_curves(rows, phase.name)
        if not curves["parent_theta"] and not curves["new_theta"]:
            continue
        # At the other lengths the parent's weights with its own theta are the parent's own scores.
        curves["parent_theta"] = extension_curves(rows, phase.parent)[""] | curves["parent_theta"]
        parent = by_name[phase.parent]
        title = (
            f"{phase.name}: {parent.sequence_length:,} → {phase.sequence_length:,} tokens, "
            f"θ {svg.short_number(parent.rope_theta)} → {svg.short_number(phase.rope_theta)}"
        )
        panels.append(Panel(title, _extension(curves, phase)))
    return panels


def extension_curves(rows: Iterable[ScoreRow], phase: str) -> dict[str, dict[int, ScoreRow]]:
    """variant (`parent_theta`, `new_theta`, "" = trained) -> length -> row, of one phase's retrieval scores."""
    curves: dict[str, dict[int, ScoreRow]] = {"parent_theta": {}, "new_theta": {}, "": {}}
    for row in rows:
        name = parse(row.score)
        if row.phase == phase and name.family == "retrieval" and name.variant in curves and name.mode.isdigit():
            curves[name.variant][int(name.mode)] = row
    return curves


def effort_panels(rows: Sequence[ScoreRow]) -> list[Panel]:
    """One panel per family asked at several efforts: accuracy over mean generated tokens."""
    families: dict[tuple[str, str], dict[str, ScoreRow]] = {}
    for row in sorted(rows, key=lambda row: order_key(row.score)):
        name = parse(row.score)
        if name.mode in EFFORTS and row.mean_tokens is not None:
            families.setdefault((row.phase, name.family), {})[name.mode] = row
    return [
        Panel(f"{parse(next(iter(found.values())).score).family_title}, {phase}", _effort(found))
        for (phase, _), found in families.items()
    ]


def _series(members: Sequence[ScoreRow]) -> list[_Series]:
    """Rows of one family as curves; a chat score joins the curve it continues."""
    modes: dict[str, list[ScoreRow]] = {}
    for row in members:
        modes.setdefault(parse(row.score).mode, []).append(row)
    modes.pop(_CHAT_ONLY_IN_EFFORT_FIGURE, None)
    chat = {
        _CONTINUES[mode]: modes.pop(mode) for mode in list(modes) if mode in _CONTINUES and _CONTINUES[mode] in modes
    }
    lengths = [mode for mode in modes if mode.isdigit()]
    series = []
    for index, (mode, found) in enumerate(modes.items()):
        if mode in lengths:
            colour = f"r{round(lengths.index(mode) * 5 / max(len(lengths) - 1, 1))}"
        else:
            colour = COLOURS.get(mode, f"c{index % 7}")
        series.append(_Series(label_of(parse(found[0].score)), colour, tuple(found), tuple(chat.get(mode, ()))))
    return series


def label_of(name: ScoreName) -> str:
    return f"{int(name.mode):,} tokens" if name.family == "retrieval" else name.mode_title or name.family_title


def _lines(
    series: Sequence[_Series], timeline: Timeline, title: str, high: float = 1.0, y_ticks: Sequence[float] = QUARTERS
) -> Markup:
    plot = svg.Plot(timeline.scale(_LEFT, _RIGHT), svg.Scale(0, high, _BOTTOM, _TOP))
    parts = [plot.axes(timeline.ticks(), y_ticks, "tokens seen"), timeline.borders(plot)]
    chances = sorted({row.chance for one in series for row in one.rows if row.chance is not None})
    for chance in chances:
        parts.append(svg.line(_LEFT, plot.y(chance), _RIGHT, plot.y(chance), "chance"))
        parts.append(svg.text(_LEFT + 3, plot.y(chance) - 4, "chance", "tick"))
    for index, one in enumerate(series):
        parts.append(_curve(one, timeline, plot, (index - (len(series) - 1) / 2) * min(3.0, 12 / len(series))))
    labels = [(one.last.value, one.label, f"label t-{one.colour}") for one in series]
    parts.append(plot.end_labels(labels, _RIGHT + 10))
    return svg.drawing(WIDTH, HEIGHT, title, *parts)


def _curve(one: _Series, timeline: Timeline, plot: svg.Plot, dodge: float) -> Markup:
    """The line through the completion scores along the parents of phases, dashed links to chat scores, markers with
    whiskers. Where phases were trained side by side, their points are named."""

    def at(row: ScoreRow) -> tuple[float, float]:
        return plot.x(timeline.end(row.phase)) + dodge, plot.y(row.value)

    plain, chat = ({row.phase: row for row in rows} for rows in (one.rows, one.chat))
    parts = [svg.polyline([at(row) for row in line], f"line s-{one.colour}") for line in _along(plain, timeline)]
    for row in one.chat:
        known = [(chat.get(phase) or plain.get(phase)) for phase in timeline.before(row.phase)]
        if before := next((found for found in known if found), None):
            parts.append(svg.polyline([at(before), at(row)], f"line link s-{one.colour}"))
    for row, kind in [(row, "full") for row in one.rows] + [(row, "hollow") for row in one.chat]:
        parts.append(_marker(plot, row, *at(row), f"{kind} m-{one.colour}"))
        if timeline.beside(row.phase):
            x, y = at(row)
            parts.append(svg.text(x - 6, y - 4, row.phase, f"tick halo t-{one.colour}", "end"))
    return svg.join(parts)


def _along(rows: Mapping[str, ScoreRow], timeline: Timeline) -> list[list[ScoreRow]]:
    """Lines through rows by phase: one goes on from the nearest phase before it that has a row, and a second one of the
    same parent is a line of its own."""
    lines: list[list[ScoreRow]] = []
    for phase in (one for one in timeline.spans if one in rows):
        before = next((rows[one] for one in timeline.before(phase) if one in rows), None)
        line = next((own for own in lines if own[-1] is before), None)
        if line is not None:
            line.append(rows[phase])
        else:
            lines.append([*([before] if before else []), rows[phase]])
    return lines


def _marker(plot: svg.Plot, row: ScoreRow, x: float, y: float, class_: str) -> Markup:
    colour = class_.split("m-")[1]
    whisker = plot.error_bar(x, row.low, row.high, f"whisker s-{colour}")
    return whisker + svg.element("circle", svg.element("title", tooltip(row)), cx=x, cy=y, r=3.1, class_=class_)


def tooltip(row: ScoreRow) -> str:
    more = f", {row.mean_tokens:.0f} tokens generated" if row.mean_tokens is not None else ""
    more += "".join(
        f", {count} {what}"
        for count, what in ((row.cut_off, "cut off"), (row.too_long, "too long"), (row.unscored, "unscored"))
        if count
    )
    return f"{row.score} after {row.phase}: {row.value:.3f} [{row.low:.3f}, {row.high:.3f}], n = {row.n}{more}"


def _dots(rows: Sequence[ScoreRow]) -> Markup:
    """Scores of a single phase: one horizontal interval each."""
    plot = svg.Plot(svg.Scale(0, 1, 140, WIDTH - 50), svg.Scale(0, 1, _BOTTOM, _TOP))
    parts = []
    for value in QUARTERS:
        parts.append(svg.line(plot.x(value), _TOP, plot.x(value), _BOTTOM, "grid"))
        parts.append(svg.text(plot.x(value), _BOTTOM + 15, f"{value:g}", "tick", "middle"))
    gap = (_BOTTOM - _TOP) / len(rows)
    for index, row in enumerate(rows):
        y = _TOP + gap * (index + 0.5)
        parts.append(svg.text(132, y + 3.5, label_of(parse(row.score)), "label", "end"))
        parts.append(svg.line(plot.x(row.low), y, plot.x(row.high), y, "whisker s-c0"))
        title = svg.element("title", tooltip(row))
        parts.append(svg.element("circle", title, cx=plot.x(row.value), cy=y, r=4, class_="hollow m-c0"))
        parts.append(svg.text(plot.x(max(row.high, row.value)) + 7, y + 3.5, f"{row.value:.2f}", "label t-c0"))
    return svg.drawing(WIDTH, HEIGHT, "scores of one phase", *parts)


def _extension(curves: dict[str, dict[int, ScoreRow]], phase: PhaseConfig) -> Markup:
    lengths = sorted({length for curve in curves.values() for length in curve})
    at = {length: index for index, length in enumerate(lengths)}
    plot = svg.Plot(svg.Scale(-0.25, len(lengths) - 0.75, _LEFT, _RIGHT), svg.Scale(0, 1, _BOTTOM, _TOP - 18))
    parts = []
    if phase.sequence_length in at:
        x = plot.x(at[phase.sequence_length])
        parts.append(svg.rect(x - 15, _TOP - 18, 30, _BOTTOM - _TOP + 18, "band"))
    ticks = [float(at[length]) for length in lengths]
    parts.append(plot.axes(ticks, QUARTERS, "length of the text, tokens", x_labels=[f"{n:,}" for n in lengths]))
    styles = (("parent_theta", "c7", "parent, old θ"), ("new_theta", "c1", "parent, new θ"), ("", "c0", "trained"))
    labels = []
    for index, (variant, colour, label) in enumerate(styles):
        known = [length for length in lengths if length in curves[variant]]
        if not known:
            continue
        curve = [curves[variant][length] for length in known]
        spots = [
            (plot.x(at[length]) + (index - 1) * 4, plot.y(row.value)) for length, row in zip(known, curve, strict=True)
        ]
        parts.append(svg.polyline(spots, f"line s-{colour}"))
        parts += [_marker(plot, row, x, y, f"full m-{colour}") for row, (x, y) in zip(curve, spots, strict=True)]
        if known[-1] == lengths[-1]:
            labels.append((curve[-1].value, label, f"label t-{colour}"))
        else:
            parts.append(svg.text(spots[-1][0] - 4, spots[-1][1] + 24, label, f"label halo t-{colour}"))
    parts.append(plot.end_labels(labels, _RIGHT + 10))
    return svg.drawing(WIDTH, HEIGHT, f"context extension in {phase.name}", *parts)


def _effort(found: dict[str, ScoreRow]) -> Markup:
    rows = [found[effort] for effort in EFFORTS if effort in found]
    widest = max(row.mean_tokens or 0.0 for row in rows) or 1.0
    plot = svg.Plot(svg.Scale(0, widest * 1.12, _LEFT, WIDTH - 24), svg.Scale(0, 1, _BOTTOM, _TOP - 14))
    parts = [plot.axes(svg.ticks(0, widest * 1.12, 5), QUARTERS, "mean tokens generated")]
    spots = [(plot.x(row.mean_tokens or 0.0), plot.y(row.value)) for row in rows]
    parts.append(svg.polyline(spots, "line s-c0"))
    taken: list[tuple[float, float]] = []
    for row, (x, y) in zip(rows, spots, strict=True):
        parts.append(_marker(plot, row, x, y, "hollow m-c0"))
        label = f"{parse(row.score).mode} {row.value:.2f}"
        # Left of and above its point, where a rising line is not; higher where another label is.
        end, at = max(x - 7, _LEFT + svg.CHARACTER * len(label)), max(y - 8, 12)
        while any(abs(end - other) < svg.CHARACTER * len(label) and abs(at - height) < 14 for other, height in taken):
            at -= 14
        taken.append((end, at))
        parts.append(svg.text(end, at, label, "label halo", "end"))
    return svg.drawing(WIDTH, HEIGHT, "accuracy by effort", *parts)
