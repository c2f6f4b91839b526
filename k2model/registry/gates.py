"""What a registration hands on: where a phase's checkpoint stands in MLflow and how its gates went.

The gates of a phase: what a checkpoint must reach before an alias moves to it.

The ledger of gate decisions: append-only, beside the artifacts, so that it outlives a tracking server.

MLflow's tags and aliases can be moved without a trace; here each decision is a file of its own that is
created once and never written again (object stores cannot append, and two writers cannot harm each
other).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from k2model.artifacts import fingerprint
from k2model.artifacts.files import files_at
from k2model.errors import K2Error, nearest
from k2model.evals.scores import ScoreRow
from k2model.recipe.schema import GateConfig, PhaseConfig, PhaseKind


class RegistryError(K2Error):
    """The tracking server cannot be used, or what is to be registered does not fit together."""


@dataclass(frozen=True)
class GateVerdict:
    """`value` is the score, or the difference `score` - `minus`; passed when it is within `minimum` and `maximum`."""

    phase: str
    score: str
    minus: str
    value: float
    minimum: float
    passed: bool
    maximum: float = 1.0

    @property
    def name(self) -> str:
        """`arithmetic/think - arithmetic/direct`."""
        return f"{self.score} - {self.minus}" if self.minus else self.score


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
    gates: tuple[GateVerdict, ...]
    tokens_seen: int
    passed: bool
    gates_so_far: int = 0
    promotion: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Registration":
        fields: dict[str, Any] = json.loads(text)
        gates = tuple(GateVerdict(**gate) for gate in fields.pop("gates"))
        return Registration(gates=gates, aliases=tuple(fields.pop("aliases")), **fields)


CHANCE = "chance"  # as a gate's `minus`: the chance level of its own score


def unpromoted(phases: Iterable[PhaseConfig], gates: Iterable[GateConfig]) -> str:
    """A sentence on the phases that could be promoted and never are, since they have no gate; "" without any."""
    gated = {gate.phase for gate in gates}
    names = [phase.name for phase in phases if phase.kind is PhaseKind.SFT and phase.name not in gated]
    if not names:
        return ""
    return f"No gate is declared on {', '.join(names)}: checkpoints are registered, but none is promoted to champion."


def judge(phase: str, gates: Iterable[GateConfig], scores: Sequence[ScoreRow]) -> tuple[GateVerdict, ...]:
    """The verdict of every gate of `phase` on the rows of its `scores.json`, in the recipe's order.

    Raises `RegistryError` when a gate names a score that the phase does not have.
    """
    values = {row.score: row.value for row in scores}
    chances = {row.score: row.chance for row in scores if row.chance is not None}
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
        raise RegistryError(
            f"a gate of phase '{gate.phase}' is on score '{score}', which the phase's scores.json does not have; "
            f"{nearest(score, sorted(values))}. Correct recipe.gates; nothing needs to be trained again."
        )
    return values[score]


FOLDER = "_gates"


def record_decision(store_uri: str, registration: Registration, checkpoint_digest: str) -> bool:
    """Append the verdicts of one registration; False when this very decision stands there already.

    Raises `k2model.artifacts.StoreWriteError` when the store takes no writes.
    """
    verdicts = [
        {"gate": v.name, "value": v.value, "minimum": v.minimum, "maximum": v.maximum, "passed": v.passed}
        for v in registration.gates
    ]
    decision = {
        "model": registration.model_name,
        "version": registration.version,
        "phase": registration.phase,
        "checkpoint": checkpoint_digest,
        "run_id": registration.run_id,
        "verdicts": verdicts,
        "passed_so_far": registration.passed if registration.gates_so_far else None,  # null: no gate was declared
        "promotion": registration.promotion,
        "aliases": list(registration.aliases),
    }
    # Aliases already held are no reason to decide again.
    name = f"v{registration.version:04d}-{fingerprint({**decision, 'aliases': []})[:16]}.json"
    stamped = {"decided_at": datetime.now(UTC).isoformat(timespec="milliseconds"), **decision}
    content = json.dumps(stamped, indent=1, ensure_ascii=False) + "\n"
    return files_at(store_uri).create(f"{FOLDER}/{registration.model_name}/{name}", content.encode())


def read_ledger(store_uri: str) -> list[dict[str, Any]]:
    """All decisions ever made on models of this store, oldest first."""
    files = files_at(store_uri)
    decisions = [json.loads(files.read(path)) for path in sorted(files.sizes(FOLDER)) if path.endswith(".json")]
    return sorted(decisions, key=lambda decision: str(decision["decided_at"]))
