"""The gates of a phase: what a checkpoint must reach before an alias moves to it."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from k2model.recipe.schema import GateConfig, PhaseConfig, PhaseKind
from k2model.registry.registration import GateVerdict, RegistryError

CHANCE = "chance"  # as a gate's `minus`: the chance level of its own score


def unpromoted(phases: Iterable[PhaseConfig], gates: Iterable[GateConfig]) -> str:
    """A sentence on the phases that could be promoted and never are, since they have no gate; "" without any."""
    gated = {gate.phase for gate in gates}
    names = [phase.name for phase in phases if phase.kind is PhaseKind.SFT and phase.name not in gated]
    if not names:
        return ""
    return f"No gate is declared on {', '.join(names)}: checkpoints are registered, but none is promoted to champion."


def judge(phase: str, gates: Iterable[GateConfig], scores: Sequence[Mapping[str, Any]]) -> tuple[GateVerdict, ...]:
    """The verdict of every gate of `phase` on the rows of its `scores.json`, in the recipe's order.

    Raises `RegistryError` when a gate names a score that the phase does not have.
    """
    values = {str(row["score"]): float(row["value"]) for row in scores if row["value"] is not None}
    chances = {str(row["score"]): float(row["chance"]) for row in scores if row.get("chance") is not None}
    return tuple(_judge(gate, values, chances) for gate in gates if gate.phase == phase)


def _judge(gate: GateConfig, values: Mapping[str, float], chances: Mapping[str, float]) -> GateVerdict:
    value = _value(gate, gate.score, values)
    if gate.minus == CHANCE:
        value -= _value(gate, gate.score, chances)
    elif gate.minus:
        value -= _value(gate, gate.minus, values)
    passed = gate.minimum <= value <= gate.maximum
    return GateVerdict(gate.phase, gate.score, gate.minus, value, gate.minimum, passed, gate.maximum)


def _value(gate: GateConfig, score: str, values: Mapping[str, float]) -> float:
    if score not in values:
        close = difflib.get_close_matches(score, values, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise RegistryError(
            f"a gate of phase '{gate.phase}' is on score '{score}', which the phase's scores.json does not have{hint} "
            f"It has: {', '.join(sorted(values)) or 'none'}. Correct recipe.gates; nothing needs to be trained again."
        )
    return values[score]
