"""The four numbers a reader asks for first, each taken from the scores as it is.

A highlight is shown where its scores exist. Where one of several families is shown it is the one
with the largest difference, and the text says so; the tables below hold the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from k2model.recipe.schema import PhaseConfig
from k2model.reporting.figures_scores import extension_curves
from k2model.reporting.names import parse
from k2model.reporting.scores import ScoreRow

Rows = dict[tuple[str, str], ScoreRow]


@dataclass(frozen=True)
class Highlight:
    title: str
    numbers: tuple[tuple[str, float], ...]
    text: str


def highlights(rows: Sequence[ScoreRow], phases: Sequence[PhaseConfig]) -> list[Highlight]:
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
