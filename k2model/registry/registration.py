"""What a registration hands on: where a phase's checkpoint stands in MLflow and how its gates went."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from k2model.errors import K2Error


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
