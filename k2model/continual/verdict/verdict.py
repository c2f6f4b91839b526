"""What a comparison found, as it is written and told: `verdict.json`, and a sentence of what decided it."""

from dataclasses import asdict, dataclass
from typing import Any

from k2model.continual.state import Outcome
from k2model.continual.verdict.capabilities import BETTER, DIGITS, Row


@dataclass(frozen=True)
class Gate:
    """A gate of the recipe on the challenger; value: None where it was not measured, which is not passed."""

    name: str
    value: float | None
    minimum: float
    maximum: float
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """reason: a sentence with what decided it. unmeasured: targets that no score of the two is called by. training: a
    sentence on each phase of the challenger, over how much training its settings average the weights. annealed: the
    challenger is the champion annealed; lifecycle: it is a lifecycle's model. Of both nothing is asked but to be no
    worse."""

    outcome: Outcome
    reason: str
    champion: str
    challenger: str
    confidence: float
    rows: tuple[Row, ...]
    gates: tuple[Gate, ...]
    unmeasured: tuple[str, ...] = ()
    training: tuple[str, ...] = ()
    annealed: bool = False
    lifecycle: bool = False

    @property
    def no_worse_is_enough(self) -> bool:
        return self.annealed or self.lifecycle

    @property
    def targets(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.target)

    @property
    def failing(self) -> tuple[Row, ...]:
        """Rows that stand against a promotion."""
        return tuple(row for row in self.rows if row.decides and not row.passed)

    def to_dict(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("reason", "champion", "challenger", "confidence")}
        gates = [
            {**asdict(one), "value": None if one.value is None else round(one.value, DIGITS)} for one in self.gates
        ]
        rows = [row.to_dict() for row in self.rows]
        named: dict[str, Any] = {"unmeasured": [*self.unmeasured], "training": [*self.training]}
        named |= {name: True for name in ("annealed", "lifecycle") if getattr(self, name)}
        return {"outcome": self.outcome.value, **plain, **named, "gates": gates, "rows": rows}


def reason_of(found: Verdict) -> str:
    """What decided: every row and gate that stands against it, else where the challenger is better."""
    against = [f"{row.score} {told(row)}" for row in found.failing]
    against += [f"gate {gate.name} {_value(gate)}" for gate in found.gates if not gate.passed]
    better = [row for row in found.targets if row.outcome == BETTER]
    if not better and not found.no_worse_is_enough:
        best = min(found.targets, key=lambda row: row.p_better, default=None)
        shown = f"; nearest is {best.score}, {told(best)}, p = {best.p_targets:.2g}" if best else ""
        against.append(f"no target is shown to be better{shown if best else ', and none was measured'}")
    against += [f"target {name} was not measured" for name in found.unmeasured if against]
    if against:
        return "; ".join(against)
    no_worse = f"no worse on all {sum(row.decides for row in found.rows)} capabilities"
    if found.no_worse_is_enough:
        return no_worse
    return f"better: {'; '.join(f'{row.score} {told(row)}' for row in better)}; {no_worse}"


def told(row: Row) -> str:
    """A row in a few words: `0.812 → 0.703 (-10.9 points, at worst -16.1, allowed -5.0: worse)`."""
    unit = "points" if row.unit == "accuracy" else "%"
    bound = "" if row.bound is None else f", at worst {100 * row.bound:+.1f}"
    needed = f", about {row.needed:,} items would" if row.needed else ""
    return (
        f"{row.champion:.3f} → {row.challenger:.3f} ({100 * row.gain:+.1f} {unit}{bound}, allowed "
        f"{-100 * row.allowed:.1f}: {row.outcome}{needed})"
    )


def _value(gate: Gate) -> str:
    asked = f"at least {gate.minimum:g}" if gate.maximum >= 1.0 else f"{gate.minimum:g} to {gate.maximum:g}"
    return f"was not measured, {asked} is asked" if gate.value is None else f"has {gate.value:.3f}, {asked} is asked"
