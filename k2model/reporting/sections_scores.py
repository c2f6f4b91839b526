"""The report's sections on scores: highlights, the headline table, context extension, effort, gates, samples."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from k2model.errors import visible
from k2model.evals.items import Grade, ItemResult
from k2model.evals.scores import ScoreRow
from k2model.recipe.schema import AdoptedModel, PhaseConfig
from k2model.recipe.tasks import LOSS
from k2model.registry.gates import GateResult
from k2model.reporting import svg
from k2model.reporting.figures_scores import extension_curves
from k2model.reporting.scores import CONTINUES, EFFORTS, order_key, parse, score_order

_LONGEST_SHOWN = 900  # characters of a prompt or generation

Rows = dict[tuple[str, str], ScoreRow]


@dataclass(frozen=True)
class Highlight:
    """One of the four numbers a reader asks for first, as labelled values and a sentence."""

    title: str
    numbers: tuple[tuple[str, float], ...]
    text: str


def highlights(rows: Sequence[ScoreRow], phases: Sequence[PhaseConfig]) -> list[Highlight]:
    """Each is shown where its scores exist. Where one of several families is shown it is the one with the largest
    difference, and the text says so; the tables hold the others."""
    found: Rows = {(row.phase, row.score): row for row in rows}
    makers: tuple[Callable[[Rows, Sequence[PhaseConfig]], Highlight | None], ...] = (
        _knowledge, _thinking, _context, _effort,
    )  # fmt: skip
    return [made for make in makers if (made := make(found, phases)) is not None]


def _knowledge(rows: Rows, phases: Sequence[PhaseConfig]) -> Highlight | None:
    numbers = [
        (phase.name, rows[phase.name, "facts/heldout_wording"].value)
        for phase in (phases[0], phases[-1])
        if (phase.name, "facts/heldout_wording") in rows
    ]
    if not numbers:
        return None
    return Highlight("Knowledge", tuple(numbers), "Facts completed right in wordings that were never trained on.")


def _thinking(rows: Rows, phases: Sequence[PhaseConfig]) -> Highlight | None:
    for phase in reversed(phases):
        pair = _widest(rows, phase.name, "think", "direct")
        if pair is not None:
            think, direct = pair
            return Highlight(
                "Thinking",
                (("answer only", direct.value), ("with trace", think.value)),
                f"{parse(think.score).family_title} after {phase.name}, the family where a trace matters most.",
            )
    return None


def _context(rows: Rows, phases: Sequence[PhaseConfig]) -> Highlight | None:
    for phase in reversed(phases):
        curves = extension_curves(rows.values(), phase.name)
        length = phase.sequence_length
        labels = {"parent_theta": "old θ", "new_theta": "new θ alone", "": "trained"}
        if all(length in curves[variant] for variant in labels):
            numbers = tuple((label, curves[variant][length].value) for variant, label in labels.items())
            return Highlight("Longer context", numbers, f"Retrieval at {length:,} tokens, extended in {phase.name}.")
    return None


def _effort(rows: Rows, phases: Sequence[PhaseConfig]) -> Highlight | None:
    for phase in reversed(phases):
        pair = _widest(rows, phase.name, "high", "low")
        if pair is not None:
            high, low = pair
            tokens = ""
            if low.mean_tokens is not None and high.mean_tokens is not None:
                tokens = f" {low.mean_tokens:.0f} and {high.mean_tokens:.0f} tokens generated on average."
            return Highlight(
                "Reasoning effort",
                (("low", low.value), ("high", high.value)),
                f"{parse(high.score).family_title} after {phase.name}, the family where effort matters most.{tokens}",
            )
    return None


def _widest(rows: Rows, phase: str, mode: str, minus: str) -> tuple[ScoreRow, ScoreRow] | None:
    """The rows `<family>/<mode>` and `<family>/<minus>` of `phase` with the largest difference."""
    pairs = [
        (row, rows[phase, f"{parse(score).family}/{minus}"])
        for (at, score), row in rows.items()
        if at == phase and parse(score).mode == mode and (phase, f"{parse(score).family}/{minus}") in rows
    ]
    return max(pairs, key=lambda pair: pair[0].value - pair[1].value, default=None)


@dataclass(frozen=True)
class ScoreLine:
    """One score over the phases; a cell is None where the phase was not asked for it. `notes` name the
    mode of a cell that is not the line's own."""

    title: str
    chance: float | None
    cells: tuple[ScoreRow | None, ...]
    notes: tuple[str, ...]

    @property
    def items(self) -> str:
        """How many were asked, or documents read, in every phase."""
        counts = sorted({cell.n for cell in self.cells if cell})
        return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,}–{counts[-1]:,}"


@dataclass(frozen=True)
class ScoreGroup:
    title: str
    lines: tuple[ScoreLine, ...]


def headline(rows: Sequence[ScoreRow], phases: Sequence[str]) -> list[ScoreGroup]:
    """Accuracies in groups of capabilities.

    High and low effort stand in the rows of trace and direct answer that they continue, named in their
    cells. Left to the sections of their own: medium effort, and context extension before training.
    """
    shown = [row for row in rows if row.is_accuracy and not parse(row.score).variant]
    asked = {row.score for row in shown}
    placed = []
    for row in shown:
        name = parse(row.score)
        base = f"{name.family}/{CONTINUES.get(name.mode, name.mode)}"
        if base in asked and base != row.score:
            placed.append((base, row))
        elif name.asked != "medium" or f"{name.family}/high" not in asked:
            placed.append((row.score, row))
    return _groups(placed, phases)


def every_accuracy(rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    """By score in reading order, then by phase as they come."""
    order = {score: place for place, score in enumerate(score_order(rows))}
    return sorted((row for row in rows if row.is_accuracy), key=lambda row: order[row.score])


def losses(rows: Sequence[ScoreRow], phases: Sequence[str]) -> list[ScoreGroup]:
    return _groups([(row.score, row) for row in rows if parse(row.score).family == LOSS], phases)


@dataclass(frozen=True)
class EffortLine:
    """One family of one phase at low, medium and high effort."""

    phase: str
    title: str
    cells: tuple[ScoreRow | None, ...]


def effort_lines(rows: Sequence[ScoreRow]) -> list[EffortLine]:
    found: dict[tuple[str, str], dict[str, ScoreRow]] = {}
    for row in sorted(rows, key=lambda row: order_key(row.score)):
        name = parse(row.score)
        if name.mode in EFFORTS:
            found.setdefault((row.phase, name.family), {})[name.mode] = row
    return [
        EffortLine(phase, parse(family).family_title, tuple(by_effort.get(effort) for effort in EFFORTS))
        for (phase, family), by_effort in found.items()
    ]


@dataclass(frozen=True)
class ExtensionLine:
    """The three numbers of a context extension at the phase's own length."""

    phase: str
    length: int
    thetas: str
    old_theta: ScoreRow | None
    new_theta: ScoreRow | None
    trained: ScoreRow | None


def extension_lines(
    rows: Sequence[ScoreRow], phases: Sequence[PhaseConfig], adopted: Sequence[AdoptedModel] = ()
) -> list[ExtensionLine]:
    by_name: dict[str, PhaseConfig | AdoptedModel] = {phase.name: phase for phase in phases}
    by_name |= {model.name: model for model in adopted}
    lines = []
    for phase in phases:
        curves = extension_curves(rows, phase.name)
        if not curves["parent_theta"] and not curves["new_theta"]:
            continue
        length = phase.sequence_length
        thetas = f"{svg.short_number(by_name[phase.parent].rope_theta)} → {svg.short_number(phase.rope_theta)}"
        found = (curves[variant].get(length) for variant in ("parent_theta", "new_theta", ""))
        lines.append(ExtensionLine(phase.name, length, thetas, *found))
    return lines


@dataclass(frozen=True)
class GateLine:
    """`shown` is the measured value as text; `bar` and `tick` are shares of a 0..1 bar."""

    phase: str
    title: str
    wanted: str
    shown: str
    passed: bool
    bar: float
    tick: float


def gate_lines(results: Iterable[GateResult]) -> list[GateLine]:
    return [
        GateLine(
            phase=result.gate.phase,
            title=result.title,
            wanted=result.gate.wanted,
            shown="not measured" if result.value is None else f"{result.value:.2f}",
            passed=result.passed,
            bar=_clip(result.value or 0.0),
            tick=_clip(result.gate.maximum if result.gate.maximum < 1.0 else result.gate.minimum),
        )
        for result in results
    ]


@dataclass(frozen=True)
class ShownSample:
    title: str
    right: bool
    grade: str
    prompt: str
    generation: str
    answer: str


def pick_samples(results: Sequence[ItemResult]) -> list[ShownSample]:
    """Per score the first right and the first other answer, in the order they were evaluated."""
    first: dict[tuple[str, bool], ItemResult] = {}
    for one in results:
        name = parse(one.score)
        if not (name.variant or name.repeated or name.family == LOSS):
            first.setdefault((one.score, one.right), one)
    chosen = sorted(first.values(), key=lambda one: (order_key(one.score), not one.right))
    return [
        ShownSample(
            parse(one.score).title, one.right, grade_title(one), _shorten(one.prompt, keep_end=True),
            _shorten(one.generation), _shorten(one.wanted),
        )
        for one in chosen
    ]  # fmt: skip


def grade_title(one: ItemResult) -> str:
    """The grade as a reader is told it: of a mark its value."""
    return f"mark {one.value:.2f}" if one.grade is Grade.MEASURED else one.grade.value


def _groups(placed: Sequence[tuple[str, ScoreRow]], phases: Sequence[str]) -> list[ScoreGroup]:
    """`placed` pairs each row with the score whose line it stands in."""
    found = {(score, row.phase): row for score, row in placed}
    lines: dict[str, list[ScoreLine]] = {}
    for score, group in score_order(replace(row, score=score) for score, row in placed).items():
        cells = tuple(found.get((score, phase)) for phase in phases)
        chance = next((cell.chance for cell in cells if cell and cell.chance is not None), None)
        name = parse(score, group)
        title = name.mode.replace("_", " ") if name.family == LOSS else name.title
        notes = tuple(parse(cell.score).mode_title if cell and cell.score != score else "" for cell in cells)
        lines.setdefault(name.group, []).append(ScoreLine(title, chance, cells, notes))
    return [ScoreGroup(group, tuple(found)) for group, found in lines.items()]


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _shorten(written: str, keep_end: bool = False) -> str:
    text = visible(written)
    if len(text) <= _LONGEST_SHOWN:
        return text
    left_out = f" [{len(text) - _LONGEST_SHOWN} characters left out] "
    return f"{left_out}{text[-_LONGEST_SHOWN:]}" if keep_end else f"{text[:_LONGEST_SHOWN]}{left_out}"
