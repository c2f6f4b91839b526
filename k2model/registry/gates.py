"""Gates: what a checkpoint must reach before an alias moves to it, how it did, and the log of all decisions.

MLflow's tags and aliases can be moved without a trace. So each decision is also a file in the store beside the
checkpoints, which is created once and never written again (object stores cannot append, and two writers cannot harm
each other): it outlives a tracking server.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

from k2model.artifacts import fingerprint
from k2model.artifacts.files import files_at
from k2model.artifacts.outside import read_typed
from k2model.errors import K2Error, nearest
from k2model.evals.scores import ScoreRow
from k2model.recipe.schema import GateConfig, PhaseConfig, PhaseKind
from k2model.recipe.tasks import CHANCE

FOLDER = "_gates"  # of a store: the decisions, by registered model


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
    initialisation. `passed` says that no gate failed, of the `gates_so_far` of this phase and of those it was trained
    from; `promotion` is "champion", or "none: " and why not.
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
        fields: dict[str, Any] = json.loads(text)
        gates = tuple(GateResult(GateConfig(**one["gate"]), one["value"]) for one in fields.pop("gates"))
        return Registration(gates=gates, aliases=tuple(fields.pop("aliases")), **fields)


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


def record_decision(store_uri: str, registration: Registration, checkpoint_digest: str) -> bool:
    """Log the gate results of one registration; False when this very decision stands there already.

    Raises `k2model.artifacts.StoreWriteError` when the store takes no writes.
    """
    results = [
        {"gate": g.name, "value": g.value, "minimum": g.gate.minimum, "maximum": g.gate.maximum, "passed": g.passed}
        for g in registration.gates
    ]
    decision = {
        "model": registration.model_name,
        "version": registration.version,
        "phase": registration.phase,
        "checkpoint": checkpoint_digest,
        "run_id": registration.run_id,
        "gates": results,
        "passed_so_far": registration.passed if registration.gates_so_far else None,  # null: no gate was declared
        "promotion": registration.promotion,
        "aliases": list(registration.aliases),
    }
    # Aliases already held are no reason to decide again.
    name = f"v{registration.version:04d}-{fingerprint({**decision, 'aliases': []})[:16]}.json"
    stamped = {"decided_at": datetime.now(UTC).isoformat(timespec="milliseconds"), **decision}
    content = json.dumps(stamped, indent=1, ensure_ascii=False) + "\n"
    return files_at(store_uri).create(f"{FOLDER}/{registration.model_name}/{name}", content.encode())


class _Decided(TypedDict):
    decided_at: str
    model: str
    version: int
    phase: str
    checkpoint: str
    promotion: str
    aliases: list[str]


def read_decisions(store_uri: str) -> list[dict[str, Any]]:
    """All decisions ever made on models of this store, oldest first."""
    files = files_at(store_uri)
    advice = "Delete it: the model's registration in MLflow is not affected, only what was decided then"
    paths = [path for path in sorted(files.sizes(FOLDER)) if path.endswith(".json")]
    decisions = [read_typed(_Decided, files, path, "a decision on a model", advice) for path in paths]
    return [dict(one) for one in sorted(decisions, key=lambda decision: decision["decided_at"])]
