"""Gates on scores: what a phase must reach, and how it did. What they decide is `k2model.promotion`."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from k2model.errors import K2Error, nearest
from k2model.evals.scores import ScoreRow
from k2model.plain import read_as
from k2model.recipe.schema import GateConfig, PhaseConfig, PhaseKind
from k2model.recipe.tasks import CHANCE


class RegistryError(K2Error):
    """The tracking server cannot be used, or what is to be registered does not fit together."""


@dataclass(frozen=True)
class GateResult:
    """A gate and what was measured: `value` is its score, or the difference `score` - `minus`, in the score's unit.

    None where a score that the gate names was not measured; it has not passed then.
    """

    gate: GateConfig
    value: float | None

    @property
    def passed(self) -> bool:
        return self.value is not None and self.gate.minimum <= self.value <= self.gate.maximum

    @property
    def name(self) -> str:
        """`arithmetic/think - arithmetic/direct`, as tags and logs name it."""
        return f"{self.gate.score} - {self.gate.minus}" if self.gate.minus else self.gate.score

    @property
    def title(self) -> str:
        """The same for a page, with the sign for minus."""
        return f"{self.gate.score} − {self.gate.minus}" if self.gate.minus else self.gate.score


@dataclass(frozen=True)
class Registration:
    """One phase in MLflow.

    `key` names what was registered (checkpoint and scores), `tracking_uri` the server, without its secrets,
    `model_id` the logged model, `aliases` those it was given when it was registered. `tokens_seen` counts from random
    initialisation. `passed` says that no gate on scores failed, of the `gates_so_far` of this phase and of those it was
    trained from; `promotion` is "champion", or "none: " and why not.
    """

    key: str
    phase: str
    tracking_uri: str
    run_id: str
    model_id: str
    model_name: str
    version: int
    aliases: tuple[str, ...]
    gates: tuple[GateResult, ...]
    tokens_seen: int
    passed: bool
    gates_so_far: int = 0
    promotion: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Registration":
        """Raises NotPlain for what `to_json` has not written."""
        return read_as(Registration, text.encode("utf-8", "surrogatepass"))


def gate_results(gates: Iterable[GateConfig], rows: Iterable[ScoreRow]) -> tuple[GateResult, ...]:
    """Every gate on the scores of its phase, in the order of `gates`."""
    measured = {(row.phase, row.score): row for row in rows}

    def value(gate: GateConfig) -> float | None:
        row, other = measured.get((gate.phase, gate.score)), measured.get((gate.phase, gate.minus))
        if row is None:
            return None
        if gate.minus == CHANCE:
            return None if row.chance is None else row.value - row.chance
        if gate.minus:
            return None if other is None else row.value - other.value
        return row.value

    return tuple(GateResult(gate, value(gate)) for gate in gates)


def judge(phase: str, gates: Iterable[GateConfig], rows: Sequence[ScoreRow]) -> tuple[GateResult, ...]:
    """The gates of `phase` on its `scores.json`. Raises RegistryError when one names a score that is not there."""
    results = gate_results((gate for gate in gates if gate.phase == phase), rows)
    for result in results:
        if result.value is None:
            raise _unmeasured(result.gate, rows)
    return results


def _unmeasured(gate: GateConfig, rows: Sequence[ScoreRow]) -> RegistryError:
    scores = sorted(row.score for row in rows)
    if gate.score in scores and gate.minus == CHANCE:
        lacking = f"the chance level of '{gate.score}', which its row in the phase's scores.json does not have"
    else:
        score = gate.minus if gate.score in scores else gate.score
        lacking = f"score '{score}', which the phase's scores.json does not have; {nearest(score, scores)}"
    return RegistryError(
        f"a gate of phase '{gate.phase}' is on {lacking}. Correct recipe.gates; nothing needs to be trained again."
    )


def unpromoted(phases: Iterable[PhaseConfig], gates: Iterable[GateConfig]) -> str:
    """A sentence on the phases that could be promoted and never are, since they have no gate; "" without any."""
    gated = {gate.phase for gate in gates}
    names = [phase.name for phase in phases if phase.kind is PhaseKind.SFT and phase.name not in gated]
    if not names:
        return ""
    return f"No gate is declared on {', '.join(names)}: checkpoints are registered, but none is promoted to champion."
